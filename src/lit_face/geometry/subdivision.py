"""Midpoint subdivision of triangle meshes, and moving vertices along their normals by a map."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image

Lookup = Literal["bilinear", "reference"]
_CURVATURE = 0.5  # with which a midpoint of two points of a circle lies on it, to third order


class Subdivision(NamedTuple):
    """Each face split into four; new vertices come after the old ones, one an edge.

    Attributes:
        faces: (4F,3) int64, the old ones' winding; rows f, F+f, 2F+f are the corners of face f and
            3F+f its middle.
        edges: (E,2) int64, the ends between which the new vertices lie, ascending.
    """

    faces: Tensor
    edges: Tensor


def split_faces(faces: Tensor, vertex_count: int) -> Subdivision:
    """Split faces (F,3) at the middles of their edges; neighbours share the new vertex."""
    pairs = torch.stack([faces, faces.roll(-1, dims=1)], dim=-1).flatten(0, 1).sort(dim=1).values
    keys, place = torch.unique(pairs[:, 0] * vertex_count + pairs[:, 1], return_inverse=True)
    edges = torch.stack([keys // vertex_count, keys % vertex_count], dim=1)
    a, b, c = faces.unbind(1)
    ab, bc, ca = (place.view(-1, 3) + vertex_count).unbind(1)
    corners = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return Subdivision(torch.cat([torch.stack(rows, dim=1) for rows in corners]), edges)


def with_midpoints(attributes: Tensor, edges: Tensor) -> Tensor:
    """Append to attributes of vertices (V,C) the means of the edges' ends: (V+E,C)."""
    return torch.cat([attributes, attributes[edges].mean(1)])


@fp32_region()
def with_curved_midpoints(vertices: Tensor, normals: Tensor, edges: Tensor) -> Tensor:
    """Append points between the edges' ends that follow the curvature which the normals tell.

    The middle of an edge is drawn towards the tangent planes at its ends, as in Phong tessellation
    (Boubekeur & Alexa 2008), half way, which is right for circles. A point depends on its edge
    alone, so that neighbouring faces still meet.

    Args:
        vertices: (V,3).
        normals: (V,3) unit.
        edges: (E,2) int64.

    Returns:
        (V+E,3).
    """
    ends, planes = vertices[edges], normals[edges]
    middle = ends.mean(1)
    height = ((middle[:, None] - ends) * planes).sum(-1, keepdim=True)
    return torch.cat([vertices, middle - _CURVATURE * (height * planes).mean(1)])


@fp32_region()
def displaced(
    vertices: Tensor,
    normals: Tensor,
    uv: Tensor,
    displacement: Tensor,
    mm_per_unit: float = 1.0,
    lookup: Lookup = "bilinear",
) -> Tensor:
    """Move vertices along their normals by a displacement map.

    Args:
        vertices: (V,3) in any unit.
        normals: (V,3) unit, outward.
        uv: (V,2) in the map's square, u right, v up.
        displacement: (H,W) mm, positive outwards, row 0 on top.
        mm_per_unit: of the vertices.
        lookup: 'bilinear' between texel centres, or 'reference': the texel at row H - int(v H) and
            column int(u W), as the release reads it.

    Returns:
        (V,3) in the unit of `vertices`.

    Raises:
        ValueError: unknown lookup, or no positive scale.
    """
    if not mm_per_unit > 0:
        raise ValueError(f"mm_per_unit should be positive, found {mm_per_unit}.")
    height, width = displacement.shape
    if lookup == "reference":
        row = (height - (uv[:, 1] * height).long()).clamp(0, height - 1)
        column = (uv[:, 0] * width).long().clamp(0, width - 1)
        found = displacement[row, column]
    elif lookup == "bilinear":
        pixels = torch.stack([uv[:, 0] * width, (1 - uv[:, 1]) * height], dim=1) - 0.5
        found = sample_image(displacement[None, None], pixels[None], padding="border")[0, 0]
    else:
        raise ValueError(f"lookup should be 'bilinear' or 'reference', found {lookup!r}.")
    return vertices + normals * (found / mm_per_unit).to(vertices)[:, None]


@fp32_region()
def eye_distance_scale(vertices: Tensor, pair: tuple[int, int], eye_distance: float) -> float:
    """Return the millimetres a unit that make two vertices lie `eye_distance` mm apart.

    FaceScape's maps hold at 40 mm between the inner corners of the eyes; the release takes two
    vertices of its own face mask and 60.

    Raises:
        ValueError: both vertices lie in one place.
    """
    length = float(torch.linalg.vector_norm(vertices[pair[0]] - vertices[pair[1]]))
    if not length > 0:
        raise ValueError(f"vertices {pair[0]} and {pair[1]} lie in one place; no scale from them.")
    return eye_distance / length


@fp32_region()
def interpolated_normals(normals: Tensor, edges: Tensor) -> Tensor:
    """Append unit normals between the edges' ends (V+E,3)."""
    return F.normalize(with_midpoints(normals, edges), dim=-1)
