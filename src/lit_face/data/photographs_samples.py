"""Anti-aliased sampling: one sample in even pixels, four in pixels with an outline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_face.rendering.interpolate import Fragments
from lit_face.rendering.rasterize import rasterize

_OUTLINE = 2.5  # pixels of depth between neighbours that make an outline
_CORNERS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(eq=False)
class Samples:
    """Points of the mesh to be shaded, and how they make up the pictures.

    Attributes:
        fragments: all samples; `fragments.pixel` indexes the flattened (B,H,W).
        image: (N,) picture of each sample.
        even: number of leading samples that fill a pixel alone; the others come in fours.
        covered: (N - even,) 1 where a sample of an outline pixel hits the mesh.
    """

    fragments: Fragments
    image: Tensor
    even: int
    covered: Tensor

    def resolve(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Average (N,C) values into pictures (B,C,H,W) and give the mesh's share (B,1,H,W)."""
        batch, height, width = self.fragments.shape
        ones = torch.ones_like(values[:, :1])
        values = torch.cat([values, ones], dim=1)
        quads = (values[self.even :] * self.covered[:, None]).view(-1, 4, values.shape[1]).mean(1)
        pixel = self.fragments.pixel
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
    quads = found.view(batch, height, 2, width, 2).permute(0, 1, 3, 2, 4).reshape(batch, -1, 4)
    hit = quads >= 0
    level = image_vertices[..., 2][:, faces].mean(-1) + 1e4 * part
    depth = level.gather(1, quads.clamp(min=0).flatten(1)).view_as(hit)
    count = hit.sum(-1)
    spread = depth.amax(-1) - depth.amin(-1)
    full = count == 4
    even = full & (spread < _OUTLINE)
    outline = ((count > 0) & ~even).flatten().nonzero()[:, 0]
    plain = even.flatten().nonzero()[:, 0]
    quads, hit = quads.flatten(0, 1), hit.flatten(0, 1)
    pixel = torch.cat([plain, outline.repeat_interleave(4)])
    face = torch.cat([quads[plain, 0], quads[outline].flatten().clamp(min=0)])
    corner = fine.new_tensor(_CORNERS).repeat(len(outline), 1)
    shift = torch.cat([corner.new_zeros(len(plain), 2), corner])
    image = torch.div(pixel, height * width, rounding_mode="floor")
    within = pixel - image * (height * width)
    row = torch.div(within, width, rounding_mode="floor")
    place = torch.stack([within - row * width, row], dim=1) + shift
    vertex = faces[face] + (image * image_vertices.shape[1])[:, None]
    weights = _barycentric(image_vertices.flatten(0, 1)[vertex], place)
    fragments = Fragments(pixel, vertex, weights, (batch, height, width))
    return Samples(fragments, image, len(plain), hit[outline].flatten().to(weights.dtype))


def _barycentric(points: Tensor, place: Tensor) -> Tensor:
    """Weights (N,3) of corners (N,3,3) at places (N,2); a little outside of the face is allowed."""
    x = points[..., 0] - place[:, :1]
    y = points[..., 1] - place[:, 1:]
    (x0, x1, x2), (y0, y1, y2) = x.unbind(1), y.unbind(1)
    areas = torch.stack([x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1], dim=1)
    total = areas.sum(1, keepdim=True)
    weights = (areas / torch.where(total == 0, 1.0, total)).clamp(-0.5, 1.5)
    return weights / weights.sum(1, keepdim=True).clamp(min=0.5)
