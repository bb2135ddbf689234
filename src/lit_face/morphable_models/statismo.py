"""The .h5 files of the Basel Face Models 2017 and 2019 (statismo's layout), read and written."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_write
from lit_face.io.hdf5 import read_datasets, write_datasets
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.units import height_problems

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
# The names in /metadata/landmarks/json that are iBUG points, counted from 0.
NAMED_LANDMARKS = {
    "center.chin.tip": 8, "center.nose.tip": 30, "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39, "left.eye.corner_inner": 42, "left.eye.corner_outer": 45,
    "right.lips.corner": 48, "center.lips.upper.outer": 51, "left.lips.corner": 54,
    "center.lips.lower.outer": 57, "center.lips.upper.inner": 62, "center.lips.lower.inner": 66,
}  # fmt: skip
KNOWN_VERTICES = {
    53149: "BFM 2017", 28588: "BFM 2017 face12", 47439: "BFM 2019", 27657: "BFM 2019 face12",
    58203: "BFM 2019 full head",
}  # fmt: skip
_LANDMARK_TEXT = "metadata/landmarks/json"


@dataclass(frozen=True)
class StatismoArrays:
    """The raw content of a .h5 file; basis columns times sigma are one standard deviation.

    Attributes:
        shape_mean: (V,3) mm. expression_mean: (V,3) mm, what a mean expression adds.
        color_mean: (V,3) in [0,1].
        bases: 'shape', 'expression', 'color' -> (3V,K) orthonormal.
        sigmas: the same names -> (K,) roots of pcaVariance.
        faces: (T,3) int64 in the file's own winding.
        landmarks: name -> (3,) mm.
    """

    shape_mean: Floats
    expression_mean: Floats
    color_mean: Floats
    bases: dict[str, Floats]
    sigmas: dict[str, Floats]
    faces: NDArray[np.int64]
    landmarks: dict[str, NDArray[np.float64]]


def find_h5(root: str | Path) -> Path:
    """Return the .h5 file: `root` itself, or the only model file in that folder.

    Raises:
        FileNotFoundError: none. ValueError: several; names them.
    """
    root = Path(root)
    if root.suffix == ".h5":
        if not root.is_file():
            raise FileNotFoundError(f"No model file {root}.")
        return root
    found = sorted(p for p in root.glob("model20*.h5") if p.is_file())
    if not found:
        raise FileNotFoundError(
            f"{root} holds no model20*.h5, such as model2017-1_bfm_nomouth.h5: register at "
            "faces.dmi.unibas.ch for the Basel Face Model 2017 or 2019."
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{root} holds several models ({names}): give the file itself as root.")
    return found[0]


def read_statismo(path: str | Path) -> StatismoArrays:
    """Read the raw arrays of a .h5 file.

    Raises:
        ModuleNotFoundError, FileNotFoundError, ValueError: see `bfm2017`.
    """
    wanted: dict[str, int | tuple[int | None, ...]] = {"shape/representer/cells": (3, None)}
    for kind in ("shape", "expression", "color"):
        wanted[f"{kind}/model/mean"] = (None,)
        wanted[f"{kind}/model/pcaBasis"] = (None, None)
        wanted[f"{kind}/model/pcaVariance"] = (None,)
    data, texts, problems = read_datasets(path, wanted, texts=(_LANDMARK_TEXT,))
    problems += _check(data)
    landmarks: dict[str, NDArray[np.float64]] = {}
    try:
        landmarks = parse_landmarks(texts.get(_LANDMARK_TEXT, "[]"))
    except (ValueError, KeyError, TypeError) as error:
        problems.append(f"'{_LANDMARK_TEXT}' cannot be read ({error})")
    if problems:
        listing = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"{path} cannot be used:{listing}")
    count = len(data["shape/model/mean"]) // 3
    if count not in KNOWN_VERTICES:
        log.info("%s: %d vertices, none of the published models.", path, count)
    kinds = ("shape", "expression", "color")
    return StatismoArrays(
        shape_mean=data["shape/model/mean"].reshape(-1, 3),
        expression_mean=data["expression/model/mean"].reshape(-1, 3),
        color_mean=data["color/model/mean"].reshape(-1, 3),
        bases={kind: data[f"{kind}/model/pcaBasis"] for kind in kinds},
        sigmas={kind: np.sqrt(data[f"{kind}/model/pcaVariance"]) for kind in kinds},
        faces=data["shape/representer/cells"].T.astype(np.int64),
        landmarks=landmarks,
    )


def parse_landmarks(text: str) -> dict[str, NDArray[np.float64]]:
    """Parse scalismo's landmarks: a list of {"id", "coordinates"}, or a dict id -> coordinates."""
    content = json.loads(text)
    if isinstance(content, list):
        content = {item["id"]: item["coordinates"] for item in content}
    points = {name: np.asarray(point, dtype=np.float64) for name, point in content.items()}
    return {name: point for name, point in points.items() if point.shape == (3,)}


