"""The mesh refiner from training to use: resume inside adversarial training, export."""

import pytest
import torch

import lit_face
from lit_face.cli.start import run_task
from lit_face.cli.training import config_from
from lit_face.config.composition import compose_config
from tests.helpers.faces import faces
from tests.helpers.runs import checkpoint
from tests.helpers.tolerances import assert_close

TINY = [
    "method=gcn",
    "data.image_size=32",
    "data.batch_size=4",
    "data.miniature_images=24",
    "data.workers=0",
    "method.coarse.network.backbone=resnet18",
    "method.coarse.network.weights=null",
    "method.coarse.image_size=32",
    "method.coarse.map_size=32",
    "method.weights.adversarial=1e-3",
    "method.critic_steps=2",
    "method.ramp_epochs=0.5",
    "callbacks=[default,step_checkpoint]",
    "callbacks.step_checkpoint.every_n_train_steps=1",
    "callbacks.panels.faces=2",
    "trainer.limit_val_batches=1",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
]


def train(folder, *overrides):
    config = compose_config("train", [*TINY, *overrides])
    config.paths.run = str(folder)
    return run_task("lit_face.cli.training", config, folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder)
    return folder


def test_both_learn_and_both_rates_fall_once_an_epoch(whole):
    state = checkpoint(whole)
    generator, critic = state["optimizer_states"]
    steps = [{int(v["step"]) for v in one["state"].values()} for one in (generator, critic)]
    # The first batch is before the photo counts; then the critic sees 7, the generator 4 of them.
    assert steps == [{5}, {7}]
    assert state["global_step"] == 5
    for optimizer in (generator, critic):
        assert optimizer["param_groups"][0]["lr"] == pytest.approx(1e-4 * 0.98)


def test_resume_inside_adversarial_training_equals_the_uninterrupted_run(whole, tmp_path):
    """Stopped twice: in the middle of an epoch and at its last batch."""
    folder = tmp_path / "stopped"
    train(folder, "trainer.max_steps=2")
    for stopped, following in ((2, 3), (3, -1)):
        assert checkpoint(folder, "step")["global_step"] == stopped
        arguments = [
            f"resume={folder / 'checkpoints' / 'step.ckpt'}", f"trainer.max_steps={following}"
        ]  # fmt: skip
        config, home = config_from(arguments)
        run_task("lit_face.cli.training", config, home)
    ours, theirs = checkpoint(folder), checkpoint(whole)
    assert ours["global_step"] == theirs["global_step"]
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name
    for mine, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        for key, values in other["state"].items():
            for name, value in values.items():
                assert torch.equal(mine["state"][key][name], value), (key, name)


def test_a_run_and_its_portable_folder_reconstruct_alike(whole, tmp_path):
    photo = (255 * faces(1, size=96, yaw_deg=0.0).image[0]).byte().permute(1, 2, 0).numpy()
    run_task(
        "lit_face.cli.export",
        compose_config("export", [f"ckpt={whole}", f"out={tmp_path / 'folder'}"]),
        tmp_path,
    )
    box = [[18.0, 18.0, 78.0, 78.0]]
    found, again = (
        lit_face.load(path, device="cpu").reconstruct(photo, boxes=[box])[0][0].reconstruction
        for path in (whole, tmp_path / "folder")
    )
    for name in ("albedo", "coarse_albedo"):
        assert_close(found.vertex_colors[name], again.vertex_colors[name])
    assert_close(found.image_vertices, again.image_vertices, atol=1e-3)
