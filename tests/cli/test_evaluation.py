import csv
import json

import numpy as np
import pytest

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config
from tests.helpers.runs import train_here

KEYS = [
    "nme_2d_sparse",
    "nme_3d_sparse",
    "nme_2d_dense",
    "nme_3d_dense",
    "nme_reconstruction",
    "pose_mae_deg",
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A toy training, evaluated with every logger; wandb offline."""
    folder = tmp_path_factory.mktemp("evaluated")
    train_here(folder / "run", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    wandb = ["logger=[wandb,tensorboard]", "logger.wandb.offline=true"]
    config = compose_config("evaluate", [f"ckpt={folder / 'run'}", *wandb, "device=cpu"])
    config.paths.run = str(folder / "report")
    (folder / "report").mkdir()
    headline = run_task("lit_face.cli.evaluation", config, folder / "report")
    return folder / "report", headline


def test_every_number_stands_beside_the_mean_face(evaluated):
    folder, headline = evaluated
    metrics = json.loads((folder / "metrics.json").read_text())
    for key in KEYS:
        assert np.isfinite(metrics[f"aflw2000/{key}"])
        assert np.isfinite(metrics[f"aflw2000/mean_face/{key}"])
    assert headline == metrics["aflw2000/nme_2d_sparse"]
    assert metrics["aflw2000/images"] == 24
    bins = [metrics[f"aflw2000/nme_2d_sparse_{b}"] for b in ("0_30", "30_60", "60_90")]
    assert metrics["aflw2000/nme_2d_sparse"] == pytest.approx(np.mean(bins))
    assert metrics["aflw2000/mean_face/nme_2d_sparse"] > 10


def test_per_image_values_give_the_summary(evaluated):
    folder, _ = evaluated
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "samples.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    dense = np.mean([float(row["nme_3d_dense"]) for row in rows])
    assert dense == pytest.approx(metrics["aflw2000/nme_3d_dense"], rel=1e-6)


def test_the_page_is_self_contained(evaluated):
    folder, _ = evaluated
    page = (folder / "report.html").read_text()
    assert "built-in miniature" in page
    assert "mean face" in page
    assert page.count("data:image/png;base64,") == 2  # curves
    assert page.count("data:image/jpeg;base64,") == 2  # best and worst faces
    assert "http" not in page.split("<details>")[0]


def test_loggers_have_it(evaluated):
    folder, _ = evaluated
    assert list(folder.glob("csv/version_0/metrics.csv"))
    assert list(folder.glob("tensorboard/**/events.out.tfevents.*"))
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert list(folder.glob("wandb/offline-run-*/files/media/html/report*.html"))
    assert list(folder.glob("wandb/offline-run-*/files/media/table/samples*.json"))
