"""Where lines meet a mesh: the signed distance to the nearest hit, and whether anything is met.

Embree finds the triangles in single precision; where the line meets them is computed in double.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_STEP = 2e-6  # of the mesh's extent: a little above the resolution of single precision
_SLACK = 1e-2  # barycentric: how far beyond a triangle's edge a line may meet its plane


class SurfaceRays:
    """A mesh that rays are shot at; every triangle has two sides.

    Args:
        vertices: (V,3).
        faces: (F,3), at least one.

    Raises:
        ValueError: no faces, or vertices that are not finite.
    """

    def __init__(self, vertices: Array, faces: Array) -> None:
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector

        if not len(faces) or not np.isfinite(vertices).all():
            raise ValueError("Rays need a mesh with faces and finite vertices.")
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        self.extent = float(np.ptp(vertices, axis=0).max())
        self.triangles = np.asarray(vertices, np.float64)[faces]
        self._caster = RayMeshIntersector(mesh)

    def first(self, points: Array, directions: Array) -> Array:
        """Return the triangle (N,) that each ray meets first, -1 where it meets none.

        Args:
            points: (N,3) where the rays start.
            directions: (N,3), of any length but 0.
        """
        if not len(points):
            return np.zeros(0, np.int64)
        found = self._caster.intersects_first(points, directions)
        return np.asarray(found, np.int64)

    def is_hit(self, points: Array, directions: Array) -> Array:
        """Return (N,) whether each ray meets the mesh."""
        return self.first(points, directions) >= 0

    def signed_distance(self, points: Array, directions: Array, limit: float) -> Array:
        """Return the signed distance (N,) of `signed_distance_along`; NaN without a hit."""
        length = np.linalg.norm(directions, axis=1)
        usable = np.flatnonzero((length > 0) & np.isfinite(length) & np.isfinite(points).all(1))
        starts = np.asarray(points, np.float64)[usable]
        along = np.asarray(directions, np.float64)[usable] / length[usable, None]
        sideways = np.cross(along, np.eye(3)[np.abs(along).argmin(axis=1)])
        step = _STEP * self.extent
        best = np.full(len(usable), np.nan)
        # Single precision may slip through an edge, so each line has a neighbour close by; rays
        # start a step behind the point, which may lie in the surface.
        for shift in (0.0, step):
            for ray in (along, -along):
                triangle = self.first(starts + shift * sideways - step * ray, ray)
                distance = self._meeting(starts, along, triangle)
                nearer = ~(np.abs(distance) >= np.abs(best)) & np.isfinite(distance)
                best[nearer] = distance[nearer]
        best[np.abs(best) > limit] = np.nan
        found = np.full(len(points), np.nan)
        found[usable] = best
        return found

    def _meeting(self, points: Array, along: Array, triangle: Array) -> Array:
        """Return where the lines meet the planes of triangles; NaN outside of the triangle."""
        distance = np.full(len(points), np.nan)
        rows = np.flatnonzero(triangle >= 0)
        corner, b, c = np.moveaxis(self.triangles[triangle[rows]], 1, 0)
        first, second, rest = b - corner, c - corner, points[rows] - corner
        # Moeller and Trumbore (1997), "Fast, minimum storage ray/triangle intersection".
        across = np.cross(along[rows], second)
        determinant = (first * across).sum(1)
        turned = np.cross(rest, first)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = (rest * across).sum(1) / determinant
            v = (along[rows] * turned).sum(1) / determinant
            along_ray = (second * turned).sum(1) / determinant
            inside = (u >= -_SLACK) & (v >= -_SLACK) & (u + v <= 1 + _SLACK)
        distance[rows] = np.where(inside, along_ray, np.nan)
        return distance


def signed_distance_along(
    points: Array, directions: Array, vertices: Array, faces: Array, limit: float
) -> tuple[Array, Array]:
    """Follow lines both ways to the nearest place where they meet a mesh.

    Args:
        points: (N,3).
        directions: (N,3), of any length.
        vertices: (V,3) of the mesh, in the units of the points.
        faces: (F,3); both of their sides count.
        limit: hits that are further away are none.

    Returns:
        Distance (N,), positive along the direction, 0 without a hit; and (N,) bool, whether there
        is one. A direction without length, or a point that is not finite, has none.
    """
    found = SurfaceRays(vertices, faces).signed_distance(points, directions, limit)
    is_hit = np.isfinite(found)
    return np.where(is_hit, found, 0.0), is_hit
