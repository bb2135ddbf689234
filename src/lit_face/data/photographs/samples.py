"""Anti-aliased sampling: one sample in even pixels, four in pixels with an outline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.rendering.rasterize import rasterize

_OUTLINE = 2.5  # pixels of depth between neighbours that make an outline
_CORNERS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(eq=False)
class Samples:
    """Points of the mesh to be shaded, and how they make up the pictures.

    Attributes:
        pixel: (N,) index into the flattened (B,H,W).
        vertex: (N,3) corners of the seen face, index into the flattened (B,V).
        weights: (N,3) barycentric.
        image: (N,) picture of each sample.
        shape: B, H, W.
        even: number of leading samples that fill a pixel alone; the others come in fours.
        covered: (N - even,) 1 where a sample of an outline pixel hits the mesh.
    """

    pixel: Tensor
    vertex: Tensor
    weights: Tensor
    image: Tensor
    shape: tuple[int, int, int]
    even: int
    covered: Tensor

    def interpolate(self, attributes: Tensor, rows: Tensor | None = None) -> Tensor:
        """Interpolate (B,V,C) attributes at the samples, or at some rows of them: (N,C)."""
        vertex, weights = self.vertex, self.weights
        if rows is not None:
            vertex, weights = vertex[rows], weights[rows]
        table = attributes.flatten(0, 1)
        # One fused pass: a weighted sum of three table rows.
        return functional.embedding_bag(vertex, table, per_sample_weights=weights, mode="sum")

    def resolve(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Average (N,C) values into pictures (B,C,H,W) and give the mesh's share (B,1,H,W)."""
        batch, height, width = self.shape
        ones = torch.ones_like(values[:, :1])
        values = torch.cat([values, ones], dim=1)
        quads = (values[self.even :] * self.covered[:, None]).view(-1, 4, values.shape[1]).mean(1)
        pixel = self.pixel
        flat = values.new_zeros(batch * height * width, values.shape[1])
        flat.index_copy_(0, pixel[: self.even], values[: self.even])
        flat.index_copy_(0, pixel[self.even :: 4], quads)
        image = flat.view(batch, height, width, -1).permute(0, 3, 1, 2)
        return image[:, :-1], image[:, -1:]


def sample_surface(
    image_vertices: Tensor, faces: Tensor, part: Tensor, size: tuple[int, int]
) -> Samples:
    """Find what every pixel sees, at twice the resolution, and choose the samples to shade.

    Args:
        image_vertices: (B,V,3) pixels and depth in the same scale.
        faces: (F,3).
        part: (F,) int64, which object a face belongs to; borders of objects are outlines.
        size: height and width.
    """
    height, width = size
    batch = len(image_vertices)
    fine = torch.cat([2 * image_vertices[..., :2] + 0.5, image_vertices[..., 2:]], dim=-1)
    found = rasterize(fine, faces, (2 * height, 2 * width))
    quads = [found[:, y::2, x::2].flatten(1) for y in (0, 1) for x in (0, 1)]
    # One corner stands for its face; objects lie on different levels, emptiness on one of its own.
    level = image_vertices[..., 2].index_select(1, faces[:, 0]) + 1e4 * (part + 1)
    level = torch.cat([level.new_zeros(batch, 1), level], dim=1)
    depth = [level.gather(1, quad + 1) for quad in quads]
    lowest = torch.minimum(torch.minimum(*depth[:2]), torch.minimum(*depth[2:]))
    highest = torch.maximum(torch.maximum(*depth[:2]), torch.maximum(*depth[2:]))
    is_even = (highest - lowest < _OUTLINE) & (highest > 0)
    outline = ((highest > 0) & ~is_even).flatten().nonzero()[:, 0]
    plain = is_even.flatten().nonzero()[:, 0]
    around = torch.stack([quad.flatten()[outline] for quad in quads], dim=1)
    pixel = torch.cat([plain, outline.repeat_interleave(4)])
    face = torch.cat([quads[0].flatten()[plain], around.flatten().clamp(min=0)])
    corner = fine.new_tensor(_CORNERS).repeat(len(outline), 1)
    shift = torch.cat([corner.new_zeros(len(plain), 2), corner])
    image = torch.div(pixel, height * width, rounding_mode="floor")
    within = pixel - image * (height * width)
    row = torch.div(within, width, rounding_mode="floor")
    place = torch.stack([within - row * width, row], dim=1) + shift
    vertex = faces.index_select(0, face) + (image * image_vertices.shape[1])[:, None]
    corners = image_vertices[..., :2].index_select(1, faces.flatten()).view(-1, 6)
    weights = _barycentric(corners.index_select(0, face + image * len(faces)), place)
    covered = (around.flatten() >= 0).to(weights.dtype)
    shape = (batch, height, width)
    return Samples(pixel, vertex, weights, image, shape, len(plain), covered)


def _barycentric(points: Tensor, place: Tensor) -> Tensor:
    """Weights (N,3) of corners (N,6) at places (N,2); a little outside of the face is allowed."""
    x0, y0, x1, y1, x2, y2 = (points - place.repeat(1, 3)).unbind(1)
    areas = torch.stack([x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1], dim=1)
    total = areas.sum(1, keepdim=True)
    weights = (areas / torch.where(total == 0, 1.0, total)).clamp(-0.5, 1.5)
    return weights / weights.sum(1, keepdim=True).clamp(min=0.5)
