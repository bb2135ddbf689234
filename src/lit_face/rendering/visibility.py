"""Which vertices the camera sees."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize


@fp32_region()
@torch.no_grad()
def vertex_visibility(
    image_vertices: Tensor,
    faces: Tensor,
    size: tuple[int, int],
    tolerance: float = 0.01,
    mirrored: Tensor | None = None,
    perspective: bool = False,
) -> Tensor:
    """Tell for each vertex whether it is seen: in the image, front-facing, and not behind a face.

    Args:
        image_vertices: (B,V,3) x, y in pixels, smaller depth = nearer.
        faces: (F,3) int64, counter-clockwise seen from outside.
        size: height and width, pixels.
        tolerance: how far a vertex may lie behind the depth buffer, as a fraction of the mesh's
            extent in depth (0.01 is about 2 mm on a head).
        mirrored: (B,) bool, true where the camera mirrors (negative determinant); None for none.
        perspective: depth is the distance in front of a pinhole camera.

    Returns:
        (B,V) 1 for seen and 0 for hidden, in the dtype of the vertices.
    """
    face_index = rasterize(image_vertices, faces, size, perspective=perspective)
    fragments = fragments_of(image_vertices, faces, face_index, perspective)
    x, y, depth = image_vertices.unbind(-1)
    buffer = torch.full(face_index.shape, torch.inf, dtype=depth.dtype, device=depth.device)
    buffer.view(-1)[fragments.pixel] = fragments.interpolate(image_vertices)[:, 2]

    height, width = size
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    farthest = torch.full_like(depth, -torch.inf)
    for column in (x.floor(), x.ceil()):
        for row in (y.floor(), y.ceil()):
            pixel = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            pixel = torch.where(inside, pixel, 0).long()
            farthest = torch.maximum(farthest, buffer.flatten(1).gather(1, pixel))
    slack = tolerance * (depth.amax(1) - depth.amin(1))
    unhidden = depth <= farthest + slack[:, None]
    return (inside & unhidden & front_facing(image_vertices, faces, mirrored)).to(depth.dtype)


def front_facing(image_vertices: Tensor, faces: Tensor, mirrored: Tensor | None = None) -> Tensor:
    """Return (B,V) bool: the faces around a vertex, seen together, show their front.

    Arguments as in `vertex_visibility`. A front has its corners clockwise on the picture as one
    computes with y down, i.e. a negative signed area.
    """
    a, b, c = image_vertices[:, faces, :2].unbind(2)
    area = (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]
    sums = torch.zeros_like(image_vertices[..., 0])
    for corner in range(3):
        sums = sums.index_add(1, faces[:, corner], area)
    if mirrored is not None:
        sums = torch.where(mirrored[:, None], -sums, sums)
    return sums < 0
