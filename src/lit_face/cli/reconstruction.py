"""The reconstruction task: photos in, meshes and pictures out."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from lit_face.cli.start import user_errors
from lit_face.cli.video import is_for_video, run_video
from lit_face.config import instantiate

# What changes where, how fast and on what a run goes, but not its results.
_IRRELEVANT = (
    "ckpt",
    "input",
    "out",
    "device",
    "batch_size",
    "workers",
    "paths",
    "compile_network",
    "fps",
    "smoothing",
)


def config_from(overrides: Sequence[str]) -> None:
    """Nothing: the config is composed; the checkpoint brings only its method's."""
    return


def run(config: dict[str, Any], folder: Path) -> None:
    """Reconstruct as the plain config says; exit with 1 if a photo had a problem."""
    if is_for_video(config):
        with user_errors():
            is_fit = config["init"] != "network" or config.get("method") is not None
            if config["refine"] or is_fit or config["shared_identity"]:
                raise ValueError(
                    "refine, init=landmarks, shared_identity and methods that fit are for photos, "
                    "not for videos."
                )
            model = _load(config)
        run_video(config, folder, model)
        return
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # we say it ourselves
    with user_errors():
        check_start(config)
        from lit_face.inference.folder import FolderRun, RunSettings
        from lit_face.inference.inputs import find_photos
        from lit_face.inference.outputs import ExportSettings, check_outputs

        outputs = check_outputs(config["outputs"])
        export = ExportSettings(
            config["pose"], config["mesh_color"], config["texture_size"], config["blank_invisible"]
        )
        together = bool(config["shared_identity"])
        faces = 1 if together else config["max_faces"]
        run_settings = RunSettings(
            outputs, export, "", faces, config["batch_size"], config["workers"], together
        )
        photos = find_photos(config["input"], folder)
        model = _load(config)
        settings = replace(run_settings, settings=_digest(config, model.finder))
    try:
        with _Display(len(photos)) as display:
            if hasattr(model.predictor, "watch"):  # of methods that fit
                model.predictor.watch = display.losses
            result = FolderRun(model, photos, folder, settings, display.report).run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; the same command goes on where this one stopped.\n")
        sys.exit(130)
    faces = sum(len(rows) for rows in result.rows.values())
    done = f", {len(result.done_before)} of them done before" * bool(result.done_before)
    problems = f"; {len(result.problems)} with a problem" * bool(result.problems)
    sys.stdout.write(
        f"{len(result.rows)} of {len(photos)} photos{done}, {faces} faces{problems}: "
        f"{folder / 'summary.csv'}\n"
    )
    if result.problems:
        sys.exit(1)


def _load(config: dict[str, Any]) -> Any:
    from lit_face.inference.model import FaceModel

    trusted = tuple(config.get("trusted_modules") or ())
    finder = instantiate(config["finder"], trusted_modules=trusted)
    refinement = None
    if config["refine"] or config["init"] == "landmarks":
        refinement = instantiate(
            {**config["refinement"], "steps": config["refine"]}, trusted_modules=trusted
        )
    return FaceModel(
        _predictor(config, trusted),
        finder,
        config["device"],
        config["passes"],
        config["precision"],
        config["compile_network"],
        refinement,
    )


def check_start(config: Mapping[str, Any]) -> None:
    """Check the options that say what is optimised, and from where.

    Raises:
        ValueError: which option, and what it may be.
    """
    if config.get("method") is not None:
        for name, usual in (("init", "network"), ("refine", 0), ("shared_identity", False)):
            if config[name] != usual:
                raise ValueError(
                    f"{name}={config[name]} is for networks and for init=landmarks; a method that "
                    "fits photos has its own options, method.NAME=VALUE."
                )
        return
    if config["init"] not in ("network", "landmarks"):
        raise ValueError(f"init should be network or landmarks, found {config['init']!r}.")
    steps = config["refine"]
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ValueError(f"refine should be a whole number of steps, 0 or more; found {steps!r}.")
    if config["shared_identity"] and not steps:
        raise ValueError("shared_identity=true is found by refinement: give refine=200, say.")


def _predictor(config: Mapping[str, Any], trusted: tuple[str, ...]) -> Any:
    from lit_face.inference.loading import load_predictor

    if config.get("method") is None and config["init"] == "network":
        return load_predictor(config["ckpt"], trusted)
    model = instantiate(config["morphable_model"], trusted_modules=trusted)
    if config.get("method") is not None:
        return fitting_method(config["method"], model, trusted)
    return instantiate(config["landmark_start"], trusted_modules=trusted, morphable_model=model)


def fitting_method(node: Mapping[str, Any], model: Any, trusted: tuple[str, ...]) -> Any:
    """Build a method that fits photos and has nothing to train.

    Raises:
        ValueError: the method is one that is trained.
    """
    method = instantiate(node, trusted_modules=trusted, morphable_model=model)
    if not getattr(method, "starts_from_landmarks", False):
        raise ValueError(
            f"method: {type(method).__name__} is trained before it is used; give ckpt=RUN, which "
            "brings its method."
        )
    return method


def _digest(config: dict[str, Any], finder: Any) -> str:
    """Return the fingerprint of all that changes results, the model's file among it."""
    from lit_face.inference.loading import weights_of
    from lit_face.inference.records import digest_of_path, digest_of_settings

    relevant = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    if config.get("method") is None and config["init"] == "network":
        relevant["model"] = digest_of_path(weights_of(config["ckpt"]))
    sources = getattr(finder, "sources", [])  # of finders that read files
    relevant["finder_sources"] = [digest_of_path(source) for source in sources]
    return digest_of_settings(relevant)


class _Display:
    """A progress bar on the terminal; problems are lines above it, and on stderr."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        losses = TextColumn("{task.fields[losses]}", markup=False)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), losses)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("photos", total=total, losses="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def losses(self, step: int, terms: Mapping[str, float]) -> None:
        """Show the losses of the photos that are fitted now, their means."""
        if not self._bar.disable:
            values = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
            self._bar.update(self._task, losses=f"step {step}  {values}")

    def report(self, photo: Any, problem: Any) -> None:
        """Count a photo; write its problem, if it has one, in a line."""
        self._bar.advance(self._task)
        if problem is not None:
            line = f"{problem.photo}: {problem.message}"
            if self._bar.disable:
                sys.stderr.write(f"{line}\n")
            else:
                self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
