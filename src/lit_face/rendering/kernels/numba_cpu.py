"""Rasterisation on the CPU: compiled loops over triangles, one thread a band of rows.

Threads come from a plain pool and the loops release the GIL; numba's own threading layers abort
in forked data-loader workers and when two threads call them at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from numba import njit
from torch import Tensor

from lit_face.geometry.face3d_raster import EMPTY_DEPTH, scan_band

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _default_band(points, faces, first_row, stop_row, face_index, nearest):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Rows [first_row, stop_row) under the default rules; see `lit_face.rendering.rasterize`."""
    number = nearest.dtype.type
    width = face_index.shape[1]
    lowest, highest = number(first_row), number(stop_row - 1)
    last_column = number(width - 1)
    infinity = number(np.inf)
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
        top = max(np.ceil(min(ay, min(by, cy))), lowest)
        bottom = min(np.floor(max(ay, max(by, cy))), highest)
        if not top <= bottom:
            continue
        ax, bx, cx = points[a, 0], points[b, 0], points[c, 0]
        left = max(np.ceil(min(ax, min(bx, cx))), number(0))
        right = min(np.floor(max(ax, max(bx, cx))), last_column)
        if not left <= right:
            continue
        az, bz, cz = points[a, 2], points[b, 2], points[c, 2]
        finite = abs(ax) < infinity and abs(bx) < infinity and abs(cx) < infinity
        finite = finite and abs(ay) < infinity and abs(by) < infinity and abs(cy) < infinity
        if not (finite and abs(az) < infinity and abs(bz) < infinity and abs(cz) < infinity):
            continue
        for row in range(int(top), int(bottom) + 1):
            y = number(row)
            ady, bdy, cdy = ay - y, by - y, cy - y
            for column in range(int(left), int(right) + 1):
                x = number(column)
                adx, bdx, cdx = ax - x, bx - x, cx - x
                ea = bdx * cdy - bdy * cdx
                eb = cdx * ady - cdy * adx
                ec = adx * bdy - ady * bdx
                if (ea >= 0 and eb >= 0 and ec >= 0) or (ea <= 0 and eb <= 0 and ec <= 0):
                    total = ea + eb + ec
                    if total == 0:
                        continue
                    depth = (ea * az + eb * bz + ec * cz) / total
                    if depth < nearest[row, column]:
                        nearest[row, column] = depth
                        face_index[row, column] = face


def rasterize_default(points: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest face of each pixel, default rules.

    Args:
        points: (B,V,3) x, y in pixels, depth growing away; CPU.
        faces: (F,3) int64, CPU.
        size: height and width.

    Returns:
        (B,H,W) int64, -1 where nothing is seen.
    """
    face_index, index_array, point_array, face_array = _prepare(points, faces, size)
    nearest = np.full(index_array.shape, np.inf, dtype=point_array.dtype)

    def band(image: int, first_row: int, stop_row: int) -> None:
        _default_band(
            point_array[image], face_array, first_row, stop_row, index_array[image], nearest[image]
        )

    _run(band, points.shape[0], size[0])
    return face_index


def rasterize_face3d(points: Tensor, faces: Tensor, size: tuple[int, int], border: int) -> Tensor:
    """Nearest face of each pixel, face3d rules (larger z is nearer); arguments as above.

    `border` is the width in pixels of the frame where the inside test is skipped; 0 for none.
    """
    face_index, index_array, point_array, face_array = _prepare(points, faces, size)
    nearest = np.full(index_array.shape, EMPTY_DEPTH, dtype=point_array.dtype)
    no_weights = np.empty((0, 0, 3), dtype=point_array.dtype)

    def band(image: int, first_row: int, stop_row: int) -> None:
        scan_band(
            point_array[image], face_array, first_row, stop_row, index_array[image],
            nearest[image], no_weights, border,
        )  # fmt: skip

    _run(band, points.shape[0], size[0])
    return face_index


def _prepare(
    points: Tensor, faces: Tensor, size: tuple[int, int]
) -> tuple[Tensor, npt.NDArray[np.int64], npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    face_index = torch.full((points.shape[0], *size), -1, dtype=torch.int64)
    arrays = points.detach().contiguous().numpy(), faces.contiguous().numpy()
    return face_index, face_index.numpy(), *arrays


def _run(band: Callable[[int, int, int], None], images: int, height: int) -> None:
    """Call `band(image, first_row, stop_row)` for all images, on torch's number of threads."""
    threads = torch.get_num_threads()
    parts = max(1, min(-(-2 * threads // max(images, 1)), height // 8)) if threads > 1 else 1
    edges = [height * part // parts for part in range(parts + 1)]
    jobs = [(i, edges[p], edges[p + 1]) for i in range(images) for p in range(parts)]
    if threads == 1 or len(jobs) <= 1:
        for job in jobs:
            band(*job)
        return
    pool = _pools.get((os.getpid(), threads))  # a forked child must not reuse its parent's threads
    if pool is None:
        pool = ThreadPoolExecutor(threads, thread_name_prefix="rasterize")
        _pools[os.getpid(), threads] = pool
    for result in [pool.submit(band, *job) for job in jobs]:
        result.result()
