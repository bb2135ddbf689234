"""The three stages in one run, as users start it."""

import sys

import numpy as np
import pytest
import torch

from lit_face import cli
from lit_face.inference.loading import load_predictor
from tests.cli.test_export import export
from tests.helpers.lit_photos import lit_photos, write_lit_photos
from tests.helpers.runs import checkpoint, command, forked_ranks  # noqa: F401

STAGES = [
    f"method.stages.{name}.epochs={epochs}"
    for name, epochs in (("coarse", 1), ("residual", 1), ("joint", 1))
]
SMALL = [
    "method=sh_brdf",
    "data.miniature_images=16",
    "data.image_size=32",
    "data.batch_size=2",
    "data.workers=0",
    "method.network.backbone=resnet18",
    "method.network.map_size=16",
    "method.network.decoder_width=16",
    "method.network.bands=3",
    "trainer.limit_train_batches=1",
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    *STAGES,
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sh_brdf")
    command("train.py", *SMALL, "name=one", runs=folder)
    return folder


def test_a_run_goes_through_all_stages_and_is_evaluated(runs, capfd):
    state = checkpoint(runs / "one")
    last = state["state_dict"]["network.diffuse_decoder.last.weight"]
    assert (last != 0).any()
    assert not any("basis" in name for name in state["state_dict"])
    command(
        "evaluate.py", f"ckpt={runs / 'one'}", "benchmark=ffhq_photometric",
        "benchmark.miniature_images=16", "device=cpu", runs=runs,
    )  # fmt: skip
    printed = capfd.readouterr().out
    assert "picture, L1" in printed
    assert "mean face" in printed


@torch.no_grad()
def test_a_run_becomes_a_portable_folder(runs, tmp_path, capsys):
    export(tmp_path, ckpt=runs / "one", out=tmp_path / "model")
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found, expected = (load_predictor(path)(image) for path in (tmp_path / "model", runs / "one"))
    assert torch.equal(found.image_vertices, expected.image_vertices)
    assert torch.equal(found.light, expected.light)
    assert all(torch.equal(found.textures[name], v) for name, v in expected.textures.items())
    with pytest.raises(SystemExit):
        export(tmp_path, ckpt=runs / "one", out=tmp_path / "model.onnx")
    assert "SHBRDFPredictor cannot be exported to ONNX" in capsys.readouterr().err


def test_a_run_is_used_and_refined_on_photos(runs, tmp_path, monkeypatch):
    table = write_lit_photos(tmp_path / "photos", ["a.png"], *lit_photos(1, size=100))
    arguments = [
        f"ckpt={runs / 'one'}", f"input={tmp_path / 'photos'}", f"out={tmp_path / 'out'}",
        "finder=file", f"finder.path={table}", "device=cpu", "refine=2",
        "outputs=[glb,maps,light,strip]",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["reconstruct.py", *arguments])
    cli.reconstruct()
    assert (tmp_path / "out" / "a" / "strip.jpg").is_file()
    light = np.load(tmp_path / "out" / "a" / "light.npz")["coefficients"]
    assert light.shape == (9, 3)


@pytest.mark.ddp
@pytest.mark.usefixtures("forked_ranks")
def test_frozen_weights_do_not_stop_two_processes(runs):
    devices = ["trainer=ddp", "trainer.devices=2", "data.batch_size=1"]
    command("train.py", *SMALL, *devices, "name=two", runs=runs)
    one, two = checkpoint(runs / "one")["state_dict"], checkpoint(runs / "two")["state_dict"]
    assert one.keys() == two.keys()
    weight = "network.diffuse_decoder.last.weight"
    assert torch.isfinite(two[weight]).all()
    assert (two[weight] != 0).any()
