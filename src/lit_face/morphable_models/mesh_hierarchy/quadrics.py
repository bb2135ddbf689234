"""Half-edge collapse by quadric error, as COMA and the mesh GCN refiner of Lin et al. have it.

Without a weight of borders it is theirs, which eats into them.
Source: Garland & Heckbert (1997), "Surface simplification using quadric error metrics"; the order
of collapses is that of Ranjan et al. (2018), "Generating 3D faces using convolutional mesh
autoencoders" (CoMA).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def collapse_edges(
    vertices: Array, faces: Array, target: int, border_weight: float = 0.0
) -> tuple[Array, Array]:
    """Collapse edges until no more than `target` vertices have a face.

    Args:
        vertices: (V,3).
        faces: (F,3) integers.
        target: number of vertices to stop at.
        border_weight: of planes that stand upright on the borders, beside 1 of the faces' own; 0 as
            in the reference.

    Returns:
        The vertices that stay (W,), ascending, and the faces left (G,3) of old vertices;
        two of them may be the same.
    """
    points = np.ascontiguousarray(vertices, np.float64)
    corners = np.ascontiguousarray(faces, np.int64).copy()
    quadrics = _vertex_quadrics(points, corners)
    if border_weight:
        quadrics += border_weight * _border_quadrics(points, corners)
    edges, count = _edges(corners), len(points)
    alive = np.ones(len(corners), bool)
    degree, head, tail = np.zeros(count, np.int64), np.full(count, -1), np.full(count, -1)
    following = np.full(3 * len(corners), -1)
    cost, heap = np.zeros(len(edges)), np.arange(len(edges))
    _collapse(
        points, corners, quadrics, edges, target,
        np.arange(count), alive, degree, head, tail, following, cost, heap,
    )  # fmt: skip
    left = corners[alive]
    return np.unique(left), left


def _vertex_quadrics(points: Array, faces: Array) -> Array:
    """Return (V,4,4): of each vertex the sum of its faces' planes times themselves.

    Planes are null vectors of a singular value decomposition, as the reference's are: what a cross
    product rounds differently changes which of two equal edges goes first.
    """
    corners = np.concatenate([points[faces], np.ones((len(faces), 3, 1))], axis=2)
    plane = np.linalg.svd(corners)[2][:, -1]
    return _summed(plane, faces, len(points))


def _border_quadrics(points: Array, faces: Array) -> Array:
    """Return (V,4,4): the same of planes through border edges, at right angles to their face."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, back, times = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    is_border = times[back.reshape(-1)] == 1
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    normal = np.tile(np.cross(b - a, c - a), (3, 1))[is_border]
    start, end = points[edges[is_border].T]
    upright = np.cross(end - start, normal)
    plane = np.concatenate([upright, -(upright * start).sum(1, keepdims=True)], axis=1)
    return _summed(plane, edges[is_border], len(points))


def _summed(plane: Array, vertex: Array, count: int) -> Array:
    """Add each plane (N,4), its normal made a unit, times itself to all of its vertices (N,M)."""
    length = np.linalg.norm(plane[:, :3], axis=1, keepdims=True)
    plane = plane / np.where(length > 0, length, 1)
    outer = plane[:, :, None] * plane[:, None]
    quadrics = np.zeros((count, 4, 4))
    np.add.at(quadrics, vertex.reshape(-1), np.repeat(outer, vertex.shape[1], axis=0))
    return quadrics


