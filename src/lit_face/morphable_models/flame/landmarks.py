"""Landmarks of FLAME: 51 fixed points, and 17 that slide along the contour as the head turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Contour = Literal["nearest", "interpolate"]
LAST_DEGREE = 39  # rows 0 to 39 are a yaw of 0 to 39 degrees, rows 40 to 78 of -1 to -39


def contour_yaw(rotation: Tensor) -> Tensor:
    """Return the yaw (B,) in degrees of rotations (B,3,3); positive turns the face to +x.

    The tables of FLAME's release were made for this sign (RingNet, DECA); smplx and FLAME_PyTorch
    use the other one. At +-30 degrees the far points are near the outline with this one only.
    """
    length = torch.hypot(rotation[:, 0, 0], rotation[:, 1, 0])
    return torch.rad2deg(torch.atan2(-rotation[:, 2, 0], length))


def contour_row(degrees: Tensor) -> Tensor:
    """Return rows (B,) of the contour table for a yaw (B,) in degrees; halves go to the even."""
    rounded = degrees.clamp(max=LAST_DEGREE).round().long()
    return torch.where(rounded >= 0, rounded, LAST_DEGREE - rounded.clamp(min=-LAST_DEGREE))


def points_on(vertices: Tensor, faces: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Return barycentric mixes (B,N,3) of vertices (B,V,3).

    Args:
        vertices: of the mesh.
        faces: (F,3).
        index: (N,) faces, or (B,N), different for each mesh.
        weights: (N,3) or (B,N,3) of their corners.
    """
    corners = faces[index]
    batch = torch.arange(len(vertices), device=vertices.device)[:, None, None]
    picked = vertices[:, corners] if index.ndim == 1 else vertices[batch, corners]
    return (picked * weights.to(vertices)[..., None]).sum(-2)


class LandmarkEmbedding(nn.Module):
    """Where the 68 iBUG points lie on a mesh: a face and barycentric weights each.

    Args:
        faces: (F,3) of the mesh they are read from.
        arrays: static_faces (51,), static_weights (51,3), dynamic_faces (79,17), dynamic_weights
            (79,17,3), full_faces (68,), full_weights (68,3): points 17 to 67, the contour by
            yaw, and the same 68 points of the surface whatever the yaw.
    """

    faces: Tensor
    static_faces: Tensor
    static_weights: Tensor
    dynamic_faces: Tensor
    dynamic_weights: Tensor
    full_faces: Tensor
    full_weights: Tensor

    def __init__(self, faces: Tensor, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in {"faces": faces, **arrays}.items():
            self.register_buffer(name, value, persistent=False)

    def static(self, vertices: Tensor) -> Tensor:
        """Return points 17 to 67 (B,51,3)."""
        return points_on(vertices, self.faces, self.static_faces, self.static_weights)

    def full(self, vertices: Tensor) -> Tensor:
        """Return all points (B,68,3) of the surface; the jaw's run from ear to ear."""
        return points_on(vertices, self.faces, self.full_faces, self.full_weights)

    def contour(self, vertices: Tensor, rotation: Tensor, mode: Contour = "nearest") -> Tensor:
        """Return points 0 to 16 (B,17,3) of the outline that is seen.

        Args:
            vertices: (B,V,3).
            rotation: (B,3,3) by which the head is turned, the neck's included.
            mode: 'nearest' degree as released, or 'interpolate' between the two.
        """
        degrees = contour_yaw(rotation)
        if mode == "nearest":
            return self._row(vertices, contour_row(degrees))
        if mode != "interpolate":
            raise ValueError(f"contour should be 'nearest' or 'interpolate', found {mode!r}.")
        inside = degrees.clamp(-LAST_DEGREE, LAST_DEGREE)
        low = inside.detach().floor().clamp(max=LAST_DEGREE - 1)
        share = (inside - low)[:, None, None]
        first, second = (self._row(vertices, contour_row(row)) for row in (low, low + 1))
        return (1 - share) * first + share * second

    def forward(self, vertices: Tensor, rotation: Tensor, mode: Contour = "nearest") -> Tensor:
        """Return the 68 points (B,68,3) as annotators see them: contour by yaw, then the static."""
        return torch.cat([self.contour(vertices, rotation, mode), self.static(vertices)], dim=1)

    def _row(self, vertices: Tensor, row: Tensor) -> Tensor:
        return points_on(vertices, self.faces, self.dynamic_faces[row], self.dynamic_weights[row])
