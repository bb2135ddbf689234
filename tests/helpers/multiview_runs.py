"""Runs of the multi-view methods that have seen a few steps of the tiny miniature: seconds."""

import shutil
from pathlib import Path

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config
from tests.helpers.facescape import raw_copy

_SHORT = [
    "data.miniature=tiny",
    "data.workers=0",
    "data.batch_size=1",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "~callbacks.panels",
]
_IMPLICIT = [
    "method.implicit.planes=21",
    "method.implicit.interval=0.8",
    "method.implicit.crop=null",
    "method.implicit.network.width=8",
    "method.implicit.network.channels=16",
    "method.implicit.network.hidden=[16]",
    "method.implicit.network.groups=8",
]
SUBJECT = "331/1_neutral"  # held out


def _train(folder: Path, *overrides: str) -> Path:
    config = compose_config("train", [*_SHORT, *overrides])
    config.paths.run = str(folder)
    run_task("lit_face.cli.training", config, folder)
    return folder


def implicit_run(folder: Path) -> Path:
    """Train uv_implicit for two steps."""
    return _train(folder, "method=uv_implicit", "method.points=200", *_IMPLICIT)


def regularized_run(folder: Path, implicit: Path) -> Path:
    """Train uv_regularize for a step on the volumes of a run of `implicit_run`."""
    options = [f"method.implicit.weights={implicit}", "method.network.channels=1"]
    options += [f"method.cache={folder.parent / 'volumes'}"]
    return _train(folder, "method=uv_regularize", *_IMPLICIT, *options)


def displacement_run(folder: Path) -> Path:
    """Train displacement for two steps."""
    network = ["width=4", "downs=2", "blocks=1"]
    options = [f"method.network.{option}" for option in network]
    options += ["data.image_size=64", "data.crop=32"]
    return _train(folder, "method=displacement", *options)


def own_capture(target: Path, *without: str) -> Path:
    """Copy a subject's photos and cameras out of FaceScape's folders: no scale, no scan.

    Args:
        target: new folder.
        without: names of files to leave out.
    """
    raw = raw_copy(target.with_name(target.name + "-raw"))
    shutil.copytree(raw / "imgs" / SUBJECT, target, ignore=shutil.ignore_patterns(*without))
    shutil.rmtree(raw)
    return target
