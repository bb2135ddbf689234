"""The Basel Face Model 2009 with 3DDFA's expressions: face3d's files to and from house units.

Licence: BFM is for non-commercial research and may not be passed on; this module reads the user's
copy. `write_bfm` writes any other model in the same layout, for the miniatures and for the tools
that read only that layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.files import atomic_write
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.bfm_files import (
    TRIMMED_VERTICES,
    BFMArrays,
    BFMPaths,
    find_bfm,
    read_bfm,
)
from lit_face.morphable_models.winding import outward_faces

__all__ = [
    "BFM",
    "BFMArrays",
    "BFMPaths",
    "bfm_of",
    "find_bfm",
    "load_bfm",
    "read_bfm",
    "write_bfm",
    "write_bfm_arrays",
]

IDENTITY_SIZE, EXPRESSION_SIZE, TEXTURE_SIZE = 199, 29, 199
_MICROMETRES = 1000.0
_MOUTH_TRIANGLES = 114
# Left half of the outline of PRNet's face region (its uv_face_mask.png, 256 x 256) as texels
# (column, row); the layout is symmetric. Above the chin curve everything belongs to the face but a
# margin of five texels; below it lie neck and throat.
_FACE_OUTLINE = ((4.5, 4.5), (4.5, 111), (27.5, 162.5), (45, 185.5), (67, 196.5), (87, 200.5))


class BFM(MorphableModel):
    """A `MorphableModel` that also knows the standard deviations of its texture coefficients."""

    albedo_std: Tensor

    def __init__(self, arrays: ModelArrays, albedo_std: Tensor, name: str = "bfm") -> None:
        super().__init__(arrays, name)
        self.register_buffer("albedo_std", albedo_std, persistent=False)


def load_bfm(root: str | Path, uv_file: str | Path | None = None) -> BFM:
    """Load a BFM in face3d's layout as a `MorphableModel` (millimetres, standard deviations).

    Modes at the end that are zero everywhere (padding) are dropped. Triangles include those that
    close the mouth and are turned counter-clockwise seen from outside.

    Regions: from `<stem>_info.mat` where it exists (`nose`, `eyes`, `mouth`). The `face` region, if
    that file does not name it, is PRNet's for the 53,215 vertices of the real model: the UV layout
    above the chin curve, without a five-texel margin (0.2 % of texels differ from PRNet's mask).
    For another topology nothing is known, so every vertex belongs to the face.

    Args:
        root: BFM.mat or a folder that holds it; see `find_bfm`.
        uv_file: UV coordinates that lie elsewhere.

    Raises:
        FileNotFoundError: no model file.
        ValueError: everything that is missing or misshapen, in one message.
    """
    return bfm_of(read_bfm(root, uv_file))


def bfm_of(raw: BFMArrays, name: str = "bfm") -> BFM:
    """Convert raw arrays to a `MorphableModel`; see `load_bfm`."""
    count = len(raw.mean) // 3
    identity = _used_modes(raw.identity_basis)
    expression = _used_modes(raw.expression_basis)
    texture = _used_modes(raw.texture_basis)
    mean = raw.mean.reshape(-1, 3) / _MICROMETRES
    faces = outward_faces(mean, raw.full_triangles)

    def basis(modes: NDArray[np.float32], std: NDArray[np.float32], unit: float) -> Tensor:
        return torch.from_numpy(modes * (std[: modes.shape[1]] / unit)).view(count, 3, -1)

    arrays = ModelArrays(
        mean=torch.from_numpy(mean),
        faces=torch.from_numpy(faces),
        uv=torch.from_numpy(np.clip(raw.uv, 0, 1).astype(np.float32)),
        landmark_index=torch.from_numpy(raw.landmark_index.astype(np.int64)),
        identity_basis=basis(identity, raw.identity_std, _MICROMETRES),
        expression_basis=basis(expression, raw.expression_std, _MICROMETRES),
        identity_std=torch.from_numpy(raw.identity_std[: identity.shape[1]].copy()),
        expression_std=torch.from_numpy(raw.expression_std[: expression.shape[1]].copy()),
        albedo_mean=torch.from_numpy(raw.texture_mean.reshape(-1, 3) / 255),
        albedo_basis=basis(texture, raw.texture_std, 255.0),
        regions={name: torch.from_numpy(weight) for name, weight in _regions(raw).items()},
    )
    return BFM(arrays, torch.from_numpy(raw.texture_std[: texture.shape[1]].copy()), name)


def face_outline_weights(uv: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return 1 for UV coordinates (V,2) inside the outline of PRNet's face region, else 0."""
    left = np.array(_FACE_OUTLINE)
    right = (np.array([255.0, 0.0]) + left * [-1, 1])[::-1]
    outline = np.concatenate([left, right]).astype(np.float32)[:, None]
    texels = np.stack([uv[:, 0] * 255, 255 - uv[:, 1] * 255], axis=1).astype(np.float32)
    inside = [cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for x, y in texels]
    return np.array(inside, dtype=np.float32)


def _regions(raw: BFMArrays) -> dict[str, NDArray[np.float32]]:
    regions = dict(raw.regions)
    if "face" not in regions:
        real = len(raw.uv) == TRIMMED_VERTICES
        face = face_outline_weights(raw.uv) if real else np.ones(len(raw.uv), np.float32)
        regions["face"] = face
    return regions


def _used_modes(basis: NDArray[np.float32]) -> NDArray[np.float32]:
    used = np.flatnonzero(np.abs(basis).max(axis=0))
    return basis[:, : int(used[-1]) + 1 if len(used) else 1]


def write_bfm(model: MorphableModel, folder: str | Path, truncate: bool = False) -> BFMPaths:
    """Write a model as face3d's BFM.mat, BFM_UV.mat and BFM_info.mat.

    Micrometres, indices from 1, coefficients padded with zero modes to the real lengths (199
    identity, 29 expression, 199 texture), so that the loaders and the datasets of the real model
    work unchanged. BFM_info.mat holds `segbin` and, beyond the original, `regions`.

    Args:
        model: identity, expression and albedo are written.
        folder: is created.
        truncate: leave out modes beyond the real lengths.

    Raises:
        ValueError: the model has more modes than the layout, and `truncate` is off.
    """
    folder = Path(folder)
    if not truncate:
        _check_mode_counts(model)
    mean = _flat(model.mean[..., None])[:, 0]
    identity_std, expression_std = _array(model.identity_std), _array(model.expression_std)
    albedo = _flat(model.albedo_basis)
    albedo_std = np.linalg.norm(albedo, axis=0)
    identity = _raw_modes(_flat(model.identity_basis), identity_std, _MICROMETRES)
    expression = _raw_modes(_flat(model.expression_basis), expression_std, _MICROMETRES)
    # Which triangles close the mouth is not known, and an empty field breaks readers.
    triangles = _array(model.faces).T.astype(np.float64) + 1
    fields = {
        "shapeMU": _column(mean * _MICROMETRES),
        "shapePC": _padded(identity, IDENTITY_SIZE),
        "shapeEV": _column(_padded(identity_std[None], IDENTITY_SIZE)),
        "expMU": _column(np.zeros_like(mean)),
        "expPC": _padded(expression, EXPRESSION_SIZE),
        "expEV": _column(_padded(expression_std[None], EXPRESSION_SIZE)),
        "texMU": _column(_array(model.albedo_mean) * 255),
        "texPC": _padded(_raw_modes(albedo, albedo_std, 1.0), TEXTURE_SIZE),
        "texEV": _column(_padded(albedo_std[None] * 255, TEXTURE_SIZE)),
        "tri": triangles[:, :-_MOUTH_TRIANGLES],
        "tri_mouth": triangles[:, -_MOUTH_TRIANGLES:],
        "kpt_ind": _array(model.landmark_index)[None].astype(np.float64) + 1,
    }
    regions = {name: _column(_array(weight)) for name, weight in model.regions.items()}
    return _save_all(folder, fields, _array(model.uv), regions)


def write_bfm_arrays(raw: BFMArrays, folder: str | Path) -> BFMPaths:
    """Write raw arrays as face3d's BFM.mat, BFM_UV.mat and BFM_info.mat, nothing converted.

    The mean is stored as shapeMU, and expMU is zero: only their sum is ever used.
    """
    folder = Path(folder)
    triangles, mouth = raw.triangles, raw.mouth_triangles
    if not len(mouth):  # an empty field breaks readers, who join the two anyway
        triangles, mouth = triangles[:-1], triangles[-1:]
    fields = {
        "shapeMU": _column(raw.mean),
        "shapePC": raw.identity_basis,
        "shapeEV": _column(raw.identity_std),
        "expMU": _column(np.zeros_like(raw.mean)),
        "expPC": raw.expression_basis,
        "expEV": _column(raw.expression_std),
        "texMU": _column(raw.texture_mean),
        "texPC": raw.texture_basis,
        "texEV": _column(raw.texture_std),
        "tri": triangles.T.astype(np.float64) + 1,
        "tri_mouth": mouth.T.astype(np.float64) + 1,
        "kpt_ind": raw.landmark_index[None].astype(np.float64) + 1,
    }
    regions = {name: _column(weight) for name, weight in raw.regions.items()}
    return _save_all(folder, fields, raw.uv, regions)


def _save_all(
    folder: Path,
    fields: Mapping[str, object],
    uv: NDArray[Any],
    regions: dict[str, NDArray[np.float32]],
) -> BFMPaths:
    paths = BFMPaths(folder / "BFM.mat", folder / "BFM_UV.mat", folder / "BFM_info.mat")
    info: dict[str, object] = {"segbin": _segments(regions, len(uv))}
    if regions:
        info["regions"] = regions
    _save(paths.model, {"model": dict(fields)})
    _save(paths.uv, {"UV": uv.astype(np.float64)})
    _save(paths.info, {"model_info": info})
    return paths


def _check_mode_counts(model: MorphableModel) -> None:
    for kind, found, size in (
        ("identity", model.identity_size, IDENTITY_SIZE),
        ("expression", model.expression_size, EXPRESSION_SIZE),
        ("albedo", model.albedo_size, TEXTURE_SIZE),
    ):
        if found > size:
            raise ValueError(
                f"BFM's layout holds {size} {kind} modes, the model '{model.name}' has {found}. "
                "Pass truncate=True to leave the last ones out."
            )


def _save(path: Path, content: Mapping[str, object]) -> None:
    with atomic_write(path) as temporary:
        scipy.io.savemat(temporary, content, do_compression=True)


def _segments(regions: dict[str, NDArray[np.float32]], count: int) -> NDArray[np.uint8]:
    """Rows nose, eye, mouth and rest, 0 or 1."""
    none = np.zeros((count, 1), np.float32)
    parts = np.stack([regions.get(n, none)[:, 0] > 0.5 for n in ("nose", "eyes", "mouth")])
    return np.concatenate([parts, ~parts.any(axis=0, keepdims=True)]).astype(np.uint8)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy())


def _flat(basis: Tensor) -> NDArray[np.float32]:
    return _array(basis).reshape(-1, basis.shape[2])


def _raw_modes(
    basis: NDArray[np.float32], std: NDArray[np.float32], unit: float
) -> NDArray[np.float32]:
    scale = np.divide(unit, std, out=np.zeros_like(std), where=std > 0)
    return basis * scale


def _padded(modes: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.pad(modes[:, :size], ((0, 0), (0, max(0, size - modes.shape[1]))))


def _column(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.reshape(-1, 1)
