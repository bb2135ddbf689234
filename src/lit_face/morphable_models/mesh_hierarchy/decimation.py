"""Fewer vertices, all of them vertices of the mesh there was: three ways."""

from __future__ import annotations

from typing import Any, Literal

import fast_simplification
import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.mesh_hierarchy.quadrics import collapse_edges

Array = NDArray[Any]

Decimation = Literal["borders", "fast_simplification", "reference"]

_BORDER_WEIGHT = 10.0
_AGGRESSIONS = (5.0, 7.0, 9.0)  # the faster thresholds rise, the rougher and the farther it goes


def decimate(
    vertices: Array, faces: Array, target: int, decimation: Decimation
) -> tuple[Array, Array]:
    """Take vertices away until no more than `target` have a face.

    Args:
        vertices: (V,3).
        faces: (F,3) integers.
        target: number of vertices to stop at.
        decimation: 'borders': half-edge collapse by quadric error that keeps borders;
            'fast_simplification': of each group that the library merges, the vertex nearest to
            where it puts the group; 'reference': as 'borders', but it eats into borders.

    Returns:
        The vertices that stay (W,), ascending, and the faces left (G,3) of old vertices. More than
        `target` stay where nothing more can be taken away.
    """
    if decimation == "fast_simplification":
        return _merge_vertices(vertices, faces, target)
    weight = _BORDER_WEIGHT if decimation == "borders" else 0.0
    return collapse_edges(vertices, faces, target, weight)


def _merge_vertices(vertices: Array, faces: Array, target: int) -> tuple[Array, Array]:
    points = np.ascontiguousarray(vertices, np.float64)
    corners = np.ascontiguousarray(faces, np.int32)
    fewest = min(len(corners), max(target // 2, 4))  # faces: surely fewer than needed
    for aggression in _AGGRESSIONS:
        merged = fast_simplification.simplify(
            points, corners, target_count=fewest, agg=aggression, return_collapses=True
        )[2]
        merged = np.ascontiguousarray(merged[: _steps_to(target, merged, faces, len(points))])
        group = _groups(merged, len(points))
        left = _without_slivers(group[faces])
        if len(np.unique(left)) <= target:
            break
    placed, _, place_of = fast_simplification.replay_simplification(points, corners, merged)
    used = np.zeros(len(points), bool)
    used[left] = True
    members = np.flatnonzero(used[group])
    offset = points[members] - placed[place_of[group[members]]]
    order = np.lexsort(((offset**2).sum(1), group[members]))
    groups, first = np.unique(group[members][order], return_index=True)
    nearest = np.zeros(len(points), np.int64)
    nearest[groups] = members[order][first]
    left = nearest[left]
    return np.unique(left), left


def _steps_to(target: int, merged: Array, faces: Array, count: int) -> int:
    """Return after how many of the mergers (M,2) at most `target` vertices have a face."""
    low, high = 0, len(merged)
    while low < high:
        middle = (low + high) // 2
        left = _without_slivers(_groups(merged[:middle], count)[faces])
        if len(np.unique(left)) <= target:
            high = middle
        else:
            low = middle + 1
    return low


def _groups(merged: Array, count: int) -> Array:
    """Return (V,) the vertex that each one has become; a merger is (stays, goes)."""
    group = np.arange(count)
    group[merged[:, 1]] = merged[:, 0]
    while True:
        further = group[group]
        if np.array_equal(further, group):
            return group
        group = further


def _without_slivers(faces: Array) -> Array:
    """Drop faces that have a vertex twice."""
    a, b, c = faces.T
    return np.asarray(faces[(a != b) & (b != c) & (c != a)])
