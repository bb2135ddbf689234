"""Vertices of a morphable model and texels of its UV map, in both directions.

The Basel Face Model has 53,215 vertices, PRNet's map 43,867 texels of a 256 x 256 square: what is
measured on one (dense errors, visibility, colours) is read on the other without a search for
nearest points.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from lit_face.geometry.uv import texel_uv, uv_resampling
from lit_face.morphable_models.base import MorphableModel


class TexelCorrespondence:
    """Barycentric weights from vertices to texels, bilinear ones from texels to vertices.

    Args:
        model: with its UV coordinates.
        size: side S of the map, texels.
        texels: (T,) flat indices (row * S + column) of the texels that count, such as PRNet's
            `face_ind`; none takes those of the model's region 'face'.

    Attributes:
        texels: (T,) int64, in the order given, or ascending.
        vertices: (N,) int64 the vertices that lie on those texels.

    Raises:
        ValueError: texels outside of the map, or that no triangle covers.
    """

    def __init__(self, model: MorphableModel, size: int, texels: Tensor | None = None) -> None:
        self.size = size
        uv = model.uv.detach().cpu()
        resampling = uv_resampling(uv, model.map_faces.cpu(), size)
        if texels is None:
            face = model.regions["face"].cpu()[:, None].float()
            texels = resampling.texels[resampling.apply(face)[:, 0] >= 0.5]
        self.texels = texels.cpu().long()
        row = torch.full((size * size,), -1).index_copy(
            0, resampling.texels, torch.arange(len(resampling.texels))
        )
        self._check(row)
        rows = row[self.texels]
        self._corners, self._weights = resampling.vertex_index[rows], resampling.weights[rows]
        inside = torch.zeros(size * size, dtype=torch.bool).index_fill(0, self.texels, True)
        self.vertices, self._texels, self._shares = self._bilinear(uv, model, inside)

    def to_texels(self, values: Tensor) -> Tensor:
        """Interpolate attributes of all vertices (...,V,C) at the texels: (...,T,C)."""
        weights = self._weights.to(values)[:, :, None]
        return (values[..., self._corners, :] * weights).sum(-2)

    def to_vertices(self, values: Tensor) -> Tensor:
        """Interpolate attributes of the texels (...,T,C) at `vertices`: (...,N,C)."""
        shares = self._shares.to(values)[:, :, None]
        return (values[..., self._texels, :] * shares).sum(-2)

    def _check(self, row: Tensor) -> None:
        low, high = int(self.texels.min()), int(self.texels.max())
        if low < 0 or high >= self.size**2:
            raise ValueError(
                f"texels {low} to {high} are not all in a map of {self.size} x {self.size}."
            )
        missing = int((row[self.texels] < 0).sum())
        if missing:
            raise ValueError(
                f"{missing} of {len(self.texels)} texels are covered by no triangle of the model: "
                "its UV layout is another one."
            )

    def _bilinear(
        self, uv: Tensor, model: MorphableModel, inside: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the vertices within a texel of the set, and four texels and shares of each.

        Next to the border, texels that do not count lose their share to the others; where no
        corner counts, the closest texel has everything.
        """
        used = model.map_faces.cpu().unique()
        places = uv[used] * (self.size - 1)
        columns, rows = places[:, 0], self.size - 1 - places[:, 1]
        left, top = (p.floor().clamp(0, self.size - 2).long() for p in (columns, rows))
        across, down = columns - left, rows - top
        shares = torch.stack(
            [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down], 1
        )
        flat = (top * self.size + left)[:, None] + torch.tensor([0, 1, self.size, self.size + 1])
        shares = shares * inside[flat]
        distance, nearest = cKDTree(texel_uv(self.texels, self.size)).query(uv[used])
        near = torch.from_numpy(distance * (self.size - 1)) < np.sqrt(0.5)
        alone = shares.sum(1) < 0.25
        slot = torch.zeros(self.size**2, dtype=torch.long).index_copy(
            0, self.texels, torch.arange(len(self.texels))
        )
        position = torch.where(alone[:, None], torch.from_numpy(nearest)[:, None], slot[flat])
        shares = torch.where(alone[:, None], torch.tensor([1.0, 0, 0, 0]), shares)
        shares = shares / shares.sum(1, keepdim=True)
        return used[near], position[near], shares[near]