def write_bfm2017(
    model: MorphableModel, path: str | Path, modes: Mapping[str, int] | None = None
) -> None:
    """Write a model in this layout, landmarks and UV in files beside it (as a user gives them).

    Args:
        model: any.
        path: the .h5 file.
        modes: leading modes to keep of 'identity', 'expression', 'albedo'; none keeps all.
    """
    modes = modes or {}
    mean = model.mean.cpu()
    # The real expression model has a mean of its own, too.
    smile = 0.5 * model.expression_basis.cpu()[..., 0]
    parts = {
        "shape": (mean - smile, model.identity_basis, modes.get("identity")),
        "expression": (smile, model.expression_basis, modes.get("expression")),
        "color": (model.albedo_mean.cpu(), model.albedo_basis, modes.get("albedo")),
    }
    datasets: dict[str, NDArray[Any] | str] = {}
    for kind, (center, basis, kept) in parts.items():
        flat = basis.cpu()[..., :kept].reshape(-1, basis[..., :kept].shape[2])
        norm = flat.norm(dim=0).clamp(min=1e-12)
        datasets[f"{kind}/model/mean"] = center.reshape(-1).numpy()
        datasets[f"{kind}/model/pcaBasis"] = _coarse((flat / norm).numpy())
        datasets[f"{kind}/model/pcaVariance"] = norm.square().numpy()
        datasets[f"{kind}/model/noiseVariance"] = np.zeros(1)
    datasets["shape/representer/points"] = (mean - smile).T.numpy()
    datasets["shape/representer/cells"] = model.faces.cpu().T.numpy().astype(np.int32)
    index = model.landmark_index.cpu()
    datasets[_LANDMARK_TEXT] = json.dumps(
        [
            {"id": name, "coordinates": (mean - smile)[index[number]].tolist()}
            for name, number in NAMED_LANDMARKS.items()
        ]
    )
    path = Path(path)
    write_datasets(path, datasets)
    with atomic_write(path.with_name(f"{path.stem}_landmarks68.txt")) as temporary:
        np.savetxt(temporary, index.numpy(), fmt="%d")
    with atomic_write(path.with_name(f"{path.stem}_uv.npz")) as temporary:
        np.savez_compressed(temporary, uv=model.uv.cpu().numpy())


def _check(data: Mapping[str, Floats]) -> list[str]:
    """Sizes, indices, order of the variances and unit."""
    problems = []
    length = len(data["shape/model/mean"]) if "shape/model/mean" in data else None
    for kind in ("shape", "expression", "color"):
        mean, basis, variance = (
            data.get(f"{kind}/model/{part}") for part in ("mean", "pcaBasis", "pcaVariance")
        )
        for part, array in (("mean", mean), ("pcaBasis", basis)):
            if array is not None and length is not None and len(array) != length:
                problems.append(f"'{kind}/model/{part}' should have {length} rows: {len(array)}")
        if basis is not None and variance is not None and basis.shape[1] != len(variance):
            problems.append(f"'{kind}': {basis.shape[1]} modes, but {len(variance)} variances")
        if variance is not None and (variance < 0).any():
            problems.append(f"'{kind}/model/pcaVariance' has negative values")
    cells = data.get("shape/representer/cells")
    if (
        cells is not None
        and length is not None
        and not 0 <= cells.min() <= cells.max() < length / 3
    ):
        problems.append(
            f"'shape/representer/cells' names vertices {cells.min():.0f} to {cells.max():.0f} of "
            f"{length // 3}, counted from 0"
        )
    if length is not None:
        problems += height_problems(
            float(np.ptp(data["shape/model/mean"].reshape(-1, 3)[:, 1])), "millimetres"
        )
    return problems


def _coarse(values: Floats) -> Floats:
    """Keep 13 of 23 mantissa bits, so that the file compresses; relative error below 1e-4."""
    return (values.view(np.uint32) & np.uint32(0xFFFFFC00)).view(np.float32)
