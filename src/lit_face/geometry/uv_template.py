"""Maps of a mesh over the texels of its template's UV layout, texel by texel as mvfr draws them.

Source: Xiao et al. (AAAI 2022) and their release; the rules are in `rasterize_template`. Our own
maps, corner-aligned, are in `lit_face.geometry.uv`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from lit_face.geometry.meshes import vertex_normals

Array = NDArray[Any]

_FULL = 512  # side that the window and the kernel are given for, texels
_WINDOW = (slice(72, 328), slice(128, 384))
_KERNEL = 21  # of the smoothing of normals
_SEAM = 10  # a triangle wider than this part of the map crosses a seam
_INPAINT_RADIUS = 5


class TemplateTexels(NamedTuple):
    """The texels that a template's triangles cover, in the order in which they are drawn.

    Attributes:
        rows: (T,) int64; rows count downwards while v points up.
        columns: (T,) int64.
        vertices: (T,3) int64 corners of the triangle; where texels repeat the last one counts.
        weights: (T,3) barycentric.
    """

    rows: Array
    columns: Array
    vertices: Array
    weights: Array


class BaseMaps(NamedTuple):
    """Maps of a base mesh, float32; 0 where there is no surface.

    Attributes:
        position: (S,S,3), in the units of the vertices.
        normal: (S,S,3), smoothed.
    """

    position: Array
    normal: Array


def rasterize_template(uv: Array, faces_uv: Array, faces: Array, size: int) -> TemplateTexels:
    """Find the triangle under each texel of a square map.

    The sample of column j is u = (j + 0.5) / size; that of ROW size - k is v = (k + 0.5) / size, so
    a map lies one row lower than its samples say (mvfr's layout, with which its texture
    coordinates agree to half a texel). Samples on an edge belong to the triangle; triangles of
    which two corners are further apart than a tenth of the map cross a seam and are left out.

    Args:
        uv: (U,2) in [0,1], u right, v up.
        faces_uv: (F,3) rows of `uv`.
        faces: (F,3) vertices of the same triangles.
        size: side of the map, texels.

    Returns:
        What is covered; texels outside of the map are dropped.

    Raises:
        ValueError: shapes that do not fit or indices out of range.
    """
    if faces.shape != faces_uv.shape or faces.ndim != 2 or faces.shape[1] != 3 or uv.shape[1] != 2:
        raise ValueError(
            "A template has uv (U,2) and as many faces_uv (F,3) as faces (F,3), found "
            f"{uv.shape}, {faces_uv.shape} and {faces.shape}; does its OBJ file give a texture "
            "coordinate (vt) to every corner?"
        )
    if len(faces_uv) and not 0 <= faces_uv.min() <= faces_uv.max() < len(uv):
        raise ValueError(f"faces_uv use other texture coordinates than the {len(uv)} there are.")
    corners = np.ascontiguousarray(uv[faces_uv] * size, dtype=np.float64)
    drawn = np.zeros((0, 3), np.int64), np.zeros((0, 2))
    count = _scan(corners, size, *drawn)
    cells, inner = np.zeros((count, 3), np.int64), np.zeros((count, 2))
    _scan(corners, size, cells, inner)
    weights = np.column_stack([1 - inner.sum(1), inner])
    return TemplateTexels(cells[:, 0], cells[:, 1], faces[cells[:, 2]].astype(np.int64), weights)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scan(corners, size, cells, inner):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Count the covered texels; with room for them, store row, column, face and weights."""
    count = 0
    widest = size / _SEAM
    for face in range(len(corners)):
        ax, ay = corners[face, 0, 0], corners[face, 0, 1]
        bx, by = corners[face, 1, 0], corners[face, 1, 1]
        cx, cy = corners[face, 2, 0], corners[face, 2, 1]
        if max(abs(ax - bx), abs(ay - by), abs(bx - cx), abs(by - cy)) > widest:
            continue
        if max(abs(ax - cx), abs(ay - cy)) > widest:
            continue
        e0x, e0y, e1x, e1y = bx - ax, by - ay, cx - ax, cy - ay
        d00, d01, d11 = e0x * e0x + e0y * e0y, e0x * e1x + e0y * e1y, e1x * e1x + e1y * e1y
        determinant = d00 * d11 - d01 * d01
        if determinant == 0:
            continue
        left, right = min(int(ax), int(bx), int(cx)) - 1, max(int(ax), int(bx), int(cx))
        low, high = min(int(ay), int(by), int(cy)) - 1, max(int(ay), int(by), int(cy))
        for j in range(left, right + 1):
            for k in range(low, high + 1):
                qx, qy = j + 0.5 - ax, k + 0.5 - ay
                q0, q1 = e0x * qx + e0y * qy, e1x * qx + e1y * qy
                u = (d11 * q0 - d01 * q1) / determinant
                v = (d00 * q1 - d01 * q0) / determinant
                if u < 0 or v < 0 or u > 1 or v > 1 or u + v > 1:
                    continue
                row = size - k
                if row < 0 or row >= size or j < 0 or j >= size:
                    continue
                if len(cells):
                    cells[count, 0], cells[count, 1], cells[count, 2] = row, j, face
                    inner[count, 0], inner[count, 1] = u, v
                count += 1
    return count


