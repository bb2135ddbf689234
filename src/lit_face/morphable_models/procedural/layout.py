"""Landmarks, UV coordinates and regions of the procedural head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.features import Material, bell, spot
from lit_face.morphable_models.procedural.grid import Grid, smoothstep

Array = NDArray[Any]

# Left-right twins of the 68 iBUG points.
MIRROR_68 = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42,
     47, 46, 39, 38, 37, 36, 41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62,
     61, 60, 67, 66, 65]
)  # fmt: skip

# Subject's left side and midline: landmark, feature curve (plus rows), |x| on the average head, mm.
_ON_CURVES = (
    (22, "brow_top", 3, 11.5), (23, "brow_top", 2, 23.0), (24, "brow_top", 2, 35.0),
    (25, "brow_top", 2, 45.5), (26, "brow_top", 4, 53.5),
    (42, "upper_lid", 0, 17.9), (43, "upper_lid", 0, 26.5), (44, "upper_lid", 0, 36.5),
    (45, "upper_lid", 0, 45.1), (46, "lower_lid", 0, 36.5), (47, "lower_lid", 0, 26.5),
    (51, "upper_lip", 0, 0.0), (52, "upper_lip", 0, 6.8), (53, "upper_lip", 0, 17.0),
    (54, "upper_line", 0, 25.4), (55, "lower_lip", 0, 17.0), (56, "lower_lip", 0, 8.5),
    (57, "lower_lip", 0, 0.0), (62, "upper_line", 0, 0.0), (63, "upper_line", 0, 9.0),
    (64, "upper_line", 0, 22.6), (65, "lower_line", 0, 9.0), (66, "lower_line", 0, 0.0),
)  # fmt: skip
# Landmark, |x|, y on the average head: nose ridge, base of the nose.
_AT_POINTS = (
    (27, 0.0, 27.5), (28, 0.0, 16.0), (29, 0.0, 5.0), (33, 0.0, -21.5), (34, 6.5, -20.5),
    (35, 13.0, -19.0),
)  # fmt: skip
# Jaw line from the chin to the left ear: azimuth (degrees), level t (mm).
_JAW = (
    (8, 0, -86),
    (9, 9.5, -86),
    (10, 20.5, -84),
    (11, 33.5, -78),
    (12, 48, -62),
    (13, 59.5, -42),
    (14, 66.5, -18),
    (15, 71, 4),
    (16, 74, 26),
)


def landmark_index(grid: Grid, neutral: Array) -> NDArray[np.int64]:
    """Vertices (68,) of the iBUG points."""
    index = np.full(68, -1, dtype=np.int64)
    x = neutral[:, 0].reshape(grid.rows, grid.columns)
    y = neutral[:, 1].reshape(grid.rows, grid.columns)
    middle = grid.columns // 2
    front = slice(middle, middle + grid.columns // 4)
    for point, curve, offset, target in _ON_CURVES:
        row = grid.row_of[curve] + offset
        column = int(np.argmin(np.abs(x[row, front] - target)))
        index[point] = row * grid.columns + middle + column
    nose = slice(grid.row_of["brow_bottom"], grid.row_of["upper_lip"])
    for point, across, height in _AT_POINTS:
        distance = np.hypot(x[nose, front] - across, y[nose, front] - height)
        down, along = divmod(int(np.argmin(distance)), distance.shape[1])
        index[point] = (down + nose.start) * grid.columns + middle + along
    tip = neutral[:, 2].reshape(grid.rows, grid.columns)[nose, middle]
    index[30] = (int(np.argmax(tip)) + nose.start) * grid.columns + middle
    for point, azimuth, level in _JAW:
        off = np.hypot((np.degrees(grid.theta) - azimuth) * 1.4, grid.t - level)
        index[point] = int(np.argmin(off))
    missing = index < 0
    index[missing] = grid.mirror_index[index[MIRROR_68[missing]]]
    return index


def uv_coordinates(m: Material) -> Array:
    """UV (V,2): one increasing function of the column, one of the row; mirror u -> 1 - u."""
    grid = m.grid
    theta = np.degrees(grid.theta.reshape(grid.rows, grid.columns)[0])
    half = theta[grid.columns // 2 :]
    step = np.diff(half)
    weight = np.where(half[1:] <= 82, 0.45 + 0.55 * step / 1.6, 0.0)
    outside = half[1:] > 82
    face_share, spare = 0.462, 0.5 - 0.462
    weight = np.where(outside, spare / outside.sum(), face_share * weight / weight.sum())
    right = 0.5 + np.concatenate([[0], np.cumsum(weight)])
    right[-1] = 1.0
    u = np.concatenate([1 - right[:0:-1], right])
    level = grid.t.reshape(grid.rows, grid.columns)
    angle = np.abs(theta)
    drop = -np.diff(level[:, angle < 50], axis=0).mean(axis=1)
    row = np.arange(grid.rows - 1)
    above, below = row < grid.row_of["hairline"] - 1, row >= grid.row_of["jaw"]
    pocket = (row >= grid.row_of["upper_line"]) & (row < grid.row_of["lower_line"])
    share = (0.5 + 0.5 * drop / 1.9) * np.where(pocket, 0.55, 1.0)
    share = np.where(above | below, 0, share)
    share = 0.915 * share / share.sum()
    share = np.where(above, 0.04 / above.sum(), np.where(below, 0.045 / below.sum(), share))
    v = 1 - np.concatenate([[0], np.cumsum(share)])
    v[-1] = 0.0
    return np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1).reshape(-1, 2)


def face_weight(grid: Grid, uv: Array) -> Array:
    """The face in UV (V,): from hairline to jaw, ear to ear, rounder above than below."""
    rows = uv[:, 1].reshape(grid.rows, grid.columns)[:, 0]
    top, bottom = rows[grid.row_of["hairline"] - 1], rows[grid.row_of["jaw"] + 2]
    x = np.abs(uv[:, 0] - 0.5) / 0.466
    y = (uv[:, 1] - (top + bottom) / 2) / ((top - bottom) / 2)
    power = np.where(y > 0, 1.85, 4.0)
    radius = (x**power + np.abs(y) ** power) ** (1 / power)
    return np.asarray(np.clip((1.0 - radius) / 0.04 + 0.5, 0.0, 1.0))


def regions(m: Material, uv: Array, scalp: Array) -> dict[str, Array]:
    """Region weights (V,) in [0,1] by name."""
    grid, a, y, front = m.grid, m.a, m.y, m.front
    row = np.repeat(np.arange(grid.rows), grid.columns)
    rows = grid.row_of
    face = face_weight(grid, uv)
    eyeball = ((row > rows["upper_lid"] + 1) & (row < rows["lower_lid"] - 1)) * smoothstep(
        m.eye_inside, 0.01, 0.10
    )
    pocket = ((row > rows["upper_line"]) & (row < rows["lower_line"])) * np.minimum(
        m.mouth_inside * 5, 1
    )
    degrees = np.degrees(np.abs(grid.theta))
    ear = smoothstep(degrees, 84, 88) * (1 - smoothstep(degrees, 114, 118))
    ear = ear * ((y > -32) & (y < 38))
    brow_row = (row - (rows["brow_top"] + rows["brow_bottom"]) / 2) / 3.5
    brow = bell(brow_row, 0, 1) * smoothstep(a, 6, 11) * (1 - smoothstep(a, 50, 57)) * front
    lips = ((row >= rows["upper_lip"]) & (row <= rows["lower_lip"])) * np.minimum(
        m.mouth_inside * 5, 1
    )
    return {
        "face": face,
        "eyes": np.clip(2.2 * spot(a, y, 31.5, 25, 20, 12, 2), 0, 1) * front,
        "nose": np.clip(2.2 * spot(a, y, 0, -2, 17, 30, 2), 0, 1) * front,
        "mouth": np.clip(2.2 * spot(a, y, 0, -43.5, 31, 16, 2), 0, 1) * front,
        "skin": np.clip(1 - scalp, 0, 1) * (1 - eyeball) * (1 - pocket),
        "eyeballs": eyeball,
        "mouth_interior": pocket,
        "lips": lips * (1 - pocket),
        "brows": brow,
        "ears": ear,
        "scalp": scalp,
        "neck": smoothstep(row.astype(float), rows["jaw"] - 0.5, rows["jaw"] + 1.5),
    }
