"""The Surrey Face Model (3,448 vertices) of the eos library.

Huber et al. (2016), "A Multiresolution 3D Morphable Face Model and Fitting Framework". The files
lie in eos's repository (share/), non-commercial; they are read through its own package eos-py
(Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.layout_files import read_landmark_file
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.topology import TopologyTransfer, with_albedo_of
from lit_face.morphable_models.units import height_problems
from lit_face.morphable_models.winding import outward_faces

Floats = NDArray[np.float32]

VERTICES = 3448
WEIGHT_STD = 1 / 3  # a coefficient of 3 is a blendshape at its full weight of 1
_SHAPE_FILE, _EXPRESSION_FILE = "sfm_shape_3448.bin", "expression_blendshapes_3448.bin"
# iBUG point, counted from 0 -> vertex: eos's share/ibug_to_sfm.txt. It leaves out the jaw line but
# for the chin, and the inner corners of the mouth.
_LANDMARKS = {
    8: 33, 17: 225, 18: 229, 19: 233, 20: 2086, 21: 157, 22: 590, 23: 2091, 24: 666, 25: 662,
    26: 658, 27: 2842, 28: 379, 29: 272, 30: 114, 31: 100, 32: 2794, 33: 270, 34: 2797, 35: 537,
    36: 177, 37: 172, 38: 191, 39: 181, 40: 173, 41: 174, 42: 614, 43: 624, 44: 605, 45: 610,
    46: 607, 47: 606, 48: 398, 49: 315, 50: 413, 51: 329, 52: 825, 53: 736, 54: 812, 55: 841,
    56: 693, 57: 411, 58: 264, 59: 431, 61: 416, 62: 423, 63: 828, 65: 817, 66: 442, 67: 404,
}  # fmt: skip


@dataclass(frozen=True)
class SurreyArrays:
    """What the two files hold; millimetres, indices 0-based.

    Attributes:
        mean: (V,3). basis: (3V,K) a standard deviation. std: (K,).
        faces: (F,3) in the file's own winding.
        uv: (V,2) u right, v up.
        blendshapes: name -> (V,3) at weight 1.
    """

    mean: Floats
    basis: Floats
    std: Floats
    faces: NDArray[np.int64]
    uv: Floats
    blendshapes: dict[str, Floats]


class SurreyFaceModel(MorphableModel):
    """The Surrey Face Model; `expression_names` are anger, disgust, fear, happiness and so on."""

    def __init__(self, arrays: ModelArrays, expression_names: tuple[str, ...]) -> None:
        super().__init__(arrays, "surrey")
        self.expression_names = expression_names


def surrey(
    root: str | Path | None = None,
    landmarks68: str | Path | None = None,
    donor: Callable[[], MorphableModel] = procedural_head,
) -> SurreyFaceModel:
    """Load the public Surrey Face Model (millimetres).

    It has shape, six expressions and UV. Fifty landmarks are known; the jaw line, the inner corners
    of the mouth, regions and colours (the public file has none) are the donor's, carried over by
    barycentric correspondence. The mesh has holes for eyes and mouth.

    Args:
        root: folder with sfm_shape_3448.bin and expression_blendshapes_3448.bin (eos's share/), or
            the first of the two.
        landmarks68: vertices of all 68 points; see `read_landmark_file`. Needed for a model of
            another resolution.
        donor: returns the model that lends colours and regions.

    Raises:
        ModuleNotFoundError: eos-py is not installed; gives the pip command.
        FileNotFoundError: no file; says where to get it.
        ValueError: the file is of another kind or unit.
    """
    if root is None:
        raise FileNotFoundError(
            f"morphable_model=surrey needs {_SHAPE_FILE} and {_EXPRESSION_FILE} (non-commercial): "
            "get them from the folder share/ of the public repository patrikhuber/eos, then give "
            "morphable_model.root=FOLDER or set LIT_FACE_SURREY."
        )
    raw = read_surrey(root)
    count = len(raw.mean)
    if landmarks68 is not None:
        anchors = dict(enumerate(read_landmark_file(landmarks68, count).tolist()))
    elif count == VERTICES:
        anchors = _LANDMARKS
    else:
        raise ValueError(
            f"{root}: {count} vertices; landmarks are known for the one with {VERTICES}. Give "
            "landmarks68=FILE."
        )
    faces = torch.from_numpy(outward_faces(raw.mean, raw.faces))
    transfer = TopologyTransfer(donor(), torch.from_numpy(raw.mean), faces, anchors, cache=True)
    modes = np.stack([shape * WEIGHT_STD for shape in raw.blendshapes.values()], axis=2)
    arrays = ModelArrays(
        mean=torch.from_numpy(raw.mean),
        faces=faces,
        uv=torch.from_numpy(raw.uv),
        landmark_index=transfer.landmark_index(),
        identity_basis=torch.from_numpy(raw.basis).view(count, 3, -1),
        expression_basis=torch.from_numpy(modes.astype(np.float32)),
        identity_std=torch.from_numpy(raw.std),
        expression_std=torch.full((len(raw.blendshapes),), WEIGHT_STD),
        albedo_mean=torch.zeros(count, 3),
        albedo_basis=torch.zeros(count, 3, 1),
        regions=transfer.regions(),
    )
    return SurreyFaceModel(with_albedo_of(arrays, transfer), tuple(raw.blendshapes))


def read_surrey(root: str | Path) -> SurreyArrays:
    """Read shape and blendshapes; see `surrey` for what it raises."""
    root = Path(root)
    path = root if root.suffix == ".bin" else root / _SHAPE_FILE
    blendshape_path = path.with_name(_EXPRESSION_FILE)
    eos = _eos()
    for file in (path, blendshape_path):
        if not file.is_file():
            raise FileNotFoundError(
                f"No file {file}: it lies in the folder share/ of the public repository "
                "patrikhuber/eos (non-commercial)."
            )
    try:
        model = eos.morphablemodel.load_model(str(path))
        shapes = eos.morphablemodel.load_blendshapes(str(blendshape_path))
    except RuntimeError as error:
        raise ValueError(f"{path}: not a model of eos ({error}).") from error
    shape = model.get_shape_model()
    mean = _array(shape.get_mean()).reshape(-1, 3)
    coordinates = _array(model.get_texture_coordinates()).reshape(-1, 2)
    problems = height_problems(float(np.ptp(mean[:, 1])), "millimetres")
    if coordinates.shape != (len(mean), 2):
        problems.append(f"{len(coordinates)} texture coordinates for {len(mean)} vertices")
    deformations = {item.name: _array(item.deformation).reshape(-1, 3) for item in shapes}
    problems += [
        f"the blendshape '{name}' has {len(values)} vertices, the model {len(mean)}"
        for name, values in deformations.items()
        if len(values) != len(mean)
    ]
    if problems or not deformations:
        raise ValueError(f"{path}: {'; '.join(problems) or 'no blendshapes'}.")
    return SurreyArrays(
        mean=mean,
        basis=_array(shape.get_rescaled_pca_basis()),
        std=np.sqrt(_array(shape.get_eigenvalues()).reshape(-1)),
        faces=np.asarray(shape.get_triangle_list(), dtype=np.int64),
        uv=np.clip(coordinates * [1, -1] + [0, 1], 0, 1).astype(np.float32),  # eos: v down
        blendshapes=deformations,
    )


def _eos() -> ModuleType:
    try:
        import eos
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The Surrey Face Model is read through eos-py: pip install 'lit_face[surrey]' (or: pip "
            "install eos-py; it has wheels for Python up to 3.11)."
        ) from error
    return eos  # type: ignore[no-any-return]


def _array(values: Any) -> Floats:
    return np.array(values, dtype=np.float32)
