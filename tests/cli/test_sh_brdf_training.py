"""The three stages in one run, as users start it."""

import pytest
import torch

from tests.helpers.runs import checkpoint, command

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


def test_a_run_goes_through_all_stages_and_is_evaluated(runs):
    state = checkpoint(runs / "one")
    last = state["state_dict"]["network.diffuse_decoder.last.weight"]
    assert (last != 0).any()
    assert not any("basis" in name for name in state["state_dict"])
    done = command(
        "evaluate.py", f"ckpt={runs / 'one'}", "benchmark=ffhq_photometric",
        "benchmark.miniature_images=16", "device=cpu", runs=runs,
    )  # fmt: skip
    assert "picture, L1" in done.stdout
    assert "mean face" in done.stdout


@pytest.mark.ddp
def test_frozen_weights_do_not_stop_two_processes(runs):
    devices = ["trainer=ddp", "trainer.devices=2", "data.batch_size=1"]
    command("train.py", *SMALL, *devices, "name=two", runs=runs)
    one, two = checkpoint(runs / "one")["state_dict"], checkpoint(runs / "two")["state_dict"]
    assert one.keys() == two.keys()
    weight = "network.diffuse_decoder.last.weight"
    assert torch.isfinite(two[weight]).all()
    assert (two[weight] != 0).any()
