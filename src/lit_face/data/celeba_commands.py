"""The command line of `lit_face.data.celeba_skin`: make, pack and import the RGBA set."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_face.data.celeba_conversion import import_packed, pack


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
    return parser
