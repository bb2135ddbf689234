"""Which triangle of a flat triangulation holds a point: UV coordinates to surface points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


def covering_face(queries: Array, points: Array, faces: Index) -> Index:
    """Find the first face that holds each query, edges included.

    Args:
        queries: (N,2) finite.
        points: (V,2).
        faces: (F,3), either winding.

    Returns:
        (N,) the lowest index of a covering face, -1 where there is none.
    """
    found = np.full(len(queries), -1, dtype=np.int64)
    if not len(queries) or not len(faces):
        return found
    origin = queries.min(axis=0)
    extent = max(float((queries.max(axis=0) - origin).max()), 1e-300)
    side = int(np.clip(np.sqrt(len(queries)), 1, 1024))
    cell_size = extent * (1 + 1e-9) / side
    column, row = ((queries - origin) / cell_size).astype(np.int64).T
    cell = row * side + column
    order = np.argsort(cell, kind="stable")
    start = np.searchsorted(cell[order], np.arange(side * side + 1))
    _scan(queries[order], points, faces, origin, cell_size, side, start, order, found)
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]  # noqa: ANN202
    queries,  # noqa: ANN001
    points,  # noqa: ANN001
    faces,  # noqa: ANN001
    origin,  # noqa: ANN001
    cell_size,  # noqa: ANN001
    side,  # noqa: ANN001
    start,  # noqa: ANN001
    order,  # noqa: ANN001
    found,  # noqa: ANN001
):
    """Test each face against the queries in the grid cells that its bounding box touches."""
    for face in range(faces.shape[0]):
        ax, ay = points[faces[face, 0], 0], points[faces[face, 0], 1]
        bx, by = points[faces[face, 1], 0], points[faces[face, 1], 1]
        cx, cy = points[faces[face, 2], 0], points[faces[face, 2], 1]
        left = (min(ax, min(bx, cx)) - origin[0]) / cell_size
        right = (max(ax, max(bx, cx)) - origin[0]) / cell_size
        top = (min(ay, min(by, cy)) - origin[1]) / cell_size
        bottom = (max(ay, max(by, cy)) - origin[1]) / cell_size
        if not (right >= 0 and bottom >= 0 and left < side and top < side):
            continue
        for row in range(int(max(top, 0.0)), int(min(bottom, side - 1.0)) + 1):
            for column in range(int(max(left, 0.0)), int(min(right, side - 1.0)) + 1):
                cell = row * side + column
                for slot in range(start[cell], start[cell + 1]):
                    if found[order[slot]] >= 0:
                        continue
                    x, y = queries[slot, 0], queries[slot, 1]
                    adx, ady, bdx, bdy, cdx, cdy = ax - x, ay - y, bx - x, by - y, cx - x, cy - y
                    ea = bdx * cdy - bdy * cdx
                    eb = cdx * ady - cdy * adx
                    ec = adx * bdy - ady * bdx
                    inside = (ea >= 0 and eb >= 0 and ec >= 0) or (ea <= 0 and eb <= 0 and ec <= 0)
                    if inside and ea + eb + ec != 0:
                        found[order[slot]] = face


def nearest_on_faces(
    queries: Array, points: Array, faces: Index, chunk: int = 1 << 22
) -> tuple[Index, Array]:
    """Find the closest point of the triangulation to each query, by testing every edge.

    Args:
        queries: (N,2), outside of every face.
        points: (V,2).
        faces: (F,3).
        chunk: at most this many (query, edge) pairs are held at once.

    Returns:
        (N,) face index and (N,3) barycentric weights (two of them at most are not 0).
    """
    start = points[faces].reshape(-1, 2)  # edge 3 f + k runs from corner k to corner k + 1
    direction = points[np.roll(faces, -1, axis=1)].reshape(-1, 2) - start
    squared = np.maximum((direction**2).sum(axis=1), 1e-300)
    face_index = np.zeros(len(queries), dtype=np.int64)
    weights = np.zeros((len(queries), 3))
    step = max(1, chunk // max(len(start), 1))
    for first in range(0, len(queries), step):
        offset = queries[first : first + step, None] - start
        along = np.clip((offset * direction).sum(axis=2) / squared, 0, 1)
        distance = ((offset - along[..., None] * direction) ** 2).sum(axis=2)
        edge = distance.argmin(axis=1)
        rows = np.arange(first, first + len(edge))
        face_index[rows] = edge // 3
        share = along[np.arange(len(edge)), edge]
        weights[rows, edge % 3] = 1 - share
        weights[rows, (edge + 1) % 3] += share
    return face_index, weights


def barycentric_weights(queries: Array, points: Array, faces: Index) -> Array:
    """Return (N,3) weights of each query (N,2) in its own face (N,3) of points (V,2)."""
    offset = points[faces] - queries[:, None]
    following, last = np.roll(offset, -1, axis=1), np.roll(offset, -2, axis=1)
    areas = following[..., 0] * last[..., 1] - following[..., 1] * last[..., 0]
    return np.asarray(areas / areas.sum(axis=1, keepdims=True))
