"""Where on the head each colour belongs: windows in material coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.features import Material, bell, iris_offset, spot
from lit_face.morphable_models.procedural.grid import smoothstep

Array = NDArray[Any]


def paint_windows(m: Material, neutral: Array) -> dict[str, Array]:
    """Weights (V,) of every place that the painter knows, by name."""
    a, y, front, grid = m.a, m.y, m.front, m.grid
    row = np.repeat(np.arange(grid.rows, dtype=float), grid.columns)
    rows = grid.row_of
    up, line_u, line_l, low = (
        rows[n] for n in ("upper_lip", "upper_line", "lower_line", "lower_lip")
    )
    upper, lower = rows["upper_lid"], rows["lower_lid"]
    in_mouth = np.minimum(m.mouth_inside * 5, 1.0)
    in_eye = smoothstep(m.eye_inside, 0.01, 0.10)
    inside = (line_l - line_u) * 1.0
    f = (row - line_u) / inside  # 0 at the upper lip line, 1 at the lower
    pocket = (f > 0.02) * (f < 0.98) * in_mouth
    border = 0.35 + 0.65 * in_mouth
    lips = smoothstep(row, up - 0.6 * border, up + 0.6) * (
        1 - smoothstep(row, low - 0.6, low + 0.6)
    )
    ball = ((row > upper + 1) & (row < lower - 1)) * in_eye
    nx, ny = np.abs(neutral[:, 0]), neutral[:, 1]
    iris = np.hypot(*iris_offset(m, neutral).T)
    teeth = pocket * ((f > 0.14) & (f < 0.40)) + 0.8 * pocket * ((f > 0.76) & (f < 0.90))
    gaps = sum(bell(nx, middle, 1.0) for middle in (0.0, 8.2, 14.6))
    teeth = teeth * (1 - 0.22 * gaps)
    degrees = np.degrees(np.abs(grid.theta))
    cheek_line = np.interp(
        degrees, [0, 9, 13, 20, 30, 45, 58, 68, 76, 84],
        [-56, -56, -38, -36, -42, -36, -20, 4, 16, 16],
    )  # fmt: skip
    beard = smoothstep(cheek_line - grid.t, -3, 9) * (1 - smoothstep(-grid.t, 98, 122))
    beard = beard * (1 - smoothstep(degrees, 79, 88)) * (1 - lips * in_mouth)
    brow_row = (row - (rows["brow_top"] + rows["brow_bottom"]) / 2) / (
        rows["brow_bottom"] - rows["brow_top"]
    )
    hairline = scalp_weight(m)
    ear = smoothstep(degrees, 86, 92) * (1 - smoothstep(degrees, 112, 120)) * (y > -34) * (y < 38)
    return {
        "face": front * smoothstep(-y, -90, -60),
        "under_eye": spot(a, y, 29, 13, 14, 5.5) * front + 0.8 * spot(a, y, 17, 21, 5, 6) * front,
        "lid": bell(row, (rows["crease"] + upper) / 2, 3.0) * np.minimum(m.eye_inside * 2, 1),
        "crease": bell(row, rows["crease"], 1.2) * np.minimum(m.eye_inside * 2, 1),
        "lid_edge": (bell(row, upper, 2) + bell(row, lower, 1.6)) * in_eye,
        "lash": (
            np.maximum(bell(row, upper + 0.6, 1.0), 0.35 * bell(row, lower - 0.6, 0.9))
            * smoothstep(m.eye_inside, 0.08, 0.32)
        ),
        "forehead": spot(a, y, 0, 72, 42, 24, 1.4) * front,
        "muzzle_pale": spot(a, y, 0, -40, 30, 22) * front,
        "nostril": spot(nx, ny, 6.6, -17.0, 3.6, 2.6, 1.5) * front * 3.6,
        "lip_line": bell(row, line_u, 0.8) * in_mouth + bell(row, line_l, 0.8) * in_mouth,
        "cheek": spot(a, y, 42, -4, 22, 18) * front,
        "nose_tip": spot(a, y, 0, -8, 17, 11) * front,
        "nose_shine": spot(a, y, 0, 0, 8, 30) * front,
        "ear": ear,
        "chin": spot(a, y, 0, -74, 15, 12) * front,
        "freckle_zone": spot(a, y, 22, 4, 38, 20) * front + 0.3 * spot(a, y, 0, 70, 50, 25) * front,
        "lips": lips * in_mouth * (1 - pocket),
        "upper_lip": (row < line_u + 1) * 1.0,
        "wet": (bell(row, line_u, 1.0) + bell(row, line_l, 1.0)) * in_mouth * 0.6,
        "cavity": pocket,
        "gum": pocket * (f < 0.14) + pocket * (f > 0.90),
        "teeth": teeth * (1 - smoothstep(nx, 15, 22)),
        "tongue": pocket * ((f > 0.60) & (f < 0.74)),
        "beard": beard,
        "moustache": smoothstep(-y, 21.5, 25) * (1 - smoothstep(row, up - 1.2, up + 0.2))
        * np.exp(-((a / 27) ** 6)) * front,
        "scalp": hairline,
        "brow_v": brow_row * 2.0,
        "brow_u": (a - 10) / 42,
        "brow_zone": (front > 0.3) * ((y > 15) & (y < 70)) * (a < 66) * 1.0,
        "matt": (1 - 0.6 * hairline) * (1 - 0.7 * pocket),
        "iris_radius": iris,
        "eyeball": ball,
        "eye_shade": ball * (1 - smoothstep(row, upper + 2, upper + 5.5)),
        "caruncle": ball * (1 - smoothstep(nx, 18.5, 21.5)),
    }  # fmt: skip


def scalp_weight(m: Material) -> Array:
    """Where hair grows on the head (V,) in [0,1]: crown, temples in front of the ears, nape."""
    degrees = np.degrees(np.abs(m.grid.theta))
    y = m.base[:, 1]
    limit = np.interp(
        degrees, [0, 25, 40, 52, 62, 72, 84, 92, 104, 118, 125, 150, 180],
        [92, 91, 86, 74, 52, 26, 2, 22, 42, 20, -30, -62, -64],
    )  # fmt: skip
    return smoothstep(y - limit, -4, 5)
