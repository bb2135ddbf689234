"""Landmarks of one's own on FLAME: points on the template become faces and weights.

The file has the keys of FLAME's other embeddings (MediaPipe's 105 points, smplx's static ones).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_face.io.files import atomic_write
from lit_face.io.unpickling import read_npz
from lit_face.morphable_models.correspondence import closest_points


class PointEmbedding(NamedTuple):
    """Points that stick to a mesh.

    Attributes:
        faces: (N,) int64.
        weights: (N,3) of their corners.
        distance: (N,) from the points asked for to the surface, in their unit.
    """

    faces: Tensor
    weights: Tensor
    distance: Tensor


def embed_points(points: Tensor, vertices: Tensor, faces: Tensor) -> PointEmbedding:
    """Find the closest face and barycentric weights of points (N,3), for example picked by hand.

    Args:
        points: near the mesh, in its frame and unit.
        vertices: (V,3), FLAME's template say.
        faces: (F,3) int64.

    Raises:
        ValueError: shapes that do not fit, or points that are not finite.
    """
    if points.ndim != 2 or points.shape[1] != 3 or not points.isfinite().all():
        raise ValueError(f"points should be (N,3) and finite, found {tuple(points.shape)}.")
    found = closest_points(points, vertices, faces)
    wanted, _ = found.vertex_index.sort(1)
    _, inverse = torch.cat([wanted, faces.sort(1).values]).unique(dim=0, return_inverse=True)
    asked, own = inverse[: len(points)], inverse[len(points) :]
    number = torch.zeros(int(inverse.max()) + 1, dtype=torch.int64)
    number[own] = torch.arange(len(faces))
    index = number[asked]
    same = faces[index][:, :, None] == found.vertex_index[:, None]
    weights = (same * found.weights[:, None]).sum(2)
    return PointEmbedding(index, weights, found.distance)


def write_point_embedding(path: str | Path, embedding: PointEmbedding) -> Path:
    """Write faces and weights as .npz with the keys lmk_face_idx and lmk_b_coords."""
    with atomic_write(path) as temporary:
        np.savez(
            temporary,
            lmk_face_idx=embedding.faces.numpy(),
            lmk_b_coords=embedding.weights.double().numpy(),
        )
    return Path(path)


def read_point_embedding(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read faces (N,) and weights (N,3) for `landmarks.points_on`; any number of points.

    Raises:
        ValueError: the keys are missing or misshapen.
    """
    raw = read_npz(path)
    missing = [key for key in ("lmk_face_idx", "lmk_b_coords") if key not in raw]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(raw))}.")
    index, weights = np.asarray(raw["lmk_face_idx"]), np.asarray(raw["lmk_b_coords"])
    if index.dtype.kind not in "iu" or weights.shape != (index.size, 3):
        raise ValueError(
            f"{path}: 'lmk_face_idx' should be (N) whole numbers and 'lmk_b_coords' (N,3), found "
            f"{index.shape} {index.dtype} and {weights.shape}."
        )
    return torch.from_numpy(index.reshape(-1).astype(np.int64)), torch.from_numpy(weights).float()
