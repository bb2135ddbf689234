"""Rasterisation in plain PyTorch, on any device: no compiler, no loop over triangles.

Every (triangle, pixel of its bounding box) pair is a candidate. Candidates are tested in chunks of
bounded memory, and one scatter-minimum on (depth, face) packed into an int64 settles each pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

EMPTY = torch.iinfo(torch.int64).max
CHUNK_CPU, CHUNK_ACCELERATOR = 1 << 19, 1 << 22

Coverage = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def rasterize_default(points: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest face of each pixel, default rules; see `lit_face.rendering.rasterize`.

    Args:
        points: (B,V,3) float32, x, y in pixels, depth growing away.
        faces: (F,3) int64.
        size: height and width.

    Returns:
        (B,H,W) int64, -1 where nothing is seen.
    """
    return _rasterize(points, faces, size, _default_coverage)


def rasterize_face3d(points: Tensor, faces: Tensor, size: tuple[int, int], border: int) -> Tensor:
    """Nearest face of each pixel, face3d rules (larger z is nearer); arguments as above.

    `border` is the width in pixels of the frame where the inside test is skipped; 0 for none.
    """
    height, width = size

    def coverage(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        inside, depth = _face3d_coverage(corners, x, y)
        if border:
            inside |= (x < border) | (x > width - 1 - border)
            inside |= (y < border) | (y > height - 1 - border)
        return inside & (depth > -999999), -depth

    return _rasterize(points, faces, size, coverage)


def _default_coverage(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    ax, ay, az, bx, by, bz, cx, cy, cz = corners.unbind(0)
    adx, bdx, cdx = ax - x, bx - x, cx - x
    ady, bdy, cdy = ay - y, by - y, cy - y
    ea = bdx * cdy - bdy * cdx
    eb = cdx * ady - cdy * adx
    ec = adx * bdy - ady * bdx
    total = ea + eb + ec
    inside = (ea >= 0) & (eb >= 0) & (ec >= 0) | (ea <= 0) & (eb <= 0) & (ec <= 0)
    depth = (ea * az + eb * bz + ec * cz) / total
    return inside & (total != 0) & (depth < torch.inf), depth


def _face3d_coverage(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    ax, ay, az, bx, by, bz, cx, cy, cz = corners.unbind(0)
    v0x, v0y, v1x, v1y = cx - ax, cy - ay, bx - ax, by - ay
    dot00 = v0x * v0x + v0y * v0y
    dot01 = v0x * v1x + v0y * v1y
    dot11 = v1x * v1x + v1y * v1y
    determinant = dot00 * dot11 - dot01 * dot01
    inverse = torch.where(determinant == 0, 0.0, 1 / determinant)
    v2x, v2y = x - ax, y - ay
    dot02 = v0x * v2x + v0y * v2y
    dot12 = v1x * v2x + v1y * v2y
    u = (dot11 * dot02 - dot01 * dot12) * inverse
    v = (dot00 * dot12 - dot01 * dot02) * inverse
    inside = (u >= 0) & (v >= 0) & (u + v < 1)
    return inside, (1 - u - v) * az + v * bz + u * cz


@fp32_region()
def _rasterize(points: Tensor, faces: Tensor, size: tuple[int, int], coverage: Coverage) -> Tensor:
    points = points.detach()
    batch, height, width = points.shape[0], *size
    keys = torch.full((batch * height * width,), EMPTY, dtype=torch.int64, device=points.device)
    corners = points[:, faces].flatten(0, 1).flatten(1)  # (B*F, 9): ax ay az bx by bz cx cy cz
    box, count = _bounding_boxes(corners, size)
    kept = count.nonzero().squeeze(1)
    corners, box, count = corners[kept].T.contiguous(), box[:, kept], count[kept]
    face = kept % max(len(faces), 1)
    first_pixel = torch.div(kept, max(len(faces), 1), rounding_mode="floor") * (height * width)
    stop = count.cumsum(0)
    box = torch.cat([box, (stop - count)[None]])
    total = int(stop[-1]) if len(stop) else 0
    chunk = CHUNK_CPU if points.device.type == "cpu" else CHUNK_ACCELERATOR
    for first in range(0, total, chunk):
        candidate = torch.arange(first, min(first + chunk, total), device=points.device)
        owner = torch.searchsorted(stop, candidate, right=True)
        left, top, columns, start = box.index_select(1, owner)
        offset = candidate - start
        row = torch.div(offset, columns, rounding_mode="floor")
        x, y = left + offset - row * columns, top + row
        chosen = corners.index_select(1, owner)
        inside, depth = coverage(chosen, x.to(points.dtype), y.to(points.dtype))
        hit = inside.nonzero().squeeze(1)
        owner, pixel = owner[hit], y[hit] * width + x[hit]
        key = (_sortable(depth[hit]) << 32) | face[owner]
        keys.scatter_reduce_(0, first_pixel[owner] + pixel, key, "amin")
    face_index = torch.where(keys == EMPTY, -1, keys & 0xFFFFFFFF)
    return face_index.view(batch, height, width)


def _bounding_boxes(corners: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return (3,T) left, top, columns and (T,) pixel counts, 0 off-screen or if not finite."""
    height, width = size
    x, y = corners[:, 0::3], corners[:, 1::3]
    left, right = x.amin(1).ceil().clamp(min=0), x.amax(1).floor().clamp(max=width - 1)
    top, bottom = y.amin(1).ceil().clamp(min=0), y.amax(1).floor().clamp(max=height - 1)
    seen = (left <= right) & (top <= bottom) & corners.isfinite().all(1)
    columns = torch.where(seen, right - left + 1, 0).long()
    rows = torch.where(seen, bottom - top + 1, 0).long()
    origin = torch.where(seen, torch.stack([left, top]), 0).long()
    return torch.cat([origin, columns[None]]), columns * rows


def _sortable(depth: Tensor) -> Tensor:
    """Map float32 to int64 in [-2**31, 2**31) with the same order (and -0 equal to 0)."""
    bits = (depth + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
