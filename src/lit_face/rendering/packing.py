"""Covered pixels as rows of equal length, one row an image, so that each reads its image's maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.rendering.interpolate import weights_at


@dataclass(eq=False)
class Packing:
    """The covered pixels of a batch in planes (B,C,M), M the most that any image has.

    Attributes:
        pixel: (B,M) index into the flattened (H,W); H * W in the unused places.
        vertex: (3,B*M) corners of the seen face, index into the flattened (B,V); 0 in the unused.
        weights: (3,B*M) barycentric, sum 1; 0 in the unused places.
        size: H, W.
    """

    pixel: Tensor
    vertex: Tensor
    weights: Tensor
    size: tuple[int, int]

    def interpolate(self, attributes: Tensor) -> Tensor:
        """Interpolate attributes of vertices, planes (C,B*V): (B,C,M)."""
        corners = attributes.index_select(1, self.vertex.flatten())
        corners = corners.view(-1, *self.weights.shape)
        values = (corners * self.weights).sum(1)
        return values.view(-1, *self.pixel.shape).transpose(0, 1)

    def to_image(self, values: Tensor) -> Tensor:
        """Write (B,C,M) values into (B,C,H,W) images that are 0 elsewhere."""
        batch, channels, _ = values.shape
        images = values.new_zeros(batch, channels, self.size[0] * self.size[1] + 1)
        index = self.pixel[:, None].expand_as(values)
        return images.scatter(2, index, values)[..., :-1].reshape(batch, channels, *self.size)

    def centres(self, dtype: torch.dtype) -> Tensor:
        """Return the pixels' centres (B,3,M), homogeneous: x, y, 1."""
        column, row = _column_and_row(self.pixel, self.size[1])
        return torch.stack([column, row, torch.ones_like(row)], dim=1).to(dtype)


@fp32_region()
def pack(image_vertices: Tensor, faces: Tensor, face_index: Tensor, perspective: bool) -> Packing:
    """Pack the covered pixels; arguments as in `lit_face.rendering.interpolate.fragments_of`."""
    batch, height, width = face_index.shape
    area = height * width
    flat = face_index.flatten()
    source = (flat >= 0).nonzero().squeeze(1)  # image after image
    image = torch.div(source, area, rounding_mode="floor")
    counts = torch.bincount(image, minlength=batch)
    longest = max(int(counts.max()), 1) if batch else 1
    images = torch.arange(batch, device=flat.device)
    # Fragment i of the batch goes to place i plus the unused places of the images before.
    slot = torch.arange(len(source), device=flat.device) + (
        images * longest - counts.cumsum(0) + counts
    ).index_select(0, image)
    pixel = torch.full((batch * longest,), area, device=flat.device)
    pixel = pixel.index_copy(0, slot, source - image * area)
    # Unused places point at a face that is seen, so that nothing there is infinite.
    seen = face_index.flatten(1).amax(1).clamp(min=0).repeat_interleave(longest)
    seen = seen.index_copy(0, slot, flat.index_select(0, source))
    vertex = faces.T.contiguous().index_select(1, seen).view(3, batch, longest)
    vertex = (vertex + images[:, None] * image_vertices.shape[1]).view(3, -1)

    planes = image_vertices.flatten(0, 1).T.contiguous()
    corners = planes.index_select(1, vertex.flatten()).view(3, 3, -1)
    weights = weights_at(corners, *_column_and_row(pixel, width), perspective)
    weights = torch.where(pixel < area, weights, 0.0)
    return Packing(pixel.view(batch, longest), vertex, weights, (height, width))


def _column_and_row(pixel: Tensor, width: int) -> tuple[Tensor, Tensor]:
    row = torch.div(pixel, width, rounding_mode="floor")
    return pixel - row * width, row


def unit_planes(vectors: Tensor) -> Tensor:
    """Normalise (B,3,M) vectors; 0 stays 0."""
    squared = (vectors * vectors).sum(1, keepdim=True)
    return vectors * squared.clamp(min=1e-20).rsqrt()
