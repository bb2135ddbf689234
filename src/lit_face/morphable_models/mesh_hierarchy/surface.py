"""The closest point of a mesh, exactly."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[Any]

_BLOCK = 16  # faces that share a box
_GROUP = 32  # boxes that share a larger one


class ClosestIndex:
    """Finds closest points of one mesh, exactly, for any number of queries.

    Args:
        vertices: (V,3).
        faces: (F,3), at least one.
    """

    def __init__(self, vertices: Array, faces: Array) -> None:
        triangles = np.ascontiguousarray(vertices, np.float64)[faces]
        self._order = cKDTree(triangles.mean(1)).indices  # neighbours lie together
        self._triangles = np.ascontiguousarray(triangles[self._order])
        starts = np.arange(0, len(triangles), _BLOCK)
        lower = np.minimum.reduceat(self._triangles.min(1), starts)
        upper = np.maximum.reduceat(self._triangles.max(1), starts)
        groups = np.arange(0, len(starts), _GROUP)
        outer = np.minimum.reduceat(lower, groups), np.maximum.reduceat(upper, groups)
        self._boxes = lower, upper, *outer
        self._used = cKDTree(np.asarray(vertices, np.float64)[np.unique(faces)])

    def query(self, queries: Array) -> tuple[Array, Array]:
        """Return what `closest_on_mesh` does."""
        points = np.ascontiguousarray(queries, np.float64)
        reach = self._used.query(points)[0] ** 2 * (1 + 1e-9) + 1e-300
        face, weights = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
        _search(points, self._triangles, *self._boxes, reach, face, weights, np.zeros(3))
        return self._order[face], weights


def closest_on_mesh(queries: Array, vertices: Array, faces: Array) -> tuple[Array, Array]:
    """Find the closest point of a mesh to each query.

    Args:
        queries: (N,3).
        vertices: (V,3).
        faces: (F,3), at least one.

    Returns:
        (N,) index of the face that holds the point and (N,3) its barycentric weights there:
        none negative, sum 1; zeros are exact where the point lies on an edge or a vertex.
    """
    return ClosestIndex(vertices, faces).query(queries)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _search(  # type: ignore[no-untyped-def]  # noqa: ANN202
    points,  # noqa: ANN001
    triangles,  # noqa: ANN001
    lower,  # noqa: ANN001
    upper,  # noqa: ANN001
    outer_lower,  # noqa: ANN001
    outer_upper,  # noqa: ANN001
    reach,  # noqa: ANN001
    face,  # noqa: ANN001
    weights,  # noqa: ANN001
    trial,  # noqa: ANN001
):
    for query in range(len(points)):
        best = reach[query]
        for group in range(len(outer_lower)):
            if _gap(points[query], outer_lower[group], outer_upper[group]) > best:
                continue
            for block in range(group * _GROUP, min((group + 1) * _GROUP, len(lower))):
                if _gap(points[query], lower[block], upper[block]) > best:
                    continue
                for triangle in range(block * _BLOCK, min((block + 1) * _BLOCK, len(triangles))):
                    squared = _closest(points[query], triangles[triangle], trial)
                    if squared < best:
                        best = squared
                        face[query] = triangle
                        for corner in range(3):
                            weights[query, corner] = trial[corner]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _gap(point, lower, upper):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the squared distance from a point to a box."""
    gap = 0.0
    for axis in range(3):
        outside = max(lower[axis] - point[axis], point[axis] - upper[axis], 0.0)
        gap += outside * outside
    return gap


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _closest(p, triangle, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Set the weights of the closest point and return its squared distance.

    Source: Ericson (2005), "Real-time collision detection", section 5.1.5.
    """
    d00 = d01 = d11 = d20 = d21 = 0.0
    for axis in range(3):
        ab = triangle[1, axis] - triangle[0, axis]
        ac = triangle[2, axis] - triangle[0, axis]
        ap = p[axis] - triangle[0, axis]
        d00, d01, d11 = d00 + ab * ab, d01 + ab * ac, d11 + ac * ac
        d20, d21 = d20 + ap * ab, d21 + ap * ac
    area = d00 * d11 - d01 * d01
    v, w = d11 * d20 - d01 * d21, d00 * d21 - d01 * d20
    if area > 1e-14 * d00 * d11 and v >= 0 and w >= 0 and v + w <= area:
        weights[1], weights[2] = v / area, w / area
        weights[0] = 1 - weights[1] - weights[2]
        return _squared(p, triangle, weights)
    best, best_corner, best_share = np.inf, 0, 0.0
    for corner in range(3):
        after = (corner + 1) % 3
        along = length = 0.0
        for axis in range(3):
            edge = triangle[after, axis] - triangle[corner, axis]
            along += (p[axis] - triangle[corner, axis]) * edge
            length += edge * edge
        share = min(max(along / length, 0.0), 1.0) if length > 0 else 0.0
        weights[corner], weights[after], weights[(corner + 2) % 3] = 1 - share, share, 0.0
        squared = _squared(p, triangle, weights)
        if squared < best:
            best, best_corner, best_share = squared, corner, share
    weights[best_corner] = 1 - best_share
    weights[(best_corner + 1) % 3], weights[(best_corner + 2) % 3] = best_share, 0.0
    return best


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _squared(p, triangle, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    total = 0.0
    for axis in range(3):
        offset = -p[axis]
        for corner in range(3):
            offset += weights[corner] * triangle[corner, axis]
        total += offset * offset
    return total
