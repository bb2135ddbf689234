"""The mesh of a position map, as mvfr exports it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class GridMesh(NamedTuple):
    """A mesh whose vertices are texels.

    Attributes:
        vertices: (V,3) in raster order.
        faces: (F,3) int64, counter-clockwise with columns to the right and rows down.
        uv: (V,2) u right, v up.
        rows: (V,) int64 of the map.
        columns: (V,) int64.
    """

    vertices: Array
    faces: Array
    uv: Array
    rows: Array
    columns: Array


def uv2mesh(position: Array, mask: Array | None = None) -> GridMesh:
    """Make each texel of a map a vertex, and two triangles of each full cell inside of the border.

    A cell is four neighbouring texels. `geometry.meshes.grid_faces` also fills cells that lack one
    texel and those in the first row and column; this is what the reference writes.

    Args:
        position: (H,W,3).
        mask: (H,W) texels to use; None for those that are not (0, 0, 0).

    Returns:
        The mesh; uv is (column / W, 1 - row / H).
    """
    present = position.any(axis=2) if mask is None else mask.astype(bool)
    height, width = present.shape
    rows, columns = np.nonzero(present)
    index = np.full(present.shape, -1, np.int64)
    index[rows, columns] = np.arange(len(rows))
    a, right = index[1 : height - 1, 1 : width - 1], index[1 : height - 1, 2:width]
    below, across = index[2:height, 1 : width - 1], index[2:height, 2:width]
    cells = np.stack([a, below, right, across, right, below], axis=-1)
    faces = cells[(cells >= 0).all(axis=-1)].reshape(-1, 3)
    uv = np.stack([columns / width, 1 - rows / height], axis=1)
    return GridMesh(position[rows, columns], faces, uv, rows, columns)