def _edges(faces: Array) -> Array:
    """Return (E,2) undirected edges, smaller index first, sorted."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cost(quadrics, points, first, second, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Error of the vertex `at` under the quadrics of both ends of an edge."""
    total = 0.0
    for i in range(4):
        row = 0.0
        for j in range(3):
            row += (quadrics[first, i, j] + quadrics[second, i, j]) * points[at, j]
        row += quadrics[first, i, 3] + quadrics[second, i, 3]
        total += row * (points[at, i] if i < 3 else 1.0)
    return total


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _root(parent, vertex):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    while parent[vertex] != vertex:
        parent[vertex] = parent[parent[vertex]]
        vertex = parent[vertex]
    return vertex


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _before(cost, edges, one, other):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Whether an edge comes first: cheaper, or by its vertices where both cost the same."""
    if cost[one] != cost[other]:
        return cost[one] < cost[other]
    if edges[one, 0] != edges[other, 0]:
        return edges[one, 0] < edges[other, 0]
    return edges[one, 1] < edges[other, 1]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sink(heap, size, cost, edges, place):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Restore the order of a binary heap below `place`."""
    item = heap[place]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _before(cost, edges, heap[child + 1], heap[child]):
            child += 1
        if not _before(cost, edges, heap[child], item):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _move_corners(faces, alive, degree, head, tail, following, keep, lose):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Give the faces of `lose` to `keep`; return how many others lost their last face."""
    lost = 0
    corner = head[lose]
    while corner >= 0:
        face = corner // 3
        if alive[face]:
            faces[face, corner % 3] = keep
            degree[lose] -= 1
            degree[keep] += 1
            a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
            if a == b or b == c or c == a:
                alive[face] = False
                for place in range(3):
                    vertex = faces[face, place]
                    degree[vertex] -= 1
                    if degree[vertex] == 0 and vertex != keep:
                        lost += 1
        corner = following[corner]
    if head[lose] >= 0:
        if head[keep] < 0:
            head[keep] = head[lose]
        else:
            following[tail[keep]] = head[lose]
        tail[keep] = tail[lose]
    return lost


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _collapse(  # type: ignore[no-untyped-def]  # noqa: ANN202
    points,  # noqa: ANN001
    faces,  # noqa: ANN001
    quadrics,  # noqa: ANN001
    edges,  # noqa: ANN001
    target,  # noqa: ANN001
    parent,  # noqa: ANN001
    alive,  # noqa: ANN001
    degree,  # noqa: ANN001
    head,  # noqa: ANN001
    tail,  # noqa: ANN001
    following,  # noqa: ANN001
    cost,  # noqa: ANN001
    heap,  # noqa: ANN001
):
    """Collapse in place; the caller makes the arrays, which would take seconds to compile here.

    A vertex's corners are a list: from head[vertex], by following[corner], to tail[vertex].
    """
    number, size = len(faces), len(edges)
    left = 0
    for corner in range(3 * number):
        vertex = faces[corner // 3, corner % 3]
        degree[vertex] += 1
        if head[vertex] < 0:
            head[vertex] = corner
            left += 1
        else:
            following[tail[vertex]] = corner
        tail[vertex] = corner
    for edge in range(size):
        a, b = edges[edge, 0], edges[edge, 1]
        cost[edge] = min(_cost(quadrics, points, a, b, a), _cost(quadrics, points, a, b, b))
    for place in range(size // 2 - 1, -1, -1):
        _sink(heap, size, cost, edges, place)
    while left > target and size:
        edge = heap[0]
        a, b = _root(parent, edges[edge, 0]), _root(parent, edges[edge, 1])
        at_a, at_b = _cost(quadrics, points, a, b, a), _cost(quadrics, points, a, b, b)
        if a != b and min(at_a, at_b) > cost[edge]:  # its ends have moved since
            cost[edge], edges[edge, 0], edges[edge, 1] = min(at_a, at_b), a, b
            _sink(heap, size, cost, edges, 0)
            continue
        size -= 1
        heap[0] = heap[size]
        _sink(heap, size, cost, edges, 0)
        if a == b:
            continue
        keep, lose = (a, b) if at_a < at_b else (b, a)
        parent[lose] = keep
        for i in range(4):
            for j in range(4):
                quadrics[keep, i, j] += quadrics[lose, i, j]
        before = int(degree[keep] > 0) + int(degree[lose] > 0)
        left -= _move_corners(faces, alive, degree, head, tail, following, keep, lose)
        left -= before - int(degree[keep] > 0)
