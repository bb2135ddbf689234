"""From a training to the two portable forms, by the command that users type."""

import pytest
import torch

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config
from lit_face.inference.loading import load_predictor
from tests.helpers.runs import train_here


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_here(folder, "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    return folder


def export(folder, **options):
    config = compose_config("export", [f"{key}={value}" for key, value in options.items()])
    config.paths.run = str(folder / "export")
    run_task("lit_face.cli.export", config, folder / "export")


@torch.no_grad()
def test_checkpoint_folder_and_onnx_give_the_same_faces(trained, tmp_path, capsys):
    (tmp_path / "licence.txt").write_text("Some licence\n")
    export(
        tmp_path, ckpt=trained, out=tmp_path / "a", licence="CC", notice=tmp_path / "licence.txt"
    )
    export(tmp_path, ckpt=tmp_path / "a", out=tmp_path / "a.onnx")
    assert "python reconstruct.py" in capsys.readouterr().out
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = load_predictor(trained)(image)
    for path in ("a", "a.onnx"):
        predictor = load_predictor(tmp_path / path)
        difference = (predictor(image).landmarks - expected.landmarks).abs().max()
        assert difference <= (0 if path == "a" else 1e-3)
        record = predictor.record
        assert record["licence"] == "CC"
        assert "val/nme" in record["metrics"]
        assert record["data"]["_target_"].startswith("datamodules.")
        assert str(tmp_path) not in str(record)
        assert "/" not in record["checkpoint"]
    assert (tmp_path / "a" / "NOTICE.txt").read_text() == "Some licence\n"


def test_errors_are_one_line(trained, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "model.onnx").touch()
    for options, words in (
        ({"ckpt": trained, "out": tmp_path / "full"}, "exists already"),
        ({"ckpt": tmp_path / "none", "out": tmp_path / "x"}, "does not exist"),
        ({"ckpt": tmp_path / "model.onnx", "out": tmp_path / "x"}, "is an export already"),
    ):
        with pytest.raises(SystemExit):
            export(tmp_path, **options)
        assert words in capsys.readouterr().err
