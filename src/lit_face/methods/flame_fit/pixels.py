"""The pixels that a fit compares: inside the mask and covered by the face, packed by photo."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_face.rendering.rasterize import rasterize


class Pixels(NamedTuple):
    """Pixels of a batch; photos with fewer than N repeat their first with weight 0.

    Attributes:
        place: (B,N) into the picture's H*W.
        corner: (B,3,N) vertices of the face that is seen there.
        weight: (B,N) of the mask.
        color: (B,3,N) of the photo.
        size: side of the picture.
    """

    place: Tensor
    corner: Tensor
    weight: Tensor
    color: Tensor
    size: int


@torch.no_grad()
def seen_pixels(points: Tensor, faces: Tensor, image: Tensor, mask: Tensor) -> Pixels:
    """Find the pixels of the mask that faces cover.

    Args:
        points: (B,V,3) pixels and depth.
        faces: (F,3) int64.
        image: (B,3,S,S).
        mask: (B,1,S,S) in [0,1].
    """
    size = image.shape[-1]
    face = rasterize(points, faces, (size, size)).flatten(1)
    weight = mask.flatten(1) * (face >= 0)
    count = max(1, int((weight > 0).sum(1).max()))
    order = torch.argsort((weight > 0).to(torch.uint8), dim=1, descending=True, stable=True)
    index = order[:, :count]
    seen = weight.gather(1, index)
    index = torch.where(seen > 0, index, index[:, :1])
    corner = faces[face.gather(1, index).clamp(min=0)].movedim(2, 1)
    color = image.flatten(2).gather(2, index[:, None].expand(-1, 3, -1))
    return Pixels(index, corner.contiguous(), seen, color, size)


def pick(values: Tensor, corner: Tensor) -> Tensor:
    """Return values (B,C,V) at corners (B,3,N): (B,C,3,N)."""
    batch, channels, _ = values.shape
    index = corner.flatten(1)[:, None].expand(-1, channels, -1)
    return values.gather(2, index).view(batch, channels, 3, -1)


def weights_of(pixels: Pixels, points: Tensor) -> Tensor:
    """Return barycentric weights (B,3,N), differentiable in points (B,V,2 or 3), pixels."""
    corners = pick(points[..., :2].mT, pixels.corner)
    row = torch.div(pixels.place, pixels.size, rounding_mode="floor")
    column = pixels.place - row * pixels.size
    x = corners[:, 0] - column[:, None].to(corners)
    y = corners[:, 1] - row[:, None].to(corners)
    areas = torch.stack(
        [x[:, i] * y[:, j] - y[:, i] * x[:, j] for i, j in ((1, 2), (2, 0), (0, 1))], 1
    )
    total = areas.sum(1, keepdim=True)
    return areas / torch.where(total == 0, 1.0, total)


def mix(weights: Tensor, values: Tensor) -> Tensor:
    """Mix values (B,C,3,N) of corners with weights (B,3,N): (B,C,N)."""
    return (weights[:, None] * values).sum(2)