def attribute_map(values: Array, texels: TemplateTexels, size: int) -> Array:
    """Interpolate values of vertices (V,C) to a map (size,size,C), float32; 0 where uncovered."""
    picture = np.zeros((size, size, values.shape[1]), np.float32)
    mixed = np.einsum("tk,tkc->tc", texels.weights, values[texels.vertices].astype(np.float64))
    picture[texels.rows, texels.columns] = mixed
    return picture


def core_window(size: int) -> tuple[slice, slice]:
    """Return the rows and columns of a square map that hold the face (72..327, 128..383 of 512).

    Raises:
        ValueError: the window has no whole texels at this size.
    """
    if size < 64 or size % 64:
        raise ValueError(f"The side of a template's map should be a multiple of 64, found {size}.")
    rows, columns = (
        slice(part.start * size // _FULL, part.stop * size // _FULL) for part in _WINDOW
    )
    return rows, columns


def smoothing_kernel(size: int) -> int:
    """Return the side of the kernel that smooths normals: 21 at 512, odd, scaled with the map."""
    return max(1, 2 * round((_KERNEL * size / _FULL - 1) / 2) + 1)


def smoothed_normals(normals: Array, kernel: int) -> Array:
    """Smooth a map of normals (S,S,3), with its holes filled while that happens.

    Args:
        normals: float32, 0 where there is no surface.
        kernel: side of the Gaussian kernel, odd; 0 or 1 changes nothing.

    Returns:
        The map, not normalised; holes are holes again.
    """
    covered: Array = np.asarray(normals.any(axis=2))
    if kernel <= 1 or not covered.any():
        return normals
    # What is further away than half of the kernel has no influence, but takes long to fill.
    margin = kernel + _INPAINT_RADIUS
    box = tuple(
        slice(max(0, places.min() - margin), places.max() + margin + 1)
        for places in np.nonzero(covered)
    )
    inner, holes = normals[box], (~covered[box]).astype(np.uint8)
    filled = [
        cv2.inpaint(np.ascontiguousarray(channel), holes, _INPAINT_RADIUS, cv2.INPAINT_NS)
        for channel in np.moveaxis(inner, 2, 0)
    ]
    smooth: Array = cv2.GaussianBlur(np.stack(filled, axis=2), (kernel, kernel), 0)
    smooth[holes > 0] = 0
    found = np.zeros_like(normals)
    found[box] = smooth
    return found


def full_maps(
    vertices: Array,
    faces: Array,
    texels: TemplateTexels,
    size: int,
    kernel: int | None = None,
    renormalise: bool = True,
) -> BaseMaps:
    """Draw positions and smoothed normals over a whole template.

    Args:
        vertices: (V,3).
        faces: (F,3) counter-clockwise seen from outside.
        texels: of the template at this size.
        size: side, texels.
        kernel: of the smoothing of normals, texels; None for 21 at 512, scaled with the size.
        renormalise: give the smoothed normals length 1. mvfr does not, so that displacements along
            them are short: by 30% and more at lips and lids.

    Returns:
        Maps (size,size,3).
    """
    mesh = torch.from_numpy(np.ascontiguousarray(vertices, dtype=np.float64))[None]
    triangles = torch.from_numpy(np.ascontiguousarray(faces, dtype=np.int64))
    of_vertices = vertex_normals(mesh, triangles, by_area=False)[0].numpy()
    normal = _unit(attribute_map(of_vertices, texels, size))
    normal = smoothed_normals(normal, smoothing_kernel(size) if kernel is None else kernel)
    position = attribute_map(vertices, texels, size)
    return BaseMaps(position, _unit(normal) if renormalise else normal)


def base_maps(
    vertices: Array,
    faces: Array,
    texels: TemplateTexels,
    size: int,
    mask: Array | None = None,
    kernel: int | None = None,
    renormalise: bool = True,
) -> BaseMaps:
    """Draw the maps of `full_maps` and cut out the core window.

    Args:
        vertices: (V,3).
        faces: (F,3).
        texels: of the template at this size.
        size: side of the whole template, texels.
        mask: (S,S) of the core; outside of it the maps become 0. None keeps them (mvfr).
        kernel: see `full_maps`.
        renormalise: see `full_maps`.

    Returns:
        Maps (S,S,3) of the core, half as wide as the template.

    Raises:
        ValueError: the mask has another size.
    """
    rows, columns = core_window(size)
    position, normal = (
        np.ascontiguousarray(picture[rows, columns])
        for picture in full_maps(vertices, faces, texels, size, kernel, renormalise)
    )
    if mask is not None:
        if mask.shape != position.shape[:2]:
            raise ValueError(
                f"The facial mask of a template of {size} texels should be {position.shape[:2]}, "
                f"found {mask.shape}."
            )
        outside = ~mask.astype(bool)
        position[outside], normal[outside] = 0, 0
    return BaseMaps(position, normal)


def _unit(vectors: Array) -> Array:
    """Normalise where there is a length."""
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1), 0).astype(np.float32)
