import json
import os
import platform
import random
import time

import pytest
import torch

from lit_face.cli.launch import with_strategy
from lit_face.cli.training import config_from
from lit_face.config.composition import compose_config
from lit_face.inference.loading import load_method
from lit_face.io.checkpoints import find_checkpoint, load_weights, read_checkpoint
from tests.helpers.faces import faces
from tests.helpers.runs import (
    TINY,
    checkpoint,
    command,
    forked,
    forked_ranks,  # noqa: F401
    train_here,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train_here(folder, "callbacks=[default,ema]")
    return folder


def test_a_run_explains_itself(run):
    environment = json.loads((run / "environment.json").read_text())
    assert environment["python"] == platform.python_version()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["step"] == 8
    assert 0 < metrics["val/nme"] < 200
    assert "image_size: 32" in (run / "config.yaml").read_text()
    assert "Finished after 8 steps" in (run / "train.log").read_text()
    assert len(list((run / "pictures").glob("*.jpg"))) == 2
    assert (run.parent / "latest").resolve() == run.resolve()
    assert next(run.glob("csv/version_0/metrics.csv")).stat().st_size > 0


def test_a_checkpoint_is_enough_to_use_the_method(run):
    method, config = load_method(find_checkpoint(run, prefer="best"))
    assert config["method"]["network"]["width"] == 4
    stored = checkpoint(run, "best")
    for name, value in method.state_dict().items():
        assert torch.equal(value, stored["state_dict"][name])
    assert not any("basis" in name or "faces" in name for name in stored["state_dict"])
    result = method.eval().predict_step(faces(2, size=32))
    assert torch.isfinite(result.vertices).all()


def test_resumed_equals_uninterrupted_after_sigkill(run, tmp_path):
    """Killed at a random step, resumed: the same weights, EMA included, bit for bit."""
    killed = tmp_path / "killed"
    arguments = [
        *TINY, "name=killed", "callbacks=[default,ema,step_checkpoint]",
        "callbacks.step_checkpoint.every_n_train_steps=1",
    ]  # fmt: skip
    process = forked(command, "train.py", *arguments, runs=tmp_path)
    deadline = time.monotonic() + 200
    while not (killed / "checkpoints" / "step.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(random.Random(os.getpid()).uniform(0, 0.8))
    process.kill()
    process.join()
    stopped = find_checkpoint(killed)
    assert torch.load(stopped, weights_only=True)["global_step"] <= 8
    command("train.py", f"resume={killed}", runs=tmp_path)
    ours, whole = checkpoint(killed), checkpoint(run)
    assert ours["global_step"] == whole["global_step"] == 8
    for part in ("state_dict", "current_model_state"):
        for name, value in whole[part].items():
            assert torch.equal(ours[part][name], value), f"{part} {name}"


@pytest.mark.ddp
def test_two_processes_equal_one_with_the_double_batch(tmp_path):
    steps = ["trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    train_here(tmp_path / "one", *steps, "data.batch_size=8")
    two = ["trainer=ddp", "trainer.devices=2", "data.batch_size=4", "trainer.accelerator=cpu"]
    command("train.py", *TINY, *steps, *two, "name=two", runs=tmp_path)
    losses = []
    for name in ("one", "two"):
        rows = next((tmp_path / name).glob("csv/version_0/metrics.csv")).read_text().splitlines()
        column = rows[0].split(",").index("train/loss")
        losses.append([float(v) for row in rows[1:] if (v := row.split(",")[column])])
    assert len(losses[0]) == len(losses[1]) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    differences = torch.cat(
        [
            (two["state_dict"][name] - value).abs().flatten()
            for name, value in one["state_dict"].items()
        ]
    )
    # Adam makes a whole step, of either sign, for the odd gradient that is nothing but rounding.
    assert (differences > 2e-3).float().mean() < 1e-4
    assert differences.max() < 2 * 2 * 2e-3  # two steps of the learning rate, apart


@pytest.mark.ddp
@pytest.mark.usefixtures("forked_ranks")
def test_ranks_of_a_random_sweep_train_the_same_job(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = [
        *TINY, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
        "trainer.max_epochs=1", "trainer.limit_train_batches=1", "sweep=lr",
        "hydra.sweeper.n_trials=2", "name=random",
    ]  # fmt: skip
    command("train.py", "-m", *arguments, runs=tmp_path)
    rates = []
    for number in range(2):
        folder = tmp_path / "sweep-random" / str(number)
        stored = checkpoint(folder)
        rates.append(stored["lit_face"]["config"]["method"]["optimizer"]["lr"])
        assert stored["global_step"] == 1
        assert len(list(folder.glob("csv/*/metrics.csv"))) == 1
    assert rates[0] != rates[1]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "latest") == ["sweep-random"]


def test_resume_names_what_is_wrong(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        config_from([f"resume={tmp_path / 'nothing'}"])
    with pytest.raises(ValueError, match=r"did you mean 'trainer\.max_epochs'"):
        config_from([f"resume={run}", "trainer.max_epoch=3"])
    with pytest.raises(ValueError, match="the stored run fixes its groups"):
        config_from([f"resume={run}", "method=prn"])
    config, folder = config_from([f"resume={run}", "trainer.max_epochs=3"])
    assert config["trainer"]["max_epochs"] == 3
    assert folder == run.resolve()


def test_cut_and_foreign_checkpoints(run, tmp_path):
    content = (run / "checkpoints" / "best.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_checkpoint(cut)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(ValueError, match="not written by lit_face"):
        read_checkpoint(foreign)
    method, _ = load_method(run / "checkpoints" / "best.ckpt")
    state = dict(method.state_dict())
    state["decoder.other"] = state.pop(next(iter(state)))
    with pytest.raises(ValueError, match="from another method"):
        load_weights(method, state, foreign)


def test_devices_alone_choose_ddp(monkeypatch):
    """`trainer.devices=4` without `trainer=ddp` gets the same strategy and synchronised layers."""
    config = compose_config("train", TINY)
    assert with_strategy(config.trainer)["strategy"] == "auto"
    monkeypatch.setenv("WORLD_SIZE", "4")
    chosen = with_strategy(config.trainer)
    explicit = compose_config("train", [*TINY, "trainer=ddp"]).trainer
    assert chosen["strategy"] == explicit.strategy
    assert chosen["plugins"] == explicit.plugins
    assert with_strategy({"strategy": "fsdp"})["strategy"] == "fsdp"
