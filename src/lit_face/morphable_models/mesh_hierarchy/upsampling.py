"""From a coarse mesh back to the fine one: three vertices and three weights for each."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.mesh_hierarchy.surface import closest_on_mesh

Array = NDArray[Any]
Upsampling = Literal["barycentric", "reference"]


def upsampling_weights(
    fine: Array, coarse: Array, faces: Array, upsampling: Upsampling
) -> tuple[Array, Array]:
    """Find where each fine vertex lies on the coarse mesh.

    Args:
        fine: (N,3).
        coarse: (V,3).
        faces: (F,3) of the coarse mesh.
        upsampling: 'barycentric': weights of the closest point, none negative, sum 1; 'reference':
            those of Lin et al. (and of COMA), see `_weights_from_origin`.

    Returns:
        (N,3) coarse vertices and (N,3) float64 weights.
    """
    face, weights = closest_on_mesh(fine, coarse, faces)
    columns = faces[face]
    if upsampling == "reference":
        weights = _weights_from_origin(fine, coarse[columns], weights)
    return columns, weights


def _weights_from_origin(points: Array, triangles: Array, weights: Array) -> Array:
    """Weights of position vectors, as the reference has them.

    Inside of a triangle they are the closest point's, written as a sum of the corners' positions.
    On an edge they are the least squares fit of the POINT ITSELF by the two ends' positions: the
    sum is not 1, weights may be negative, and moving the mesh changes them.
    """
    result = weights.copy()
    inside = (weights > 0).all(1)
    closest = (triangles[inside] * weights[inside][..., None]).sum(1)
    result[inside] = np.linalg.solve(triangles[inside].mT, closest[..., None])[..., 0]
    for missing in range(3):
        ends = np.array([(missing + 1) % 3, (missing + 2) % 3])
        on_edge = (weights[:, missing] <= 0) & (weights[:, ends] > 0).all(1)
        rows = np.flatnonzero(on_edge)
        columns = triangles[rows][:, ends].mT
        fitted = np.linalg.pinv(columns) @ points[rows][..., None]
        result[np.ix_(rows, ends)] = fitted[..., 0]
    return result
