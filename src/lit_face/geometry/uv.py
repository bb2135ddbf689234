"""UV maps of meshes: where a texel lies on the surface never changes, so it is computed once.

A map of size S is corner-aligned, as PRN's: texel (row, column) sits at u = column / (S - 1) and
v = 1 - row / (S - 1).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region

Rules = Literal["default", "face3d"]


class UVResampling(nn.Module):
    """Reads attributes of vertices at the texels of a UV map: a sparse matrix as plain buffers.

    Attributes:
        size: S, texels.
        texels: (T,) int64 flat indices (row * S + column) of the covered texels, ascending.
        vertex_index: (T,3) int64 corners of the face that covers the texel.
        weights: (T,3) float32 barycentric weights of these corners.
    """

    texels: Tensor
    vertex_index: Tensor
    weights: Tensor

    def __init__(self, size: int, texels: Tensor, vertex_index: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.size = size
        # Constants of the mesh: they stay out of checkpoints.
        self.register_buffer("texels", texels, persistent=False)
        self.register_buffer("vertex_index", vertex_index, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    @property
    def mask(self) -> Tensor:
        """(S,S) bool, true where a texel is covered."""
        flat = torch.zeros(self.size**2, dtype=torch.bool, device=self.texels.device)
        return flat.index_fill(0, self.texels, True).view(self.size, self.size)

    @property
    def uv(self) -> Tensor:
        """(T,2) UV coordinates of the covered texels."""
        return texel_uv(self.texels, self.size)

    @fp32_region()
    def apply(self, attributes: Tensor) -> Tensor:  # type: ignore[override]
        """Interpolate (...,V,C) attributes at the covered texels: (...,T,C).

        The three terms are added in the order of the corners, as rasterisers do it.
        """
        weights = self.weights.to(attributes.dtype).unsqueeze(-1)
        first, second, third = (
            weights[:, corner] * attributes.index_select(-2, self.vertex_index[:, corner])
            for corner in range(3)
        )
        return first + second + third

    def to_map(self, values: Tensor) -> Tensor:
        """Write (...,T,C) values into (...,C,S,S) maps that are 0 elsewhere."""
        *batch, _, channels = values.shape
        maps = values.new_zeros(*batch, channels, self.size**2)
        maps = maps.index_copy(-1, self.texels, values.mT)
        return maps.view(*batch, channels, self.size, self.size)

    def forward(self, attributes: Tensor) -> Tensor:
        """Return maps (...,C,S,S) of (...,V,C) attributes, 0 where no face is."""
        return self.to_map(self.apply(attributes))


def uv_resampling(
    uv: Tensor, faces: Tensor, size: int, rules: Rules = "default", border_rule: bool = True
) -> UVResampling:
    """Find the surface point of every texel.

    Args:
        uv: (V,2) in [0,1], u right, v up.
        faces: (F,3) int64. Where faces overlap in UV, the first one has the texel.
        size: side of the map, texels.
        rules: 'default' (float64, edges belong to both faces) or 'face3d' (float32, its inside
            test and its border; see `lit_face.geometry.face3d_raster`).
        border_rule: face3d only: skip the inside test in the two outermost rows and columns.

    Returns:
        The resampling, on the device of `uv`.

    Raises:
        ValueError: shapes, size or rules that do not fit.
    """
    _check(uv, faces)
    if size < 2:
        raise ValueError(f"size of a UV map should be at least 2 texels, found {size}.")
    points = uv_to_texels(uv.detach().cpu().double(), size)
    if rules == "face3d":
        from lit_face.geometry.face3d_raster import rasterize_face3d  # numba imports slowly

        flat = torch.cat([points.float(), torch.zeros(len(points), 1)], dim=1)
        buffers = rasterize_face3d(flat, faces.cpu(), (size, size), border_rule)
        face_index, weights = buffers.face_index.flatten(), buffers.barycentric.view(-1, 3)
        texels = (face_index >= 0).nonzero().squeeze(1)
        vertex_index, weights = faces.cpu()[face_index[texels]], weights[texels]
    elif rules == "default":
        from lit_face.geometry.locate import barycentric_weights, covering_face

        rows, columns = np.divmod(np.arange(size * size), size)
        queries = np.stack([columns, rows], axis=1).astype(np.float64)
        face_array = faces.cpu().numpy()
        found = covering_face(queries, points.numpy(), face_array)
        covered = np.flatnonzero(found >= 0)
        corners = face_array[found[covered]]
        weight_array = barycentric_weights(queries[covered], points.numpy(), corners)
        texels, vertex_index = torch.from_numpy(covered), torch.from_numpy(corners)
        weights = torch.from_numpy(weight_array).float()
    else:
        raise ValueError(f"rules should be 'default' or 'face3d', found {rules!r}.")
    return UVResampling(size, texels, vertex_index, weights).to(uv.device)


def centred_resampling(uv: Tensor, faces: Tensor, size: int) -> UVResampling:
    """Find the surface point of every texel of a texel-centred map, as FLAME's texture files are.

    There texel i of S lies at (i + 0.5) / S; elsewhere in the house the outermost ones lie at 0
    and 1. Arguments as in `uv_resampling`.
    """
    return uv_resampling((uv * size - 0.5) / (size - 1), faces, size)


def points_to_surface(uv_query: Tensor, uv: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Find the surface point at any UV coordinates; outside of all faces, the closest one in UV.

    Args:
        uv_query: (N,2) UV coordinates.
        uv: (V,2) UV coordinates of the vertices.
        faces: (F,3) int64; where faces overlap in UV, the first one counts.

    Returns:
        vertex_index (N,3) int64 and weights (N,3) float32, on the device of `uv_query`.

    Raises:
        ValueError: shapes that do not fit, or queries that are not finite.
    """
    from lit_face.geometry.locate import barycentric_weights, covering_face, nearest_on_faces

    _check(uv, faces)
    if uv_query.ndim != 2 or uv_query.shape[1] != 2 or not uv_query.isfinite().all():
        raise ValueError(f"uv_query should be (N,2) and finite, found {tuple(uv_query.shape)}.")
    queries = uv_query.detach().cpu().double().numpy()
    points = uv.detach().cpu().double().numpy()
    face_array = faces.cpu().numpy()
    found = covering_face(queries, points, face_array)
    weights = np.zeros((len(queries), 3))
    inside = found >= 0
    weights[inside] = barycentric_weights(queries[inside], points, face_array[found[inside]])
    found[~inside], weights[~inside] = nearest_on_faces(queries[~inside], points, face_array)
    vertex_index = torch.from_numpy(face_array[found])
    return vertex_index.to(uv_query.device), torch.from_numpy(weights).float().to(uv_query.device)


def uv_to_texels(uv: Tensor, size: int) -> Tensor:
    """Convert (...,2) UV coordinates to (...,2) column and row of a map of `size` texels.

    The order of the arithmetic is PRN's.
    """
    return torch.stack([uv[..., 0] * (size - 1), size - uv[..., 1] * (size - 1) - 1], dim=-1)


def texel_uv(texels: Tensor, size: int) -> Tensor:
    """Convert flat texel indices (T,) to UV coordinates (T,2) float32."""
    rows = torch.div(texels, size, rounding_mode="floor")
    return torch.stack([texels % size, size - 1 - rows], dim=1).float() / (size - 1)


def _check(uv: Tensor, faces: Tensor) -> None:
    if uv.ndim != 2 or uv.shape[1] != 2 or not uv.isfinite().all():
        raise ValueError(f"uv should be (V,2) and finite, found {tuple(uv.shape)}.")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int64 or not len(faces):
        raise ValueError(f"faces should be (F,3) int64, found {tuple(faces.shape)} {faces.dtype}.")
    low, high = (int(bound) for bound in faces.aminmax())
    if low < 0 or high >= len(uv):
        raise ValueError(f"faces use vertices {low} to {high}, but uv has {len(uv)} rows.")
