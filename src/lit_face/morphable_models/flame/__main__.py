"""Turn a FLAME model or landmark pickle into plain arrays, readable without any pickle.

python -m lit_face.morphable_models.flame generic_model.pkl generic_model.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.io.files import atomic_write
from lit_face.io.unpickling import read_npy, read_pickle
from lit_face.morphable_models.flame.files import check_flame
from lit_face.morphable_models.flame.side_files import read_embedding

_TEXTS = ("bs_style", "bs_type")


def convert_flame(source: str | Path, out: str | Path) -> Path:
    """Write the arrays of a model (.pkl) or a landmark embedding (.npy) as .npz.

    The source is read without running what is in it. Every reader of lit_face takes the result in
    the source's place, under its name with .npz.

    Args:
        source: generic_model.pkl, flame2023.pkl, ..., or landmark_embedding.npy.
        out: .npz to write.

    Raises:
        ValueError: unsafe, misshapen, or another suffix.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".npz":
        raise ValueError(f"the result is a .npz file, not {out.name}.")
    if source.suffix == ".npy":
        read_embedding(source)
        raw = read_npy(source)
    elif source.suffix == ".pkl":
        raw = read_pickle(source)
        check_flame(raw, source)
    else:
        raise ValueError(f"{source} should be a model's .pkl or landmark_embedding.npy.")
    arrays = _plain(raw)
    with atomic_write(out) as temporary:
        np.savez(temporary, **arrays)
    return out


def _plain(raw: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in raw.items():
        array = np.asarray(value)
        if array.dtype.kind in "biuf" or name in _TEXTS:
            kept[str(name)] = array
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_face.morphable_models.flame", description=__doc__.splitlines()[0]
    )
    parser.add_argument("source", help="generic_model.pkl, flame2023.pkl, landmark_embedding.npy")
    parser.add_argument("out", help=".npz to write")
    given = parser.parse_args(arguments)
    try:
        path = convert_flame(given.source, given.out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"lit_face cannot convert: {error}\n")
        return 2
    sys.stdout.write(f"{path} is ready: put it in the place of {given.source}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
