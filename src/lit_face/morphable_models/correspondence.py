"""Dense correspondence between two head models: warp one onto the other, then closest points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from torch import Tensor

Array = NDArray[Any]

_CANDIDATE_VERTICES = 16
_REFINEMENTS = ((900, 12.0), (1800, 8.0))  # control points; farthest pair that counts, mm


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points that stick to a mesh, whatever its shape.

    Attributes:
        vertex_index: (N,3) int64 corners of the triangles that hold the points.
        weights: (N,3) barycentric weights, sum 1.
        distance: (N,) mm from the query to its point, on the shapes compared.
    """

    vertex_index: Tensor
    weights: Tensor
    distance: Tensor

    def carry(self, attributes: Tensor) -> Tensor:
        """Interpolate attributes of the mesh (...,V,C) at the points: (...,N,C)."""
        corners = attributes[..., self.vertex_index, :]
        return (corners * self.weights.to(attributes)[:, :, None]).sum(-2)


def closest_points(
    queries: Tensor, vertices: Tensor, faces: Tensor, candidates: int = _CANDIDATE_VERTICES
) -> SurfacePoints:
    """Find the closest point of a mesh to each query.

    Looks at the triangles around the nearest vertices, which is exact for meshes whose triangles
    are of similar size.

    Args:
        queries: (N,3).
        vertices: (V,3) of the mesh.
        faces: (F,3) int64.
        candidates: nearest vertices whose triangles are looked at; 4 do for fine meshes, faster.
    """
    points, corners = vertices.double().numpy(), faces.numpy()
    used = np.unique(corners)
    around = _faces_around(corners, len(points))
    _, nearest = cKDTree(points[used]).query(queries.numpy(), k=min(candidates, len(used)))
    tried = around[used[nearest]].reshape(len(queries), -1)
    best = np.full(len(queries), np.inf)
    index = np.zeros((len(queries), 3), dtype=np.int64)
    weights = np.zeros((len(queries), 3))
    query = queries.double().numpy()
    for column in tried.T:
        valid = column >= 0
        triangle = corners[np.maximum(column, 0)]
        share = _closest_weights(query, points[triangle])
        distance = np.linalg.norm((points[triangle] * share[..., None]).sum(1) - query, axis=1)
        better = valid & (distance < best)
        best = np.where(better, distance, best)
        index[better], weights[better] = triangle[better], share[better]
    return SurfacePoints(
        torch.from_numpy(index), torch.from_numpy(weights).float(), torch.from_numpy(best).float()
    )


def warp_mesh(
    vertices: Tensor, anchors: Tensor, targets: Tensor, surface: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Bend a mesh so that its anchors meet their targets, and then onto a surface.

    Thin-plate splines through the anchors; then twice more through evenly spread vertices and the
    closest points of the surface, where these are near.

    Args:
        vertices: (V,3) mm.
        anchors: (A,3) points of the mesh.
        targets: (A,3) where they belong.
        surface: vertices (W,3) and faces (G,3) to bend onto; none stops after the anchors.

    Returns:
        (V,3) the mesh in its new shape.
    """
    source, goal = anchors.double().numpy(), targets.double().numpy()
    shape = RBFInterpolator(source, goal, smoothing=1e-3)(vertices.double().numpy())
    if surface is None:
        return torch.from_numpy(shape).float()
    generator = np.random.default_rng(0)
    for count, reach in _REFINEMENTS:
        chosen = generator.permutation(len(shape))[: 4 * count]
        found = closest_points(torch.from_numpy(shape[chosen]), *surface)
        near = np.flatnonzero(found.distance.numpy() < reach)[:count]
        meets = found.carry(surface[0].double()).numpy()[near]
        start, end = shape[chosen[near]], meets
        smooth = RBFInterpolator(start, end - start, neighbors=60, smoothing=5.0, kernel="linear")
        shape = shape + smooth(shape)
    return torch.from_numpy(shape).float()


def _faces_around(faces: Array, count: int) -> Array:
    """Return the faces around each vertex (V, most), -1 pads."""
    corner = faces.reshape(-1)
    order = np.argsort(corner, kind="stable")
    number = np.bincount(corner, minlength=count)
    table = np.full((count, int(number.max())), -1, dtype=np.int64)
    place = np.arange(len(corner)) - np.repeat(np.cumsum(number) - number, number)
    table[corner[order], place] = order // 3
    return table


def _closest_weights(point: Array, triangle: Array) -> Array:
    """Barycentric weights (N,3) of the points of triangles (N,3,3) closest to points (N,3).

    Source: Ericson (2005), "Real-time collision detection", section 5.1.5: the projection where it
    falls inside, else the best of the three clamped edges.
    """
    a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
    ab, ac, ap = b - a, c - a, point - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    weights = np.stack([1 - v - w, v, w], axis=1)
    best = np.where((weights >= 0).all(1), 0.0, np.inf)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, edge = triangle[:, first], triangle[:, second] - triangle[:, first]
        along = ((point - start) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-18)
        along = np.clip(along, 0, 1)
        distance = np.linalg.norm(start + along[:, None] * edge - point, axis=1)
        closer = distance < best
        best = np.where(closer, distance, best)
        on_edge = np.zeros_like(weights)
        on_edge[:, first], on_edge[:, second] = 1 - along, along
        weights = np.where(closer[:, None], on_edge, weights)
    return weights
