"""Reader of FaceScape's bilinear model v1.6 (facescape_bm_v1.6_*.npz)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.io.unpickling import read_npz
from lit_face.morphable_models.facescape.bilinear import (
    LANDMARKS,
    Bilinear,
    check_variance,
    residual,
    vector,
)

Array = NDArray[Any]

_NEEDED = ("shape_bm_core", "fv_indices", "ft_indices", "texcoords", "lm_list_v16")


def read_bilinear16(path: Path) -> Bilinear:
    """Read a v1.6 file; pickled parts of it are read without running them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: missing keys, or arrays that do not fit each other.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No bilinear model {path}.")
    content = read_npz(path)
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise ValueError(
            f"{path}: no {', '.join(missing)}; found {', '.join(sorted(content))}. Is this "
            "facescape_bm_v1.6_847_50_52_id_front.npz or one of its siblings?"
        )
    raw = np.asarray(content["shape_bm_core"])
    if raw.ndim != 3 or raw.shape[0] % 3 or not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(
            f"{path}: 'shape_bm_core' should be floats (3 x vertices, expressions, identities), "
            f"found {raw.shape} {raw.dtype}."
        )
    vertices, identities = raw.shape[0] // 3, raw.shape[2]
    _check_count(content, "vert_num", vertices, path)
    faces, faces_uv, uv = _topology(content, vertices, path)
    marks = np.asarray(content["lm_list_v16"]).reshape(-1)
    if len(marks) != LANDMARKS or marks.min() < 0 or marks.max() >= vertices:
        raise ValueError(
            f"{path}: 'lm_list_v16' should be {LANDMARKS} of the {vertices} vertices, found "
            f"{len(marks)} numbers."
        )
    if "id_mean" in content and "id_var" in content:
        mean = vector(content, "id_mean", identities, path, path)
        variance = vector(content, "id_var", identities, path, path)
        check_variance(variance, path)
    else:
        raise ValueError(
            f"{path}: no 'id_mean' and 'id_var': take the file whose name ends in _id or _id_front."
        )
    return Bilinear(
        core=residual(raw.transpose(2, 1, 0), path),
        id_mean=mean,
        id_var=variance,
        start=mean.clone(),
        landmark_index=torch.from_numpy(marks.astype(np.int64)),
        faces=torch.from_numpy(faces),
        uv=torch.from_numpy(uv).float(),
        faces_uv=torch.from_numpy(faces_uv),
        mask=_mask(content, path),
        name=path.stem,
    )


def _topology(
    content: Mapping[str, Any], vertices: int, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return faces, faces_uv (triangles, from 0) and uv."""
    uv = np.asarray(content["texcoords"], dtype=np.float64)
    if uv.ndim != 2 or uv.shape[1] not in (2, 3) or not np.isfinite(uv).all():
        raise ValueError(f"{path}: 'texcoords' should be (U,2) finite numbers, found {uv.shape}.")
    uv = uv[:, :2]
    found = []
    for key, count in (("fv_indices", vertices), ("ft_indices", len(uv))):
        index = np.asarray(content[key])
        if index.ndim != 2 or index.shape[1] not in (3, 4) or index.dtype.kind not in "iu":
            raise ValueError(f"{path}: '{key}' should be (F,3) or (F,4) indices: {index.shape}.")
        if index.min() < 1 or index.max() > count:
            raise ValueError(
                f"{path}: '{key}' should count from 1 to {count}, found {index.min()} to "
                f"{index.max()}."
            )
        corners = index.astype(np.int64) - 1
        if corners.shape[1] == 4:
            corners = np.stack([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]], 1).reshape(-1, 3)
        found.append(corners)
    if found[0].shape != found[1].shape:
        raise ValueError(
            f"{path}: 'fv_indices' {content['fv_indices'].shape} and 'ft_indices' "
            f"{content['ft_indices'].shape} should have the same shape."
        )
    _check_count(content, "face_num", len(content["fv_indices"]), path)
    return found[0], found[1], uv


def _check_count(content: Mapping[str, Any], key: str, count: int, path: Path) -> None:
    if key in content and int(np.asarray(content[key]).reshape(-1)[0]) != count:
        said = int(np.asarray(content[key]).reshape(-1)[0])
        raise ValueError(f"{path}: '{key}' says {said}, but the arrays have {count}.")


def _mask(content: Mapping[str, Any], path: Path) -> torch.Tensor | None:
    if "facial_mask" not in content:
        return None
    mask = np.asarray(content["facial_mask"])
    mask = mask[..., 0] if mask.ndim == 3 else mask
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ValueError(f"{path}: 'facial_mask' should be square, found {mask.shape}.")
    return torch.from_numpy(mask > 0)
