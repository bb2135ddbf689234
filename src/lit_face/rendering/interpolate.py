"""Barycentric weights and attributes at the seen points, differentiable in vertices and attributes.

The rasteriser only says which face is seen in each pixel; here weights are recomputed from it with
ordinary tensor operations, at the covered pixels only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region


@dataclass(eq=False)
class Fragments:
    """The covered pixels of a batch of images, packed.

    Attributes:
        pixel: (N,) index into the flattened (B,H,W).
        vertex: (N,3) the corners of the seen face, index into the flattened (B,V).
        weights: (N,3) barycentric, sum 1.
        shape: B, H, W.
    """

    pixel: Tensor
    vertex: Tensor
    weights: Tensor
    shape: tuple[int, int, int]

    def interpolate(self, attributes: Tensor) -> Tensor:
        """Interpolate (B,V,C) attributes of vertices at the fragments: (N,C)."""
        corners = attributes.flatten(0, 1)[self.vertex]
        return (self.weights.unsqueeze(-1) * corners).sum(1)

    def to_image(self, values: Tensor) -> Tensor:
        """Write (N,C) values into (B,C,H,W) images that are 0 elsewhere."""
        batch, height, width = self.shape
        images = values.new_zeros(batch * height * width, values.shape[1])
        images = images.index_copy(0, self.pixel, values)
        return images.view(batch, height, width, -1).permute(0, 3, 1, 2)


@fp32_region()
def fragments_of(
    image_vertices: Tensor, faces: Tensor, face_index: Tensor, perspective: bool = False
) -> Fragments:
    """Recompute the barycentric weights of the covered pixels.

    Args:
        image_vertices: (B,V,3) x, y in pixels, depth; float32 or float64.
        faces: (F,3) int64.
        face_index: (B,H,W) int64 from `rasterize`, -1 where empty.
        perspective: depth is the distance in front of a pinhole camera: weights are then those
            of the point in space that is seen, not of its projection.

    Returns:
        The fragments; weights differentiable in `image_vertices`.

    Source: homogeneous rasterisation of attributes, Blinn (1992), "Hyperbolic interpolation".
    """
    batch, height, width = face_index.shape
    pixel, vertex = _corners(face_index, faces, image_vertices.shape[1])
    planes = image_vertices.flatten(0, 1).T.contiguous()  # reads planes faster than points
    corners = planes.index_select(1, vertex.T.flatten()).view(3, 3, -1)
    line = torch.div(pixel, width, rounding_mode="floor")
    column, row = pixel - line * width, line % height
    weights = weights_at(corners, column, row, perspective)
    return Fragments(pixel, vertex, weights.T.contiguous(), (batch, height, width))


def weights_at(corners: Tensor, column: Tensor, row: Tensor, perspective: bool) -> Tensor:
    """Return the barycentric weights (3,N) of pixels in triangles.

    Args:
        corners: (3,3,N): x, y, depth in image space by corner.
        column: (N,) x of the pixels' centres.
        row: (N,) y of the pixels' centres.
        perspective: as in `fragments_of`.
    """
    x, y = corners[0] - column.to(corners.dtype), corners[1] - row.to(corners.dtype)
    # Twice the signed areas opposite each corner, relative to the pixel as in the rasteriser.
    pairs = ((1, 2), (2, 0), (0, 1))
    areas = torch.stack([x[i] * y[j] - y[i] * x[j] for i, j in pairs])
    if perspective:
        areas = areas / corners[2]
    total = areas.sum(0)
    return areas / torch.where(total == 0, 1.0, total)


def barycentric(
    image_vertices: Tensor, faces: Tensor, face_index: Tensor, perspective: bool = False
) -> Tensor:
    """Return (B,H,W,3) weights, 0 in empty pixels; arguments as in `fragments_of`."""
    fragments = fragments_of(image_vertices, faces, face_index, perspective)
    return fragments.to_image(fragments.weights).permute(0, 2, 3, 1)


@fp32_region()
def interpolate(attributes: Tensor, faces: Tensor, face_index: Tensor, weights: Tensor) -> Tensor:
    """Interpolate attributes of vertices at every pixel.

    Args:
        attributes: (B,V,C).
        faces: (F,3) int64.
        face_index: (B,H,W) int64, -1 where empty.
        weights: (B,H,W,3) from `barycentric`.

    Returns:
        (B,C,H,W), 0 in empty pixels; differentiable in attributes and weights.
    """
    batch, height, width = face_index.shape
    pixel, vertex = _corners(face_index, faces, attributes.shape[1])
    fragments = Fragments(pixel, vertex, weights.flatten(0, 2)[pixel], (batch, height, width))
    return fragments.to_image(fragments.interpolate(attributes))


def _corners(face_index: Tensor, faces: Tensor, vertex_count: int) -> tuple[Tensor, Tensor]:
    """Return the covered pixels (N,) and the flattened (B,V) index of their corners (N,3)."""
    flat = face_index.flatten()
    pixel = (flat >= 0).nonzero().squeeze(1)
    image = torch.div(pixel, face_index[0].numel(), rounding_mode="floor")
    return pixel, faces[flat[pixel]] + (image * vertex_count)[:, None]
