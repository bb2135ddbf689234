"""ICT-FaceKit's geometry as one .npz file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FILE_NAME = "ict_facekit.npz"
_SHAPES: dict[str, tuple[int, ...]] = {
    "neutral": (26719, 3),
    "faces": (52220, 3),
    "uv": (28911, 2),
    "uv_faces": (52220, 3),
    "identity_deltas": (100, 26719, 3),
    "expression_deltas": (53, 26719, 3),
    "landmarks68": (68,),
}
_HOW = (
    "Get it (MIT licence) from the public repository ICT-VGL/ICT-FaceKit and give its folder "
    "FaceXModel (or the packed ict_facekit.npz) as morphable_model.root or LIT_FACE_ICT_FACEKIT."
)


@dataclass(frozen=True, eq=False)
class ICTArrays:
    """The released model, centimetres.

    Attributes:
        neutral: (26719,3). faces: (52220,3) int, the order of the released polygons.
        uv: (28911,2) in tiles. uv_faces: (52220,3).
        identity_deltas: (100,26719,3) a standard deviation.
        expression_deltas: (53,26719,3) at weight 1. expression_names: 53 names.
        landmarks68: (68,) vertices.
    """

    neutral: Array
    faces: Array
    uv: Array
    uv_faces: Array
    identity_deltas: Array
    expression_deltas: Array
    expression_names: tuple[str, ...]
    landmarks68: Array


def read_npz(root: str | Path) -> ICTArrays:
    """Read the model from an .npz file or the folder that holds it.

    Raises:
        FileNotFoundError: nothing there; says where to get it.
        ValueError: a field is missing or has another shape.
    """
    path = Path(root)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"ICT-FaceKit: no file {path}. {_HOW}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}. {_HOW}") from error
    for name, shape in _SHAPES.items():
        found = data[name].shape if name in data else "nothing"
        if found != shape:
            raise ValueError(f"{path}: '{name}' should be {shape}, found {found}. {_HOW}")
    names = tuple(str(name) for name in data["expression_names"])
    return ICTArrays(**{name: data[name] for name in _SHAPES}, expression_names=names)
