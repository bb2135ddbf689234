"""The mesh of a position map with relief: triangles split along the curvature, then displaced."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.meshes import grid_faces, subset_mesh
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.subdivision import (
    displaced,
    interpolated_normals,
    split_faces,
    with_curved_midpoints,
    with_midpoints,
)
from lit_face.geometry.surface_maps import SurfaceMaps, surface_normals


class DetailedMesh(NamedTuple):
    """A mesh over a UV square.

    Attributes:
        vertices: (V,3) in the units of the position map.
        faces: (F,3) int64, counter-clockwise seen from outside.
        uv: (V,2) u right, v up; texel-centred, as textures of the same square are.
        normals: (V,3) unit, of the surface without relief.
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor
    normals: Tensor


@torch.no_grad()
@fp32_region()
def detailed_mesh(
    position: Tensor,
    mask: Tensor,
    displacement: Tensor | None = None,
    levels: int = 2,
    outward: Tensor | None = None,
    mm_per_unit: float = 1.0,
) -> DetailedMesh:
    """Make the mesh of a position map, split its triangles and add relief.

    Neighbouring faces share their vertices, so that nothing tears. New vertices follow the
    curvature of the surface; relief goes along normals interpolated from the texels', not along
    those of the facets.

    Args:
        position: (S,S,3) world frame.
        mask: (S,S), non-zero where the surface is.
        displacement: (T,T) mm along the normal over the same square, texel-centred; None for none.
        levels: how often each triangle becomes four.
        outward: (S,S,3) rough normals, where columns to the right and rows down are not as seen
            from outside.
        mm_per_unit: of `position`.

    Raises:
        ValueError: no four texels of the mask are neighbours, or a negative level.
    """
    if levels < 0:
        raise ValueError(f"levels should be 0 or more, found {levels}.")
    known = mask > 0
    planes = position.movedim(-1, 0)
    sides = None if outward is None else outward.movedim(-1, 0)
    faces = grid_faces(known)
    if not len(faces):
        raise ValueError("the mask of the position map has no cell of texels: there is no mesh.")
    size = known.shape[0]
    row, column = (axis.to(planes) for axis in known.nonzero(as_tuple=True))
    uv = torch.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], dim=1)
    normals = surface_normals(planes, known, sides)[:, known].T
    if sides is not None and _is_inside_out(position[known], faces, normals):
        faces = faces.flip(1)
    used = torch.zeros(len(uv), dtype=torch.bool, device=faces.device)
    used[faces.flatten()] = True
    faces, kept = subset_mesh(faces, used)
    vertices, uv, normals = position[known][kept], uv[kept], normals[kept]
    for _ in range(levels):
        split = split_faces(faces, len(vertices))
        vertices = with_curved_midpoints(vertices, normals, split.edges)
        uv, normals = with_midpoints(uv, split.edges), interpolated_normals(normals, split.edges)
        faces = split.faces
    if displacement is not None:
        vertices = displaced(vertices, normals, uv, displacement, mm_per_unit)
    return DetailedMesh(vertices, faces, uv, normals)


@fp32_region()
def tangent_normals(surface: SurfaceMaps, displacement: Tensor, mm_per_unit: float = 1.0) -> Tensor:
    """Return what relief does to a surface's normals, for normal maps.

    Args:
        surface: maps at the displacement's side.
        displacement: (T,T) mm along the normal.
        mm_per_unit: of the surface.

    Returns:
        (3,T,T) unit: along columns to the right, along rows upwards, outwards (OpenGL's and
        glTF's axes); (0, 0, 1) beside the mask.
    """
    normal = surface.normal
    right, up = (  # in the tangent plane, so that texels' facets do not show
        step - (step * normal).sum(0) * normal
        for step in (_step(surface.position, -1), -_step(surface.position, -2))
    )
    relief = displacement[None].to(normal) / mm_per_unit
    tilted = torch.linalg.cross(
        right + _step(relief, -1) * normal, up - _step(relief, -2) * normal, dim=0
    )
    tilted = F.normalize(tilted * (tilted * normal).sum(0).sign(), dim=0)
    tangent = F.normalize(right, dim=0)
    across = torch.linalg.cross(normal, tangent, dim=0)
    across = across * (across * up).sum(0).sign()
    local = torch.stack([(tilted * axis).sum(0) for axis in (tangent, across, normal)])
    inner = surface.mask & (local[2] > 0)
    flat = local.new_tensor([0.0, 0, 1])[:, None, None]
    return torch.where(inner, local, flat)


def _step(values: Tensor, axis: int) -> Tensor:
    """Return central differences (C,T,T) along an axis, to the outermost texels repeated."""
    index = torch.arange(values.shape[axis], device=values.device)
    after = values.index_select(axis, (index + 1).clamp(max=len(index) - 1))
    before = values.index_select(axis, (index - 1).clamp(min=0))
    return (after - before) / 2


def _is_inside_out(points: Tensor, faces: Tensor, normals: Tensor) -> bool:
    a, b, c = points[faces].unbind(1)
    return bool((torch.linalg.cross(b - a, c - a) * normals[faces[:, 0]]).sum() < 0)
