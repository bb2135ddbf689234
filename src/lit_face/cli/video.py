"""The reconstruction task for a video or for the frames of a camera."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lit_face.cli.start import user_errors
from lit_face.config import instantiate


def is_for_video(config: dict[str, Any]) -> bool:
    """Whether `input=` is a video, or a folder that `fps=` makes one."""
    from lit_face.inference.frames import is_video

    return config["fps"] is not None or is_video(config["input"])


def run_video(config: dict[str, Any], folder: Path, model: Any) -> None:
    """Reconstruct a video as the plain config says; exit with 1 if there was a problem."""
    from lit_face.inference.video import TABLE, reconstruct_video

    with user_errors():
        trusted = tuple(config.get("trusted_modules") or ())
        smoothing = config["smoothing"]
        chosen = None if smoothing is None else instantiate(smoothing, trusted_modules=trusted)
        with _Bar() as bar:
            result = reconstruct_video(
                model,
                config["input"],
                folder,
                chosen,
                smooth=chosen is not None,
                rate=config["fps"],
                max_faces=config["max_faces"],
                report=bar.report,
            )
    for problem in result.problems:
        sys.stderr.write(f"{problem}\n")
    sys.stdout.write(
        f"{result.with_face} of {result.frames} frames with a face, {result.people} followed: "
        f"{folder / TABLE}\n"
    )
    if result.problems:
        sys.exit(1)


class _Bar:
    """A progress bar on the terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("frames", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def report(self, done: int, expected: int) -> None:
        """Show how many frames are done."""
        self._bar.update(self._task, completed=done, total=expected or None)
