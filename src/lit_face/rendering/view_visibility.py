"""Which texels of a base mesh the views of a face see."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.geometry.line_query import SurfaceRays

Array = NDArray[Any]

_LIFT = 2e-3  # of the mesh's extent, off the surface on which the rays start


def view_visibility(
    position: Array,
    normal: Array,
    intrinsics: Array,
    extrinsics: Array,
    heights: Array,
    widths: Array,
    vertices: Array,
    faces: Array,
) -> Array:
    """Tell for each texel and view whether the photo shows it.

    A texel is seen where it faces the camera, lies inside of the photo and nothing of the mesh
    stands between them.

    Args:
        position: (S,S,3) world frame; (0, 0, 0) where there is no surface.
        normal: (S,S,3) outward.
        intrinsics: (N,3,3) pixels, integers at pixel centres.
        extrinsics: (N,3,4) world to camera, OpenCV axes.
        heights: (N,) of the photos, pixels.
        widths: (N,) likewise.
        vertices: (V,3) of the mesh, world frame.
        faces: (F,3).

    Returns:
        (N,S,S) uint8, 1 = seen.
    """
    seen = np.zeros((len(intrinsics), *position.shape[:2]), np.uint8)
    rows, columns = np.nonzero(position.any(axis=2))
    points, normals = position[rows, columns].astype(np.float64), normal[rows, columns]
    rays = SurfaceRays(vertices, faces)
    lift = _LIFT * rays.extent
    for view, (camera, pose) in enumerate(zip(intrinsics, extrinsics, strict=True)):
        in_camera = points @ pose[:, :3].T + pose[:, 3]
        depth = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = (in_camera @ camera.T)[:, :2] / depth[:, None]
        last = np.array([widths[view], heights[view]]) - 1
        inside = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels <= last).all(axis=1)
        towards = -(pose[:, :3].T @ pose[:, 3]) - points
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        candidates = np.flatnonzero(inside & ((normals * towards).sum(axis=1) > 0))
        direction = towards[candidates]
        starts = points[candidates] + lift * (normals[candidates] + direction)
        free = candidates[~rays.is_hit(starts, direction)]
        seen[view, rows[free], columns[free]] = 1
    return seen
