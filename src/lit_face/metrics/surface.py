"""Errors of meshes that share their topology: points in mm and normals in degrees."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lit_face.geometry.alignment import procrustes
from lit_face.geometry.meshes import vertex_normals

Vertices = Float[Tensor, "B V 3"]


def aligned_errors(
    predicted: Vertices, true: Vertices, faces: Tensor, weights: Tensor, scale: bool = True
) -> tuple[Tensor, Tensor]:
    """Compare meshes after the best similarity of the weighted points.

    Args:
        predicted: head space, any unit.
        true: the corresponding vertices, mm.
        faces: (F,3) int64 of both.
        weights: (V,) which vertices count.
        scale: estimate the scale; otherwise the alignment is rigid.

    Returns:
        Weighted mean distance (B,) in mm and weighted mean angle between normals (B,) in degrees;
        NaN where there is no alignment.
    """
    motion = procrustes(predicted.float(), true.float(), weights, scale=scale)
    moved = motion.apply(predicted.float())
    share = weights / weights.sum()
    distance = ((moved - true).norm(dim=-1) * share).sum(-1)
    first, second = vertex_normals(moved, faces), vertex_normals(true.float(), faces)
    # atan2 keeps small angles, where arccos of a float32 has none below 0.02 degrees.
    cross = torch.linalg.cross(first, second).norm(dim=-1)
    angle = torch.rad2deg(torch.atan2(cross, (first * second).sum(-1)))
    return distance, (angle * share).sum(-1)
