"""FaceScape's multi-view data: `python -m lit_face.data.facescape preprocess|maps|miniature`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.facescape_maps import MapOptions, fit_base_meshes, write_maps
from lit_face.data.facescape_preparation import (
    LONG_SIDE,
    PreparationOptions,
    Summary,
    preprocess,
)
from lit_face.data.miniature_facescape import SIZES, write_facescape
from lit_face.io.files import atomic_folder
from lit_face.morphable_models.facescape import load_bilinear
from lit_face.morphable_models.facescape.bilinear import TEMPLATE_FILE
from lit_face.morphable_models.facescape.template import write_mask, write_template
from lit_face.morphable_models.ict_facekit import ict_facekit
from lit_face.morphable_models.procedural import procedural_head

_SHOWN = 10  # reasons of a kind


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    given: Any = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        given.run(given)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot {given.command}: {error}\n")
        return 2
    return 0


class StageProgress:
    """Shows a bar for each stage that tells of itself; a context."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self.bars = RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> StageProgress:
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move a stage's bar."""
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.tasks[stage], completed=done)


def _preprocess(given: Any) -> None:
    options = PreparationOptions(given.long_side, given.views, given.reference_pixels)
    with StageProgress() as progress:
        summary = preprocess(
            given.raw,
            given.out,
            options,
            given.workers,
            given.select,
            progress,
            skip_broken=given.skip_broken,
        )
    sys.stdout.write(describe(summary, given.out))


def _maps(given: Any) -> None:
    folder = FaceScapeFolder(given.out)
    model = load_bilinear(given.model or folder.predefined)
    samples = given.samples or None
    template = folder.template_file if given.model is None else given.model / TEMPLATE_FILE
    if not template.is_file():  # v1.6 has its own form
        write_template(model, folder.root / "template")
        template = folder.root / "template" / TEMPLATE_FILE
    with StageProgress() as progress:
        reports = fit_base_meshes(
            folder, model, samples, progress=lambda d, n, _: progress("base meshes", d, n)
        )
        made = write_maps(
            folder,
            template,
            samples,
            given.workers if given.workers > 1 else 0,
            MapOptions(size=given.size),
            progress=lambda d, n, _: progress("maps", d, n),
        )
    if not folder.mask_file.is_file():
        write_mask(model, folder.mask_file)
    sys.stdout.write(
        f"{given.out}: {len(reports)} base meshes, maps of {len(made)} samples made, "
        f"{len(reports) - len(made)} were there already\n"
    )


def _miniature(given: Any) -> None:
    if given.out.exists():
        raise FileExistsError(f"{given.out} is there already; choose another folder or remove it.")
    chosen = {name: getattr(given, name) for name in ("people", "expressions", "views")}
    size = replace(SIZES[given.size], **{k: v for k, v in chosen.items() if v is not None})
    model = procedural_head() if given.ict_facekit is None else ict_facekit(given.ict_facekit)
    with atomic_folder(given.out) as temporary:
        write_facescape(temporary, model, size)
    sys.stdout.write(f"{given.out}: {size.samples} samples; preprocess them next\n")


def describe(summary: Summary, out: Path) -> str:
    """Tell what was done and what was left out, and why."""
    lines = [
        f"{out}: {len(summary.written)} samples written, {len(summary.unchanged)} were there "
        f"already, {len(summary.skipped)} problems left out, {len(summary.dropped)} views dropped, "
        f"{summary.enlarged} photos enlarged"
    ]
    for title, reasons in (("left out", summary.skipped), ("dropped", summary.dropped)):
        lines += [f"  {title}: {reason}" for reason in reasons[:_SHOWN]]
        if len(reasons) > _SHOWN:
            lines.append(f"  {title}: and {len(reasons) - _SHOWN} more")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.data.facescape", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("preprocess", help="undistort and resize photos, choose views")
    preparing.add_argument(
        "raw", type=Path, help="folder with imgs/, or with photos and params.json"
    )
    preparing.add_argument("out", type=Path, help="processed folder; what is there and true stays")
    preparing.add_argument("--long-side", type=int, default=LONG_SIDE, help="pixels")
    preparing.add_argument("--views", type=int, default=10, help="where select_dict.json has none")
    preparing.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    preparing.add_argument("--select", type=Path, help="select_dict.json, if not the raw folder's")
    preparing.add_argument(
        "--reference-pixels", action="store_true", help="intrinsics as the reference scales them"
    )
    preparing.add_argument(
        "--skip-broken", action="store_true", help="leave broken samples out instead of refusing"
    )
    preparing.set_defaults(run=_preprocess)
    mapping = commands.add_parser("maps", help="fit base meshes to landmarks and make UV maps")
    mapping.add_argument("out", type=Path, help="processed folder")
    mapping.add_argument(
        "--model", type=Path, help="folder of the bilinear model, if not OUT/predefined"
    )
    mapping.add_argument("--size", type=int, default=512, help="texels; maps are half as wide")
    mapping.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    mapping.add_argument("--samples", nargs="*", help="names as 073_15; all without it")
    mapping.set_defaults(run=_maps)
    _add_miniature(commands.add_parser("miniature", help="procedural faces in the raw layout"))
    return parser


def _add_miniature(making: argparse.ArgumentParser) -> None:
    making.add_argument("out", type=Path, help="raw folder to write")
    making.add_argument("--size", choices=sorted(SIZES), default="default", help="to start from")
    making.add_argument("--people", type=int, help="of whom some are held out")
    making.add_argument("--expressions", type=int, help="of each person, the first one neutral")
    making.add_argument("--views", type=int, help="valid ones; one invalid view comes on top")
    making.add_argument(
        "--ict-facekit", type=Path, help="ICT-FaceKit's file, for faces of scanned people"
    )
    making.set_defaults(run=_miniature)


if __name__ == "__main__":
    sys.exit(main())
