"""What the face does: jaw, lids, brows, lips and cheeks moved by some forty parameters.

The jaw turns about a hinge near the ears, the upper lid slides over the eyeball, everything else is
windows in material coordinates. Parameters: 1 is the full movement, names ending in _left and
_right act on one side of the subject.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.features import (
    EYEBALL_CENTRE,
    EYEBALL_RADIUS,
    Material,
    bell,
    spot,
)
from lit_face.morphable_models.procedural.grid import MOUTH_HALF_WIDTH, smoothstep

Array = NDArray[Any]
Parameters = dict[str, float]

_PAIRED = (
    "eye_close", "squint", "brow_inner_up", "brow_outer_up", "brow_down", "smile", "corner_down",
    "upper_lip_up", "lower_lip_down", "stretch", "cheek_puff", "nose_wrinkle", "dimple",
)  # fmt: skip
_SINGLE = (
    "jaw_open", "jaw_left", "jaw_forward", "pucker", "funnel", "press", "mouth_left", "roll_upper",
    "roll_lower", "chin_raise", "gaze_left", "gaze_up", "lips_part",
)  # fmt: skip
PARAMETERS = (*(f"{name}_{side}" for name in _PAIRED for side in ("left", "right")), *_SINGLE)

# Named full expressions: what a person would ask for.
NAMED: dict[str, Parameters] = {
    "neutral": {},
    "eyes_closed": {"eye_close": 1.0},
    "left_eye_closed": {"eye_close_left": 1.0, "squint_left": 0.3},
    "right_eye_closed": {"eye_close_right": 1.0, "squint_right": 0.3},
    "eyes_wide": {"eye_close": -0.35, "brow_inner_up": 0.5, "brow_outer_up": 0.5},
    "mouth_open": {"jaw_open": 0.65, "lips_part": 0.3},
    "jaw_open": {"jaw_open": 1.0, "lips_part": 0.3},
    "smile": {"smile": 0.85, "squint": 0.3, "upper_lip_up": 0.1},
    "laugh": {"smile": 1.0, "jaw_open": 0.45, "upper_lip_up": 0.5, "squint": 0.6, "lips_part": 0.5},
    "frown": {"corner_down": 0.9, "brow_down": 0.8, "chin_raise": 0.4},
    "sad": {"corner_down": 0.7, "brow_inner_up": 0.9, "eye_close": 0.2, "chin_raise": 0.5},
    "angry": {"brow_down": 1.0, "squint": 0.5, "nose_wrinkle": 0.6, "press": 0.6},
    "surprise": {"brow_inner_up": 1.0, "brow_outer_up": 1.0, "eye_close": -0.35, "jaw_open": 0.6},
    "disgust": {"nose_wrinkle": 1.0, "upper_lip_up": 0.8, "brow_down": 0.5, "squint": 0.4},
    "pucker": {"pucker": 1.0},
    "funnel": {"funnel": 1.0, "jaw_open": 0.25},
    "brows_up": {"brow_inner_up": 1.0, "brow_outer_up": 1.0},
    "brows_down": {"brow_down": 1.0},
    "smirk_left": {"smile_left": 0.8, "dimple_left": 0.5},
    "smirk_right": {"smile_right": 0.8, "dimple_right": 0.5},
    "teeth": {"upper_lip_up": 0.8, "lower_lip_down": 0.8, "stretch": 0.6, "smile": 0.3},
    "cheeks_puffed": {"cheek_puff": 1.0, "press": 0.3},
    "jaw_left": {"jaw_left": 1.0, "jaw_open": 0.15},
}
_HINGE = (12.0, -4.0)  # y, z of the jaw's axis, mm
_JAW_RADIANS = 0.34
EYE_ROWS_EXTRA = 2.0


def expand(parameters: Parameters) -> Parameters:
    """Spell paired names out: 'smile' becomes smile_left and smile_right."""
    out: Parameters = {}
    for name, value in parameters.items():
        if name in _PAIRED:
            out[f"{name}_left"] = out[f"{name}_right"] = value
        elif name in PARAMETERS:
            out[name] = value
        else:
            raise ValueError(f"unknown expression parameter '{name}'; see PARAMETERS")
    return out


class ExpressionDeformer:
    """Moves one neutral head; windows are computed once."""

    def __init__(self, material: Material, neutral: Array) -> None:
        self.neutral = neutral.astype(np.float32)
        self._m = material
        self._side = material.side.astype(np.float32)
        # 1 on the subject's left, 0 on the right, soft over the midline of the mouth.
        soft = smoothstep(material.x, -9, 9)
        self._left, self._right = soft.astype(np.float32), (1 - soft).astype(np.float32)
        self._w = {k: v.astype(np.float32) for k, v in _windows(material, neutral).items()}

    def __call__(self, parameters: Parameters) -> Array:
        """Return the head (V,3), mm, with the movement; absent parameters are 0."""
        p = expand(parameters)
        head = self.neutral.copy()
        self._brows(head, p)
        self._eyes(head, p)
        self._cheeks_and_nose(head, p)
        self._lips(head, p)
        self._jaw(head, p)
        return head

    def _both(self, p: Parameters, name: str) -> Array | float:
        left, right = p.get(f"{name}_left", 0.0), p.get(f"{name}_right", 0.0)
        return left if left == right else left * self._left + right * self._right

    def _brows(self, head: Array, p: Parameters) -> None:
        w, side = self._w, self._side
        inner, outer = self._both(p, "brow_inner_up"), self._both(p, "brow_outer_up")
        down = self._both(p, "brow_down")
        head[:, 1] += 7.0 * w["brow_inner"] * inner + 6.5 * w["brow_outer"] * outer
        head[:, 1] -= (6.0 * w["brow_inner"] + 3.0 * w["brow_outer"]) * down
        head[:, 0] -= side * 2.8 * w["brow_inner"] * down
        head[:, 2] += 1.6 * w["glabella"] * down
        head[:, 2] += 0.9 * w["forehead_lines"] * (inner + outer)

    def _eyes(self, head: Array, p: Parameters) -> None:
        w = self._w
        close, squint = self._both(p, "eye_close"), self._both(p, "squint")
        gap = w["lid_gap"]
        brow = self._both(p, "brow_down")
        drop = (1.03 * close + 0.16 * squint + 0.12 * brow) * gap
        lift = (0.05 * close + 0.30 * squint) * gap
        old = head[:, 1].copy()
        head[:, 1] -= w["upper_lid"] * np.minimum(drop, 1.05 * gap)
        head[:, 1] += w["lower_lid"] * lift
        moved = w["upper_lid"] + w["lower_lid"]
        on_ball = np.minimum(moved * 1.5, 1) * w["eye_window"]
        head[:, 2] += on_ball * (self._ball(head[:, 0], head[:, 1]) - self._ball(head[:, 0], old))
        head[:, 2] += 1.2 * w["crease"] * np.clip(close, 0, 1)
        left, up = p.get("gaze_left", 0.0), p.get("gaze_up", 0.0)
        if left or up:
            ball = w["eyeball"]
            old_depth = self._ball(head[:, 0], head[:, 1])
            head[:, 0] += 4.2 * ball * left
            head[:, 1] += 2.8 * ball * up
            head[:, 2] += ball * (self._ball(head[:, 0], head[:, 1]) - old_depth)
            head[:, 1] += 1.4 * up * w["upper_lid"] * w["eye_window"]

    @staticmethod
    def _ball(x: Array, y: Array) -> Array:
        square = (np.abs(x) - EYEBALL_CENTRE[0]) ** 2 + (y - EYEBALL_CENTRE[1]) ** 2
        return np.asarray(np.sqrt(np.maximum((EYEBALL_RADIUS + 2.0) ** 2 - square, 9.0)))

    def _cheeks_and_nose(self, head: Array, p: Parameters) -> None:
        w, side = self._w, self._side
        smile, squint = self._both(p, "smile"), self._both(p, "squint")
        puff, wrinkle = self._both(p, "cheek_puff"), self._both(p, "nose_wrinkle")
        up = 0.75 * np.maximum(smile, 0) + 0.5 * squint
        head[:, 1] += 4.0 * w["cheek_apple"] * up
        head[:, 2] += 3.6 * w["cheek_apple"] * up
        head[:, 0] += side * 2.0 * w["cheek_apple"] * up
        head[:, 2] -= 1.9 * w["fold"] * (np.maximum(smile, 0) + 0.5 * wrinkle)
        head[:, 2] += 5.5 * w["cheek"] * puff
        head[:, 0] += side * 8.0 * w["cheek"] * puff
        head[:, 1] += 3.2 * w["nose_wing"] * wrinkle
        head[:, 0] += side * 1.6 * w["nose_wing"] * (wrinkle + 0.5 * np.maximum(smile, 0))
        head[:, 2] += 1.0 * w["nose_root_side"] * wrinkle

    def _lips(self, head: Array, p: Parameters) -> None:
        w, side = self._w, self._side
        smile, down = self._both(p, "smile"), self._both(p, "corner_down")
        stretch, dimple = self._both(p, "stretch"), self._both(p, "dimple")
        corner, wide = w["corner"], w["mouth_side"]
        out = 7.5 * smile + 7.0 * stretch + 3.0 * dimple - 1.0 * down
        head[:, 0] += side * wide * out
        head[:, 1] += corner * (8.5 * smile - 7.0 * down - 1.0 * stretch + 1.5 * dimple)
        head[:, 2] -= wide * (5.5 * smile + 4.0 * stretch + 3.5 * dimple)
        head[:, 2] -= w["lips"] * 2.2 * np.maximum(smile, 0)
        upper, lower = self._both(p, "upper_lip_up"), self._both(p, "lower_lip_down")
        part = p.get("lips_part", 0.0)
        head[:, 1] += w["upper_lip"] * (5.5 * upper + 2.2 * part + 1.4 * np.maximum(smile, 0))
        head[:, 1] -= w["lower_lip"] * (5.5 * lower + 2.5 * part)
        head[:, 2] += w["lower_lip"] * 1.2 * lower
        self._purse(head, p)
        shift = 7.0 * p.get("mouth_left", 0.0)
        head[:, 0] += w["mouth"] * shift

    def _purse(self, head: Array, p: Parameters) -> None:
        w = self._w
        pucker, funnel = p.get("pucker", 0.0), p.get("funnel", 0.0)
        narrow = 0.36 * pucker + 0.26 * funnel
        head[:, 0] -= w["mouth"] * narrow * head[:, 0]
        flat = w["mouth"] * (0.0011 * head[:, 0] ** 2) * narrow
        head[:, 2] += w["mouth"] * (6.0 * pucker + 5.0 * funnel) + flat
        thick = 0.12 * pucker
        head[:, 1] += w["upper_vermilion"] * (8 * thick + 2.5 * funnel)
        head[:, 1] -= w["lower_vermilion"] * (8 * thick + 2.5 * funnel)
        press = p.get("press", 0.0)
        upper = press + p.get("roll_upper", 0.0)
        lower = press + p.get("roll_lower", 0.0)
        head[:, 1] -= w["upper_border"] * 3.0 * upper
        head[:, 1] += w["lower_border"] * 3.4 * lower
        head[:, 2] -= w["upper_vermilion"] * 2.2 * upper + w["lower_vermilion"] * 2.6 * lower
        chin = p.get("chin_raise", 0.0)
        head[:, 1] += (w["chin"] * 4.0 + w["lower_lip"] * 2.2 + w["upper_lip"] * 1.2) * chin
        head[:, 2] += w["chin"] * 1.6 * chin

    def _jaw(self, head: Array, p: Parameters) -> None:
        jaw = self._w["jaw"]
        angle = jaw * (_JAW_RADIANS * p.get("jaw_open", 0.0))
        y, z = head[:, 1] - _HINGE[0], head[:, 2] - _HINGE[1]
        cos, sin = np.cos(angle), np.sin(angle)
        head[:, 1] += cos * y - sin * z - y
        head[:, 2] += cos * z + sin * y - z
        head[:, 0] += jaw * 6.0 * p.get("jaw_left", 0.0)
        head[:, 2] += jaw * 4.5 * p.get("jaw_forward", 0.0)
        opening = max(p.get("jaw_open", 0.0), 0.0)
        head[:, 0] -= self._w["corner"] * 0.05 * opening * head[:, 0]
        head[:, 0] -= self._w["cheek"] * 0.03 * opening * head[:, 0]


def _jaw_weight(m: Material) -> Array:
    """How far a vertex follows the jaw (V,), 0 to 1: a step across the mouth, a ramp beside it."""
    grid = m.grid
    level = grid.t.reshape(grid.rows, grid.columns)
    upper, lower = grid.row_of["upper_line"], grid.row_of["lower_line"]
    line = np.tile((level[upper] + level[lower]) / 2, grid.rows)
    v = grid.t - line
    row = np.repeat(np.arange(grid.rows, dtype=float), grid.columns)
    across = np.abs(98.0 * np.sin(np.clip(grid.theta, -np.pi / 2, np.pi / 2))) / MOUTH_HALF_WIDTH
    beside = 0.5 - 0.5 * np.tanh((v + 2.0) / 14.0)
    edge = smoothstep(across, 0.35, 1.02)
    cut = smoothstep(row, upper + 0.25 * (lower - upper), lower - 0.3 * (lower - upper))
    weight = cut + (beside - cut) * edge
    angle = np.degrees(np.abs(grid.theta))
    weight = weight * (1 - smoothstep(angle, 66, 92))
    jaw = grid.row_of["jaw"]
    weight = weight * (1 - smoothstep(row, jaw + 0.3, grid.row_of["throat"] + 1.5))
    return np.asarray(weight)


def _lid_windows(m: Material, neutral: Array) -> dict[str, Array]:
    grid = m.grid
    row = np.repeat(np.arange(grid.rows, dtype=float), grid.columns)
    height = neutral[:, 1].reshape(grid.rows, grid.columns)
    upper, lower, crease = (grid.row_of[n] for n in ("upper_lid", "lower_lid", "crease"))
    inside = np.minimum(m.eye_inside * 4, 1.0)
    gap = np.tile(np.clip(height[upper] - height[lower], 0, None), grid.rows)
    gap = gap * smoothstep(m.eye_inside, 0.0, 0.03)
    rise = smoothstep(row, crease - 2.5, upper) * (row <= upper + 1)
    fall = (1 - smoothstep(row, lower, lower + 5.0)) * (row >= lower - 1)
    ball = ((row > upper + 1) & (row < lower - 1)) * smoothstep(m.eye_inside, 0.02, 0.45)
    return {
        "lid_gap": gap,
        "upper_lid": rise,
        "lower_lid": fall,
        "eye_window": inside,
        "eyeball": ball,
        "crease": bell(row, crease + 0.5, 1.3) * np.minimum(m.eye_inside * 2.5, 1),
    }


def _windows(m: Material, neutral: Array) -> dict[str, Array]:
    a, y, front = m.a, m.y, m.front
    grid = m.grid
    row = np.repeat(np.arange(grid.rows, dtype=float), grid.columns)
    rows = grid.row_of
    up, line_u, line_l, low = (
        rows[n] for n in ("upper_lip", "upper_line", "lower_line", "lower_lip")
    )
    middle = (line_u + line_l) / 2
    centre = m.mouth_inside**0.5
    # Rows above the mouth fade out towards the nose, rows below towards the chin; the inside of the
    # mouth stays with the teeth.
    above = smoothstep(row, rows["nose_base"] - 2, up) * (row <= line_u)
    below = (1 - smoothstep(row, low, rows["chin_crease"] + 3)) * (row >= line_l)
    spread = np.exp(-((a / 30) ** 4)) * front
    fold_line = 20.5 + 13 * np.clip((y + 14) / -30, 0, 1) - a
    window = smoothstep(-y, 6, 16) * (1 - smoothstep(-y, 34, 52)) * front
    teeth = (row > line_u) & (row < line_l)
    skin = 1 - 0.75 * (teeth * np.minimum(m.mouth_inside * 3, 1))
    return {
        **_lid_windows(m, neutral),
        "jaw": _jaw_weight(m),
        "brow_inner": spot(a, y, 12, 50, 15, 17) * (1 - smoothstep(-y, -41, -30)) * front,
        "brow_outer": spot(a, y, 42, 50, 16, 17) * (1 - smoothstep(-y, -41, -30)) * front,
        "glabella": spot(a, y, 5, 44, 8, 9) * front,
        "forehead_lines": bell(a, 0, 42) * bell(y, 74, 16) * np.sin(y * 0.75) * front,
        "cheek_apple": spot(a, y, 38, -6, 17, 14) * front,
        "cheek": spot(a, y, 42, -36, 20, 19) * front,
        "fold": window * (bell(fold_line, 0, 3.4) - 0.5 * bell(fold_line, -8, 7)),
        "nose_wing": spot(a, y, 14, -10, 10, 12) * front,
        "nose_root_side": spot(a, y, 9, 27, 7, 8) * front,
        "corner": spot(a, y, 28, -43.5, 17, 17) * front * skin,
        "mouth_side": smoothstep(a, 0, 27) * spot(a, y, 22, -43.5, 24, 20, 1.4) * front * skin,
        "mouth": spot(a, y, 0, -43, 42, 20, 1.6) * front,
        "lips": spot(a, y, 0, -43, 24, 14, 1.6) * front * skin,
        "upper_lip": above * spread * (0.25 + 0.75 * centre),
        "lower_lip": below * spread * (0.25 + 0.75 * centre),
        "upper_vermilion": bell(row, (up + line_u) / 2, 2.6) * (row < middle) * centre,
        "lower_vermilion": bell(row, (low + line_l) / 2, 2.6) * (row > middle) * centre,
        "upper_border": bell(row, up, 2.4) * centre,
        "lower_border": bell(row, low, 2.4) * centre,
        "chin": spot(a, y, 0, -72, 24, 16) * front,
    }


def sample_expression(rng: np.random.Generator) -> Parameters:
    """Draw one performance: a full expression, a few movements or none, plus small ones everywhere.

    Movements have antagonists (wide eyes against closed ones, pressed lips against an open jaw), so
    that the population's mean lies near the neutral face.
    """
    p = dict.fromkeys(PARAMETERS, 0.0)
    names = list(NAMED)
    kind = rng.random()
    if kind > 0.85:
        pass
    elif kind < 0.45:
        scale = rng.uniform(0.25, 1.05)
        for name, value in expand(NAMED[names[rng.integers(1, len(names))]]).items():
            p[name] += scale * value * rng.uniform(0.8, 1.1)
    else:
        for name in rng.choice(PARAMETERS, size=rng.integers(2, 7), replace=False):
            p[name] += rng.uniform(-0.35, 1.0) if name[:3] != "jaw" else rng.uniform(-0.1, 0.7)
    for name in PARAMETERS:
        p[name] += 0.07 * rng.standard_normal()
    p["jaw_open"] -= 0.07
    p["gaze_left"] += 0.40 * rng.standard_normal()
    p["gaze_up"] += 0.30 * rng.standard_normal()
    p["jaw_left"] += 0.2 * rng.standard_normal()
    p["mouth_left"] += 0.2 * rng.standard_normal()
    blink = 0.07 * rng.standard_normal() + 0.02
    lower = {"eye_close": -0.3, "jaw_open": -0.06, "squint": -0.3, "pucker": -0.3, "smile": -0.3}
    for side in ("left", "right"):
        p[f"eye_close_{side}"] += blink
    for name in PARAMETERS:
        stem = name.removesuffix("_left").removesuffix("_right")
        p[name] = float(np.clip(p[name], lower.get(stem, -0.8), 1.15))
    return p
