"""The command line of `lit_face.data.celeba_skin`: make, pack and import the RGBA set."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.data.celeba_conversion import import_packed, pack
from lit_face.data.celeba_cropping import CropSources, crop


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    given: Any = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        count = given.run(given)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot {given.command}: {error}\n")
        return 2
    sys.stdout.write(f"{given.out}: {count} pictures; use it as data.root\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.data.celeba_skin", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="PNG files into one memory-mapped file")
    packing.add_argument("root", type=Path, help="folder with CelebA_Segment")
    packing.add_argument("out", type=Path, help="folder to write")
    packing.add_argument("--size", type=int, default=224, help="side of the pictures, pixels")
    packing.add_argument("--max-rejected", type=float, default=0.01, help="share of bad pictures")
    packing.set_defaults(run=lambda g: pack(g.root, g.out, g.size, g.max_rejected))
    importing = commands.add_parser("import", help="the reference's CelebA_RGBA.bin")
    importing.add_argument("file", type=Path, help="CelebA_RGBA.bin")
    importing.add_argument("out", type=Path, help="folder to write")
    importing.add_argument("--names", type=Path, help="image_train.txt: a name a line, in order")
    importing.add_argument("--lists", type=Path, help="folder of identity_CelebA.txt")
    importing.set_defaults(run=lambda g: import_packed(g.file, g.out, g.names, g.lists))
    _add_crop(commands.add_parser("crop", help="photos and five points into aligned RGBA crops"))
    return parser


def _add_crop(cropping: argparse.ArgumentParser) -> None:
    cropping.add_argument("photos", type=Path, help="folder of pictures")
    cropping.add_argument("points", type=Path, help="list_landmarks_align_celeba.txt, or a folder")
    cropping.add_argument("out", type=Path, help="folder to write")
    cropping.add_argument("--masks", type=Path, help="folder of skin masks, NAME.png or NAME.npy")
    cropping.add_argument("--selfie", type=Path, help="mediapipe's segmenter makes the masks")
    cropping.add_argument("--landmarks", type=Path, help="folder of 68 points, NAME.npy")
    cropping.add_argument("--standard", type=Path, help="five points of another mean face, .npy")
    cropping.add_argument("--max-rejected", type=float, default=0.01, help="share of bad photos")
    cropping.set_defaults(run=_crop)


def _crop(given: Any) -> int:
    sources = CropSources(given.masks, given.selfie, given.landmarks)
    standard = None if given.standard is None else np.load(given.standard, allow_pickle=False)
    return crop(given.photos, given.points, given.out, sources, standard, given.max_rejected)
