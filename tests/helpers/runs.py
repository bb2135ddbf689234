"""Tiny trainings for tests: synthetic faces, a toy network, seconds on one core."""

import os
import subprocess
import sys
from pathlib import Path

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


def command(script, *arguments, runs, check=True, **environment):
    """Run train.py or evaluate.py as a user does."""
    done = subprocess.run(
        [sys.executable, str(REPO / script), *arguments],
        capture_output=True,
        text=True,
        cwd=runs,
        env={**os.environ, "LIT_FACE_RUNS": str(runs), "OMP_NUM_THREADS": "1", **environment},
        check=False,
        timeout=400,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def checkpoint(folder, name="last"):
    """Read a run's checkpoint as plain data."""
    return torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)
