"""Triangle meshes: normals, parts, and the mesh of a UV grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region


@fp32_region()
def face_normals(vertices: Tensor, faces: Tensor, unit: bool = True) -> Tensor:
    """Normals of triangles, outward where faces are counter-clockwise seen from outside.

    Args:
        vertices: (B,V,3) in a right-handed frame (head, camera and image space all are).
        faces: (F,3) int64.
        unit: normalise; otherwise the length is twice the area. Without area the normal is 0.

    Returns:
        (B,F,3).
    """
    a, b, c = vertices[:, faces].unbind(dim=2)
    normals = torch.linalg.cross(b - a, c - a)
    return F.normalize(normals, dim=-1, eps=_tiny(normals)) if unit else normals


@fp32_region()
def vertex_normals(vertices: Tensor, faces: Tensor, by_area: bool = True) -> Tensor:
    """Unit normals of vertices: the mean of the normals of the faces around.

    Args:
        vertices: (B,V,3) in a right-handed frame.
        faces: (F,3) int64, counter-clockwise seen from outside for outward normals.
        by_area: large faces count more; otherwise all count alike (Deep3D).

    Returns:
        (B,V,3); 0 where a vertex has no face or its faces cancel.
    """
    normals = face_normals(vertices, faces, unit=not by_area)
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(1, faces[:, corner], normals)
    return F.normalize(sums, dim=-1, eps=_tiny(sums))


def subset_mesh(faces: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Keep some vertices, and the faces that have all their corners among them.

    Args:
        faces: (F,3) int64.
        keep: (V,) bool.

    Returns:
        New faces (G,3), and the old index of each vertex kept (W,), ascending.
    """
    new_index = keep.long().cumsum(0) - 1
    return new_index[faces[keep[faces].all(dim=1)]], keep.nonzero().squeeze(1)


def grid_faces(mask: Tensor) -> Tensor:
    """Triangulate the texels of a UV map: two triangles a full 2x2 cell, one where a texel lacks.

    Args:
        mask: (S,T) bool. Vertices are its true texels in row-major order.

    Returns:
        (F,3) int64, cells in row-major order. On a grid seen with
        columns to the right and rows down, the triangles run counter-clockwise: (a,d,b), (b,d,e)
        for the corners a b (upper) and d e (lower). So on a UV map whose u follows the subject's
        left and whose v points up, they are counter-clockwise seen from outside of the face.
    """
    vertex = torch.where(mask.flatten(), mask.flatten().long().cumsum(0) - 1, -1).view(mask.shape)
    a, b, d, e = (
        corner.flatten()
        for corner in (vertex[:-1, :-1], vertex[:-1, 1:], vertex[1:, :-1], vertex[1:, 1:])
    )
    present = torch.stack([a, b, d, e]) >= 0
    count = present.sum(0)
    first = torch.stack([a, d, b], dim=1)
    second = torch.stack([b, d, e], dim=1)
    three = count == 3
    for missing, triangle in ((0, (b, d, e)), (1, (a, d, e)), (2, (a, e, b)), (3, (a, d, b))):
        rows = (three & ~present[missing])[:, None]
        first = torch.where(rows, torch.stack(triangle, dim=1), first)
    candidates = torch.stack([first, second], dim=1)
    used = torch.stack([count >= 3, count == 4], dim=1)
    return candidates[used]


def _tiny(tensor: Tensor) -> float:
    """Smallest normal number: keeps only exact zeros from being normalised."""
    return float(torch.finfo(tensor.dtype).tiny)
