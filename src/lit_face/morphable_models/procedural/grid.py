"""The procedural head's sampling grid: rows follow facial features, columns have one azimuth.

Material coordinates: azimuth `theta` about the vertical axis (0 in front, positive to the
subject's left) and level `t` (mm; equal to y on the face, see `stations.py`). They never change
with identity or expression, so a vertex always is the same place of the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[Any]

EYE_CENTRE = (31.5, 24.5)  # x, y of the palpebral fissure, mm
EYE_HALF_WIDTH = 14.2
MOUTH_HALF_WIDTH = 25.5

# Azimuth ranges (degrees) and spacing: dense at nose and eyes, coarse at the back of the head.
_COLUMN_SPACING = ((0, 1.35), (10, 1.35), (12, 1.20), (33, 1.20), (38, 2.2), (60, 3.5), (80, 3.8),
                   (86, 3.0), (116, 3.0), (126, 7), (180, 14))  # fmt: skip
HALF_COLUMNS = 60

# Feature curves from the crown down, and the number of row steps from each to the next.
ROW_STEPS = {
    "crown": 6,
    "hairline": 6,
    "forehead": 3,
    "brow_top": 7,
    "brow_bottom": 3,
    "crease": 4,
    "upper_lid": 11,
    "lower_lid": 3,
    "bag": 5,
    "alar_top": 10,
    "nose_base": 5,
    "upper_lip": 5,
    "upper_line": 9,
    "lower_line": 5,
    "lower_lip": 4,
    "chin_crease": 5,
    "jaw": 3,
    "throat": 4,
    "neck": 0,
}


def smoothstep(value: Array, low: float, high: float) -> Array:
    """Cubic step from 0 at `low` to 1 at `high`."""
    unit = np.clip((value - low) / (high - low), 0.0, 1.0)
    return unit * unit * (3.0 - 2.0 * unit)


def _columns() -> Array:
    """Azimuth (degrees) of the columns from the front (0) to the back (180)."""
    angle = np.linspace(0, 180, 3601)
    knots, spacing = np.array(_COLUMN_SPACING, dtype=float).T
    density = 1.0 / np.interp(angle, knots, spacing)
    count = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(angle))])
    return np.interp(np.linspace(0, count[-1], HALF_COLUMNS + 1), count, angle)


def _blend(front: Array, side: float, back: float, angle: Array) -> Array:
    """Carry a front curve over to constant levels at the side and at the back."""
    level = front + (side - front) * smoothstep(angle, 34, 76)
    return level + (back - side) * smoothstep(angle, 100, 170)


def _eye_curves(x: Array) -> tuple[Array, Array]:
    """Upper and lower lid margins (mm) over the frontal coordinate x of one side."""
    s = (x - EYE_CENTRE[0]) / EYE_HALF_WIDTH
    axis = EYE_CENTRE[1] - 1.0 + 0.9 * np.clip(s, -1.6, 1.6)
    inside = np.clip(1 - s * s, 0, 1)
    skew = 1 - 0.18 * s
    outside = np.clip(np.abs(s) - 1, 0, None)
    gap = 0.35 + 4.0 * (1 - np.exp(-(outside**2) * 2.5))
    upper = axis + 5.9 * inside**0.62 * skew + gap
    lower = axis - 4.2 * inside**0.72 * (1 + 0.15 * s) - gap
    return upper, lower


def _mouth_curves(x: Array) -> tuple[Array, Array, Array, Array]:
    """Upper border, upper lip line, lower lip line and lower border of the lips (mm)."""
    s = x / MOUTH_HALF_WIDTH
    inside = np.clip(1 - s * s, 0, 1)
    gap = 0.12 + 2.5 * (1 - np.exp(-(np.clip(s - 1, 0, None) ** 2) * 3))
    line = -43.3 - 0.7 * np.exp(-((x / 5.0) ** 2)) + 0.5 * inside + 1.1 * np.clip(s, 0, 1.3) ** 3
    bow = 8.4 * inside**0.75 - 1.5 * np.exp(-((x / 4.2) ** 2)) + 0.5 * np.exp(-(((x - 7) / 4) ** 2))
    upper = line + bow + gap * 1.6 + 0.3
    lower = line - 10.0 * inside**0.62 - gap * 1.6 - 0.3
    return upper, line + gap, line - gap, lower


def _feature_curves(angle: Array) -> dict[str, Array]:
    """Level t (mm) of each feature curve at the columns (azimuth in degrees, one side)."""
    eye_x = 86.0 * np.sin(np.radians(np.minimum(angle, 90)))
    mouth_x = 98.0 * np.sin(np.radians(np.minimum(angle, 90)))
    upper_lid, lower_lid = _eye_curves(eye_x)
    upper_lip, upper_line, lower_line, lower_lip = _mouth_curves(mouth_x)
    s = (eye_x - EYE_CENTRE[0]) / EYE_HALF_WIDTH
    arch = 4.2 * np.exp(-(((eye_x - 39) / 14) ** 2)) - 0.10 * np.clip(eye_x - 44, 0, None)
    arch = arch + 0.4 * np.exp(-(((eye_x - 8) / 10) ** 2))
    flat = np.zeros_like(angle)
    crease = upper_lid + 3.6 + 1.4 * np.exp(-(((s - 0.1) / 0.8) ** 2))
    jaw = -86 + 3 * smoothstep(angle, 8, 28) + 24 * smoothstep(angle, 18, 84)
    return {
        "crown": flat + 171.9,
        "hairline": _blend(flat + 99 - 0.02 * eye_x**2 / 10, 84, 60, angle),
        "forehead": _blend(flat + 68, 62, 44, angle),
        "brow_top": _blend(53.5 + arch, 51, 35, angle),
        "brow_bottom": _blend(42 + arch, 42, 25, angle),
        "crease": _blend(crease, 36, 19, angle),
        "upper_lid": _blend(upper_lid, 31, 14, angle),
        "lower_lid": _blend(lower_lid, 17, 1, angle),
        "bag": _blend(lower_lid - 5.5, 12, -4, angle),
        "alar_top": _blend(flat + 0.5, 1, -13, angle),
        "nose_base": _blend(flat - 22.5, -14, -28, angle),
        "upper_lip": _blend(upper_lip, -22, -36, angle),
        "upper_line": _blend(upper_line, -27, -41, angle),
        "lower_line": _blend(lower_line, -35, -49, angle),
        "lower_lip": _blend(lower_lip, -41, -54, angle),
        "chin_crease": _blend(flat - 60.5, -47, -59, angle),
        "jaw": jaw - 8 * smoothstep(angle, 90, 170),
        "throat": _blend(flat - 122, -95, -95, angle),
        "neck": flat - 167,
    }


@dataclass(frozen=True, eq=False)
class Grid:
    """Topology and material coordinates of the head.

    Attributes:
        rows, columns: size; vertex (r, c) has index r * columns + c, column 0 at the subject's
            right side of the back seam.
        theta: (V,) azimuth, radians. t: (V,) level, mm.
        row_of: feature curve name to its row.
        step: (V,) fractional position among the feature curves (0 crown, 1 hairline, ...).
    """

    rows: int
    columns: int
    theta: Array
    t: Array
    row_of: dict[str, int]
    step: Array

    @property
    def mirror_index(self) -> NDArray[np.int64]:
        """Left-right twin of each vertex (V,)."""
        index = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        return index[:, ::-1].reshape(-1)

    def faces(self) -> NDArray[np.int64]:
        """Triangles (F,3), counter-clockwise from outside, mirrored diagonals on the two sides."""
        index = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        a, b = index[:-1, :-1], index[:-1, 1:]
        c, d = index[1:, :-1], index[1:, 1:]
        left = np.arange(self.columns - 1) >= (self.columns - 1) // 2
        left = np.broadcast_to(left, a.shape)
        first = np.where(left[..., None], np.stack([a, c, d], -1), np.stack([a, c, b], -1))
        second = np.where(left[..., None], np.stack([a, d, b], -1), np.stack([b, c, d], -1))
        return np.stack([first, second], axis=2).reshape(-1, 3).astype(np.int64)


def build_grid() -> Grid:
    """Lay out rows and columns."""
    half = _columns()
    curves = _feature_curves(half)
    names = list(ROW_STEPS)
    steps = np.array([ROW_STEPS[name] for name in names[:-1]])
    knots = np.concatenate([[0], np.cumsum(steps)])
    levels = np.stack([curves[name] for name in names])
    dense = PchipInterpolator(knots, levels, axis=0)(np.arange(knots[-1] + 1))
    level = np.concatenate([dense[:, :0:-1], dense], axis=1)
    angle = np.radians(np.concatenate([-half[:0:-1], half]))
    rows, columns = level.shape
    step = np.interp(np.arange(rows), knots, np.arange(len(names)))
    return Grid(
        rows=rows,
        columns=columns,
        theta=np.broadcast_to(angle, level.shape).reshape(-1).copy(),
        t=level.reshape(-1),
        row_of=dict(zip(names, knots.tolist(), strict=True)),
        step=np.repeat(step, columns),
    )
