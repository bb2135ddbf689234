"""Tiny trainings for tests: synthetic faces, a toy network, seconds on one core.

A new interpreter imports for longer than a tiny training takes. So scripts run in this process, or
in a fork of it where it is to be killed or to be one of several; one test of each kind keeps the
real thing: tests/docs/test_examples.py starts `python train.py`, tests/cli/test_reconstruct.py
`python reconstruct.py` and tests/cli/test_training.py torch's launcher.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config

REPO = Path(__file__).resolve().parents[2]
TINY = [
    "data=synthetic",
    "data.image_size=32",
    "data.renderer.picture_size=64",
    "data.batch_size=4",
    "data.train_size=16",
    "data.val_size=4",
    "method.network.width=4",
    "method.network.depth=3",
    "method.network.uv_size=16",
    "callbacks.panels.faces=2",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
]


def train_here(folder, *overrides):
    """Train in this process into `folder`; return the monitored metric."""
    config = compose_config("train", [*TINY, *overrides])
    config.paths.run = str(folder)
    return run_task("lit_face.cli.training", config, Path(folder))


def command(script, *arguments, runs):
    """Run train.py, evaluate.py or another script with a user's arguments, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(REPO / script), *map(str, arguments)])
        patch.setenv("LIT_FACE_RUNS", str(runs))
        patch.chdir(runs)
        runpy.run_path(str(REPO / script), run_name="__main__")


def forked(function, *arguments, **options):
    """Start `function` in a fork of this process, which may be killed."""
    process = multiprocessing.get_context("fork").Process(
        target=function, args=arguments, kwargs=options
    )
    process.start()
    return process


@pytest.fixture
def forked_ranks(monkeypatch):
    """Let the ranks of a training be forks instead of torch's launcher starting interpreters."""

    def launch(words, env, check):
        assert words[1:4] == ["-m", "torch.distributed.run", "--standalone"]
        count, module, folder = int(words[5]), words[7], words[8]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {**env, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env["TORCHELASTIC_RUN_ID"] = "forked"  # as torch's launcher names a run
        ranks = [forked(_rank, number, count, module, folder, env) for number in range(count)]
        while running := [rank.sentinel for rank in ranks if rank.is_alive()]:
            wait(running)
            if any(rank.exitcode for rank in ranks):  # the others would wait for it
                for rank in ranks:
                    rank.kill()
        return subprocess.CompletedProcess(words, max(abs(rank.exitcode) for rank in ranks))

    monkeypatch.setattr("lit_face.cli.launch.subprocess", SimpleNamespace(run=launch))


def _rank(number, count, module, folder, environment):
    mine = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({**environment, **{name: str(value) for name, value in mine.items()}})
    sys.argv = [module, folder]
    runpy.run_module(module, run_name="__main__")


def checkpoint(folder, name="last"):
    """Read a run's checkpoint as plain data."""
    return torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)
