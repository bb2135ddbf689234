"""The average face: brows, sockets, lids and eyeballs, nose, lips, mouth interior, chin, ears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.grid import (
    EYE_CENTRE,
    EYE_HALF_WIDTH,
    MOUTH_HALF_WIDTH,
    Grid,
    smoothstep,
)
from lit_face.morphable_models.procedural.stations import radius, rays

Array = NDArray[Any]

EYEBALL_CENTRE = np.array([31.5, 24.5, 53.6])
IRIS_CENTRE = (31.2, 25.2)
EYEBALL_RADIUS = 15.4  # larger than life (12), so that the ball fills the fissure to its corners

# Protrusion of the nose's midline and its half-width over height y, mm.
_NOSE_Y = (44, 36, 30, 24, 18, 12, 6, 0, -5, -9, -12, -15, -18, -20.5, -23, -27, -34)
_NOSE_OUT = (0.0, 1.0, 3.2, 7, 11.5, 15.8, 19.8, 23.6, 25.6, 25.6, 24.2, 21.5, 17, 12.5, 8, 3, 0)
_NOSE_WIDTH = (9, 7.5, 7, 7.5, 8.2, 9, 9.8, 10.8, 11.3, 11.2, 10.8, 10.0, 9.0, 8, 6, 5, 4.5)

# Mouth interior, from the upper lip line to the lower one: (height, depth) behind the lip line, mm.
_INTERIOR = ((5.0, -6.0), (4.0, -7.0), (1.0, -6.5), (-1.6, -7.0), (3.0, -24.0), (-3.0, -32.0),
             (-5.5, -16.0), (-3.0, -9.0), (-7.0, -8.5), (-9.5, -8.5))  # fmt: skip


def bell(x: Array, centre: float, width: float) -> Array:
    """Gaussian bell of unit height; `width` is where it falls to 1/e."""
    return np.exp(-(((x - centre) / width) ** 2))


def spot(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float, power: float = 1) -> Array:
    """Two-dimensional bell; `power` above 1 makes it flatter with a steeper edge."""
    return np.exp(-((((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) ** power))


def soft_maximum(a: Array, b: Array, softness: float) -> Array:
    """Maximum with a rounded transition `softness` mm wide."""
    return np.logaddexp(a / softness, b / softness) * softness


@dataclass(frozen=True, eq=False)
class Material:
    """Where each vertex belongs on the average head: fixed for all people and expressions.

    Attributes:
        x, y: frontal coordinates on the smooth head, mm. a: |x|. side: sign of x.
        front: 1 on the front half, 0 behind.
    """

    grid: Grid
    base: Array
    direction: Array
    x: Array
    y: Array
    a: Array
    side: Array
    front: Array
    eye_inside: Array
    mouth_inside: Array


def build_material(grid: Grid) -> Material:
    """Evaluate the smooth head on the grid."""
    origin, direction = rays(grid.theta, grid.t)
    base = origin + direction * radius(grid.theta, grid.t)[:, None]
    height = base[:, 1]
    jaw = smoothstep(-height, -5, 60) * (1 - smoothstep(-height, 80, 105))
    base[:, 0] *= 1 - 0.045 * jaw - 0.07 * smoothstep(-height, 70, 105)
    x, y = base[:, 0], base[:, 1]
    angle = np.degrees(np.abs(grid.theta))
    s = (86.0 * np.sin(np.minimum(np.abs(grid.theta), np.pi / 2)) - EYE_CENTRE[0]) / EYE_HALF_WIDTH
    m = 98.0 * np.sin(np.minimum(np.abs(grid.theta), np.pi / 2)) / MOUTH_HALF_WIDTH
    return Material(
        grid=grid,
        base=base,
        direction=direction,
        x=x,
        y=y,
        a=np.abs(x),
        side=np.sign(x),
        front=1 - smoothstep(angle, 70, 95),
        eye_inside=np.clip(1 - s * s, 0, 1) * (angle < 60),
        mouth_inside=np.clip(1 - m * m, 0, 1) * (angle < 60),
    )


def _relief(m: Material) -> Array:
    """Radial displacement (V,) mm of the large soft forms."""
    a, y = m.a, m.y
    out = 2.2 * spot(a, y, 26, 47, 20, 7) + 1.2 * spot(a, y, 0, 44, 10, 8)
    out -= 5.0 * spot(a, y, 30, 27, 17, 12, 1.3) + 4.5 * spot(a, y, 16, 29, 7, 9)
    out += 2.0 * spot(a, y, 52, 2, 20, 15) + 1.0 * spot(a, y, 30, -2, 14, 12)
    out -= 1.4 * spot(a, y, 58, 38, 10, 14)
    out += 1.6 * spot(a, y, 0, -76, 15, 10) - 1.8 * spot(a, y, 0, -59, 16, 5)
    # Nasolabial fold: a groove from the wing of the nose to beyond the corner of the mouth.
    along = np.clip((y + 14) / -30, 0, 1)
    fold = 20.5 + 13 * along - a
    window = smoothstep(-y, 8, 16) * (1 - smoothstep(-y, 34, 52))
    out += window * (-1.3 * bell(fold, 0, 3.2) + 1.2 * bell(fold, -8, 7))
    # Philtrum and its ridges.
    philtrum = smoothstep(-y, 21, 25) * (1 - smoothstep(-y, 33, 38))
    out += philtrum * (-1.2 * bell(a, 0, 2.6) + 0.5 * bell(a, 5, 2.5))
    return out * m.front


def _nose(m: Material) -> tuple[Array, Array]:
    """Radial and vertical displacement (V,) mm of the nose."""
    a, y = m.a, m.y
    height = np.interp(y, _NOSE_Y[::-1], _NOSE_OUT[::-1])
    width = np.interp(y, _NOSE_Y[::-1], _NOSE_WIDTH[::-1])
    out = height * np.exp(-((a / width) ** 2.3))
    wing = spot(a, y, 12.5, -12.5, 6.0, 7.0, 1.6)
    out += 9.5 * wing
    out -= 1.6 * spot(a, y, 19.5, -12, 2.6, 7) * m.front
    out -= 1.0 * spot(a, y, 10.5, -3, 4.0, 4)  # between ball and wing
    nostril = spot(a, y, 7.0, -18.6, 3.6, 2.9, 1.3)
    out -= 6.5 * nostril
    lift = 2.5 * nostril - 1.2 * spot(a, y, 0, -12, 6, 5)
    return out * m.front, lift * m.front


def iris_offset(m: Material, neutral: Array) -> Array:
    """Offset (V,2) mm of eyeball vertices from the middle of the iris, 50 elsewhere."""
    row = np.repeat(np.arange(m.grid.rows), m.grid.columns)
    rows = m.grid.row_of
    ball = (row > rows["upper_lid"] + 1) & (row < rows["lower_lid"] - 1) & (m.eye_inside > 0.01)
    offset = np.stack([np.abs(neutral[:, 0]) - IRIS_CENTRE[0], neutral[:, 1] - IRIS_CENTRE[1]], 1)
    return np.where(ball[:, None], offset, 50.0)


def _ball_depth(x: Array, y: Array, extra: float) -> Array:
    """Front depth z of the eyeball of that side, far behind where the ball is not."""
    square = (
        (EYEBALL_RADIUS + extra) ** 2 - (np.abs(x) - EYEBALL_CENTRE[0]) ** 2
        - (y - EYEBALL_CENTRE[1]) ** 2
    )  # fmt: skip
    return np.where(square > 0, EYEBALL_CENTRE[2] + np.sqrt(np.maximum(square, 0)), 0.0)


def _shape_eyes(m: Material, head: Array) -> Array:
    """Lay the lids over the eyeballs and set the eyeball rows (V,3)."""
    grid, x, y = m.grid, head[:, 0], head[:, 1]
    row = np.repeat(np.arange(grid.rows), grid.columns)
    upper, lower = grid.row_of["upper_lid"], grid.row_of["lower_lid"]
    near = spot(m.a, m.y, EYE_CENTRE[0], EYE_CENTRE[1], 21, 17, 2) * m.front
    out = head.copy()
    lid = soft_maximum(head[:, 2], _ball_depth(x, y, 2.0), 0.8)
    out[:, 2] += near * (lid - head[:, 2])
    crease = grid.row_of["crease"]
    fold = bell(row.astype(float), crease + 0.5, 1.3) * np.minimum(m.eye_inside * 2.5, 1)
    out[:, 2] -= 1.5 * fold
    # Rows between the margins: inner edges, then the ball; both lids overlap the ball a little.
    inside = (row > upper) & (row < lower)
    window = np.minimum(m.eye_inside * 4, 1.0)
    fraction = np.clip((row - upper - 2) / (lower - upper - 4), 0, 1)
    top = head.reshape(grid.rows, grid.columns, 3)[upper, :, 1]
    bottom = head.reshape(grid.rows, grid.columns, 3)[lower, :, 1]
    top, bottom = np.tile(top, grid.rows), np.tile(bottom, grid.rows)
    ball_y = (top + 2.0 * window) + fraction * (bottom - top - 3.5 * window)
    edge = (row == upper + 1) | (row == lower - 1)
    ball_y = np.where(edge, np.where(row == upper + 1, top, bottom), ball_y)
    out[:, 1] = np.where(inside, y + window * (ball_y - y), out[:, 1])
    ball = _ball_depth(x, out[:, 1], 0.0)
    cornea = 1.1 * np.exp(
        -((((m.a - IRIS_CENTRE[0]) ** 2 + (out[:, 1] - IRIS_CENTRE[1]) ** 2) / 5.6**2) ** 2)
    )
    target = np.where(ball > 40, ball + cornea, out[:, 2] - 2)
    target = np.minimum(target, out[:, 2] - 0.2)
    target = np.where(edge, np.minimum(target, out[:, 2] - 1.2), target)
    out[:, 2] = np.where(inside, out[:, 2] + window * (target - out[:, 2]), out[:, 2])
    return out


def _shape_mouth(m: Material, head: Array) -> Array:
    """Curl the lips and fold the rows between the lip lines into the mouth (V,3)."""
    grid = m.grid
    out = head.reshape(grid.rows, grid.columns, 3).copy()
    row_of = grid.row_of
    inside = m.mouth_inside.reshape(grid.rows, grid.columns)[0]
    full = inside**0.5
    upper, line_u, line_l, lower = (
        row_of[name] for name in ("upper_lip", "upper_line", "lower_line", "lower_lip")
    )
    for start, stop, height in ((upper, line_u, 3.6), (lower, line_l, 4.6)):
        direction = 1 if stop > start else -1
        for row in range(start - 2 * direction, stop + direction, direction):
            f = (row - start) / (stop - start)
            g = max(f, 0.0)
            bump = height * np.sin(np.pi * min(g**0.75, 1) * 0.82) if f >= 0 else 0.0
            roll = -3.4 * max(g, 0) ** 3.5
            out[row, :, 2] += full * (bump + roll) + 0.5 * full * np.exp(-((f / 0.25) ** 2))
    x = out[line_u, :, 0]
    upper_edge, lower_edge = out[line_u].copy(), out[line_l].copy()
    middle = (upper_edge + lower_edge) / 2
    count = line_l - line_u - 1
    shape = np.array(_INTERIOR)
    rows = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(shape)), np.arange(len(shape)))
    window = np.minimum(inside * 3, 1.0)
    arch = -((x / 25.0) ** 2) * 5
    for k in range(count):
        height, depth = (np.interp(rows[k], np.arange(len(shape)), shape[:, i]) for i in (0, 1))
        target = middle.copy()
        target[:, 0] *= 0.93
        target[:, 1] += height
        target[:, 2] += depth + arch
        out[line_u + 1 + k] += window[:, None] * (target - out[line_u + 1 + k])
    return out.reshape(-1, 3)


def ear_relief(m: Material) -> Array:
    """Displacement (V,3) mm of the ears."""
    angle = np.degrees(np.abs(m.grid.theta))
    tilt = 0.18
    p0, q0 = (angle - 101.0) * 1.33, m.y - 4.0
    p, q = p0 + tilt * q0, q0
    width = 15.5 + 3.0 * smoothstep(q, -22, 14)
    height = 31.0
    rho = np.sqrt((p / width) ** 2 + (q / height) ** 2)
    plate = 1 - smoothstep(rho, 0.93, 1.10)
    rise = smoothstep(p, -14, 12)
    out = plate * (3 + 13 * rise)
    out += plate * 2.4 * np.exp(-(((rho - 0.88) / 0.10) ** 2)) * smoothstep(p, -12, -2)
    out -= plate * 2.6 * np.exp(-(((rho - 0.68) / 0.10) ** 2)) * smoothstep(q, -16, -4)
    out -= 6.5 * spot(p, q, -1.5, -4, 7.5, 11, 1.5)
    out += 2.5 * spot(p, q, -11.5, -3, 3, 4.5)  # tragus
    back = plate * rise * 7
    move = np.zeros((len(p), 3))
    move[:, 0] = m.side * out * 0.93
    move[:, 2] = -back + 2.5 * plate * 0
    return move


def neutral_head(m: Material) -> Array:
    """Average neutral head (V,3), mm."""
    nose_out, nose_lift = _nose(m)
    head = m.base + m.direction * (_relief(m) + nose_out)[:, None]
    head[:, 1] += nose_lift
    head = _shape_eyes(m, head)
    head = _shape_mouth(m, head)
    return head + ear_relief(m)
