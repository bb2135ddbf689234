"""Covered pixels as rows of equal length, one row an image, so that each reads its image's maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lit_face.rendering.interpolate import Fragments


@dataclass(eq=False)
class Packing:
    """Where the fragments of a batch lie in (B,M) rows, M the most that any image has.

    Attributes:
        slot: (N,) place of each fragment in the flattened (B,M).
        pixel: (B,M) index into the flattened (H,W); H * W in the unused places.
        size: H, W.
    """

    slot: Tensor
    pixel: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, fragments: Fragments) -> Self:
        """Pack fragments, which come image after image."""
        batch, height, width = fragments.shape
        area = height * width
        image = torch.div(fragments.pixel, area, rounding_mode="floor")
        counts = torch.bincount(image, minlength=batch)
        longest = max(int(counts.max()), 1) if batch else 1
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(image), device=image.device) - first[image]
        slot = image * longest + rank
        pixel = torch.full((batch * longest,), area, device=image.device)
        pixel[slot] = fragments.pixel - image * area
        return cls(slot, pixel.view(batch, longest), (height, width))

    def to_rows(self, values: Tensor) -> Tensor:
        """Spread (N,C) values to planes (B,C,M), 0 in the unused places."""
        rows = values.new_zeros(self.pixel.numel(), values.shape[1])
        rows = rows.index_copy(0, self.slot, values).view(*self.pixel.shape, -1)
        return rows.mT.contiguous()

    def to_image(self, values: Tensor) -> Tensor:
        """Write (B,C,M) values into (B,C,H,W) images that are 0 elsewhere."""
        batch, channels, _ = values.shape
        images = values.new_zeros(batch, channels, self.size[0] * self.size[1] + 1)
        index = self.pixel[:, None].expand_as(values)
        return images.scatter(2, index, values)[..., :-1].reshape(batch, channels, *self.size)

    def centres(self, dtype: torch.dtype) -> Tensor:
        """Return the pixels' centres (B,3,M), homogeneous: x, y, 1."""
        row = torch.div(self.pixel, self.size[1], rounding_mode="floor")
        column = self.pixel - row * self.size[1]
        return torch.stack([column, row, torch.ones_like(row)], dim=1).to(dtype)


def unit_planes(vectors: Tensor) -> Tensor:
    """Normalise (B,3,M) vectors; 0 stays 0."""
    squared = (vectors * vectors).sum(1, keepdim=True)
    return vectors * squared.clamp(min=1e-20).rsqrt()
