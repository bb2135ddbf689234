"""Make the triangles of a mesh agree on which side is outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def outward_faces(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the faces counter-clockwise seen from outside, by swapping the last two corners.

    Neighbours are made to agree across every edge that exactly two triangles share; then each
    connected piece is turned so that its signed volume, seen from a point behind the middle of all
    vertices, is positive. Pieces without a shared edge are judged alone. Works for open meshes
    (a face without the back of the head) because the point lies behind them.

    Args:
        vertices: (V,3), z out of the face.
        faces: (F,3).
    """
    faces = np.asarray(faces, dtype=np.int64).copy()
    flip, piece = _agree(faces)
    faces[flip] = faces[flip][:, [0, 2, 1]]
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    origin = np.array([middle[0], middle[1], vertices[:, 2].min()])
    corners = vertices[faces].astype(np.float64) - origin
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    inside_out = np.bincount(piece, weights=volume) < 0
    turned = inside_out[piece]
    faces[turned] = faces[turned][:, [0, 2, 1]]
    return faces


def _agree(faces: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which faces (F,) to flip so that neighbours agree, and the piece (F,) each is in.

    Every face is two nodes, kept and flipped; an edge between faces that agree joins equal nodes,
    one between faces that disagree joins opposite ones. The pieces of that graph are the answer.
    """
    count = len(faces)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(count), 3)
    ascending = edges[:, 0] < edges[:, 1]
    ordered = np.sort(edges, axis=1)
    key = ordered[:, 0] * (int(faces.max()) + 1) + ordered[:, 1]
    order = np.argsort(key, kind="stable")
    _, start, uses = np.unique(key[order], return_index=True, return_counts=True)
    first, second = order[start[uses == 2]], order[start[uses == 2] + 1]
    one, other = owner[first], owner[second]
    # Neighbours that agree run along their common edge in opposite directions.
    disagree = (ascending[first] == ascending[second]).astype(np.int64)
    rows = np.concatenate([one, one + count])
    columns = np.concatenate([other + count * disagree, other + count * (1 - disagree)])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), (2 * count, 2 * count))
    _, label = connected_components(graph, directed=False)
    kept, flipped = label[:count].astype(np.int64), label[count:].astype(np.int64)
    piece = np.unique(np.minimum(kept, flipped), return_inverse=True)[1]
    return kept > flipped, piece.astype(np.int64)
