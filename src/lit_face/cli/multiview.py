"""The multi-view task: one subject's calibrated photos in, a mesh with relief out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_face.cli.start import user_errors
from lit_face.config import instantiate
from lit_face.config.run_folder import write_metrics

if TYPE_CHECKING:
    from lit_face.inference.finders.base import FaceFinder


def config_from(overrides: Sequence[str]) -> None:
    """Nothing: the config is composed; checkpoints bring only their methods'."""
    return


def run(config: dict[str, Any], folder: Path) -> None:
    """Reconstruct a subject as the plain config says and write the report into `folder`."""
    trusted = tuple(config.get("trusted_modules") or ())
    with user_errors():
        from lit_face.inference.multiview.chain import ChainOptions, MultiviewChain
        from lit_face.inference.multiview.subject import find_subject
        from lit_face.inference.multiview.subject_run import SubjectRun

        subject = find_subject(config["input"], config["scan"], config["scale"])
        chain = MultiviewChain.load(
            config["ckpt"],
            config["displacement"],
            instantiate(config["morphable_model"], trusted_modules=trusted),
            ChainOptions(
                views=config["views"],
                long_side=config["long_side"],
                memory=config["memory"],
                texture_size=config["texture_size"],
                subdivisions=config["subdivisions"],
                disagreement=config["disagreement"],
                device=config["device"],
            ),
            trusted,
        )
        if not subject.has_landmarks:
            chain.finder = _finder(config["finder"], subject.folder, trusted)
    from lit_face.reporting.multiview import multiview_result
    from lit_face.reporting.page import table_text, write_report

    try:
        with user_errors(), _Display() as display:
            found = SubjectRun(chain, subject, folder, display.report).run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; the same command goes on where this one stopped.\n")
        sys.exit(130)
    result = multiview_result(found, config["disagreement"])
    facts = [str(subject.folder), str(date.today()), f"device {config['device']}"]
    page = write_report(result, folder, facts, {"reconstruction": config})
    write_metrics(folder, result.metrics)
    sys.stdout.write("\n\n".join(table_text(table) for table in result.tables))
    sys.stdout.write("".join(f"\n\n{note}" for note in result.notes) + f"\n\nReport: {page}\n")


def _finder(config: dict[str, Any], folder: Path, trusted: tuple[str, ...]) -> FaceFinder:
    """Make the finder of the landmarks that a subject's folder lacks."""
    from lit_face.inference.multiview.landmarks import landmark_finder

    try:
        return landmark_finder(instantiate(config, trusted_modules=trusted))
    except (ValueError, ImportError) as error:
        raise type(error)(f"{folder} has no landmarks.json, and {error}") from error


class _Display:
    """A progress bar a stage on a terminal; elsewhere a line when it ends."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        name = TextColumn("{task.description:12}")
        state = TextColumn("{task.fields[state]}", markup=False)
        self._bar = Progress(
            name, BarColumn(), MofNCompleteColumn(), state,
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def report(self, stage: str, done: int, total: int, state: str = "") -> None:
        """Show how far a stage is; `state` says how it ended."""
        if self._bar.disable:
            if state:
                sys.stderr.write(f"{stage:12} {state}\n")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total, state="")
        self._bar.update(self._tasks[stage], completed=done, total=total, state=state)
