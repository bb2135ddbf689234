"""The rasteriser of face3d, rule by rule, for parity.

PRN's training data was drawn with it. Its edge opposite the first corner is excluded, larger z is
nearer, the earlier triangle stays on ties, and in the two outermost pixel rows and columns the
inside test is skipped. Our own rules are in `lit_face.rendering.rasterize`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

BORDER = 2  # pixels
EMPTY_DEPTH = -999999.0


class Face3dBuffers(NamedTuple):
    """What the face3d rasteriser returns for one mesh.

    Attributes:
        face_index: (H,W) int64, -1 where empty.
        depth: (H,W), -999999 where empty.
        barycentric: (H,W,3) weights of the three corners, 0 where empty; they may be outside
            [0, 1] in the border.
    """

    face_index: Tensor
    depth: Tensor
    barycentric: Tensor


def rasterize_face3d(
    vertices: Tensor, faces: Tensor, size: tuple[int, int], border_rule: bool = True
) -> Face3dBuffers:
    """Rasterise one mesh exactly as face3d does, in the dtype of the vertices.

    Args:
        vertices: (V,3) float32 (its compiled rasteriser) or float64 (its NumPy one), on the CPU:
            x right, y down, pixels; LARGER z is nearer.
        faces: (F,3) int64; at equal depth the earlier face stays.
        size: height and width, pixels.
        border_rule: in the two outermost rows and columns, skip the inside test: every triangle
            whose bounding box holds the pixel may write. The NumPy version has no such rule.

    Returns:
        Face index, depth and weights, equal to the last bit to those of face3d.

    Raises:
        ValueError: shapes that do not fit, or tensors that are not on the CPU.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(
            "rasterize_face3d takes vertices (V,3) and faces (F,3), found "
            f"{tuple(vertices.shape)} and {tuple(faces.shape)}."
        )
    if vertices.device.type != "cpu" or faces.device.type != "cpu":
        raise ValueError(
            f"rasterize_face3d runs on the CPU, not on {vertices.device} and {faces.device}."
        )
    if len(faces) and not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise ValueError(f"faces use other vertices than the {len(vertices)} there are.")
    points = vertices.detach().contiguous().numpy()
    face_index = np.full(size, -1, dtype=np.int64)
    depth = np.full(size, EMPTY_DEPTH, dtype=points.dtype)
    weights = np.zeros((*size, 3), dtype=points.dtype)
    border = BORDER if border_rule else 0
    scan_band(points, faces.contiguous().numpy(), 0, size[0], face_index, depth, weights, border)
    return Face3dBuffers(*(torch.from_numpy(buffer) for buffer in (face_index, depth, weights)))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def scan_band(  # type: ignore[no-untyped-def]  # noqa: ANN201
    points,  # noqa: ANN001
    faces,  # noqa: ANN001
    first_row,  # noqa: ANN001
    stop_row,  # noqa: ANN001
    face_index,  # noqa: ANN001
    nearest,  # noqa: ANN001
    weights,  # noqa: ANN001
    border,  # noqa: ANN001
):
    """Draw rows [first_row, stop_row) into the buffers; `border` pixels skip the inside test.

    An empty `weights` is not written.
    """
    number = nearest.dtype.type
    height, width = face_index.shape
    keep_weights = weights.shape[0] > 0
    lowest, highest = number(first_row), number(stop_row - 1)
    last_column = number(width - 1)
    zero, one = number(0), number(1)
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, bx, cx = points[a, 0], points[b, 0], points[c, 0]
        ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
        top = max(np.ceil(min(ay, min(by, cy))), lowest)
        bottom = min(np.floor(max(ay, max(by, cy))), highest)
        left = max(np.ceil(min(ax, min(bx, cx))), zero)
        right = min(np.floor(max(ax, max(bx, cx))), last_column)
        if not (top <= bottom and left <= right):
            continue
        az, bz, cz = points[a, 2], points[b, 2], points[c, 2]
        v0x, v0y, v1x, v1y = cx - ax, cy - ay, bx - ax, by - ay
        dot00 = v0x * v0x + v0y * v0y
        dot01 = v0x * v1x + v0y * v1y
        dot11 = v1x * v1x + v1y * v1y
        determinant = dot00 * dot11 - dot01 * dot01
        inverse = zero if determinant == 0 else one / determinant
        for row in range(int(top), int(bottom) + 1):
            v2y = number(row) - ay
            for column in range(int(left), int(right) + 1):
                v2x = number(column) - ax
                dot02 = v0x * v2x + v0y * v2y
                dot12 = v1x * v2x + v1y * v2y
                u = (dot11 * dot02 - dot01 * dot12) * inverse
                v = (dot00 * dot12 - dot01 * dot02) * inverse
                inside = u >= 0 and v >= 0 and u + v < 1
                if not inside and not (
                    column < border
                    or column > width - 1 - border
                    or row < border
                    or row > height - 1 - border
                ):
                    continue
                rest = one - u - v
                depth = rest * az + v * bz + u * cz
                if depth > nearest[row, column]:
                    nearest[row, column] = depth
                    face_index[row, column] = face
                    if keep_weights:
                        weights[row, column, 0] = rest
                        weights[row, column, 1] = v
                        weights[row, column, 2] = u
