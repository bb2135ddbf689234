"""Who it is: nonlinear deformations of the average head by some seventy shape parameters.

Every deformer is a window in material coordinates times a translation, an anisotropic scaling or a
rotation; they are applied one after the other, so that their effects multiply, and coordinates, not
windows, are what they change. Parameters are in standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.features import Material, bell, ear_relief, spot
from lit_face.morphable_models.procedural.grid import smoothstep

Array = NDArray[Any]
Parameters = dict[str, float]

# name: how much it follows (masculine, heavy, old); the rest of its variance is its own.
_FOLLOWS = {
    "jaw_width": (0.5, 0.3, 0.0),
    "brow_ridge": (0.65, 0.0, 0.1),
    "head_size": (0.5, 0.1, 0.0),
    "face_length": (0.3, -0.2, 0.2),
    "chin_width": (0.45, 0.2, 0.0),
    "chin_out": (0.3, 0.0, 0.0),
    "nose_length": (0.3, 0.0, 0.35),
    "nose_out": (0.3, 0.0, 0.0),
    "nose_hump": (0.25, 0.0, 0.1),
    "neck_width": (0.6, 0.35, 0.0),
    "cheek_full": (-0.15, 0.7, -0.35),
    "double_chin": (0.0, 0.75, 0.3),
    "face_width": (0.0, 0.6, 0.0),
    "eye_open": (-0.25, -0.1, -0.3),
    "eye_size": (-0.25, 0.0, -0.1),
    "brow_height": (-0.4, 0.0, -0.2),
    "upper_lip_thick": (-0.3, 0.1, -0.45),
    "lower_lip_thick": (-0.25, 0.1, -0.4),
    "fold_depth": (0.05, 0.15, 0.75),
    "eye_bags": (0.1, 0.2, 0.65),
    "jowl": (0.0, 0.4, 0.6),
    "ear_size": (0.3, 0.0, 0.45),
    "lid_hood": (0.2, 0.0, 0.5),
    "mouth_corner": (0.0, 0.0, -0.4),
}
_OWN = (
    "head_width", "head_depth", "cranium_height", "forehead_slope", "forehead_bulge", "temple",
    "cheekbone", "cheekbone_height", "cheekbone_width", "jaw_angle", "jaw_drop", "chin_height",
    "chin_round", "chin_cleft", "under_chin", "eye_spacing", "eye_tilt", "eye_depth", "eye_height",
    "eye_fold", "eye_corner", "brow_out", "brow_tilt", "nose_bridge", "nose_bridge_width",
    "nose_root", "nose_tip_up", "nose_tip_round", "nose_wing", "nose_wing_height", "nostril_flare",
    "mouth_width", "mouth_height", "mouth_out", "upper_lip_out", "lower_lip_out", "philtrum",
    "lip_bow", "chin_crease", "face_out", "mid_face", "ear_out", "ear_height", "neck_depth",
)  # fmt: skip
_SIDED = ("eye_height", "eye_open", "brow_height", "cheek_full", "jaw_width", "mouth_corner",
          "nose_wing", "cheekbone", "ear_out", "eye_bags")  # fmt: skip
_LOPSIDED = ("nose_bend", "jaw_shift", "mouth_shift", "face_twist", "face_shear")

PARAMETERS = (
    *_FOLLOWS,
    *_OWN,
    *(f"{name}_asymmetry" for name in _SIDED),
    *_LOPSIDED,
)


def sample_identity(rng: np.random.Generator) -> Parameters:
    """Draw one person: normal parameters, correlated through build, weight and age."""
    common = rng.standard_normal(3)
    values: Parameters = {}
    for name in PARAMETERS:
        share = np.array(_FOLLOWS.get(name, (0.0, 0.0, 0.0)))
        own = np.sqrt(max(1.0 - float(share @ share), 0.1))
        value = float(share @ common + own * rng.standard_normal())
        values[name] = float(np.clip(value, -2.6, 2.6))
    return values


class IdentityDeformer:
    """Precomputed windows on one average head; call with parameters to get a person."""

    def __init__(self, material: Material, neutral: Array) -> None:
        self.neutral = neutral
        self._material = material
        self._windows = _windows(material)
        self._steps = _steps()

    def __call__(self, parameters: Parameters) -> Array:
        """Return the neutral head (V,3), mm, of the person with these parameters (absent: 0)."""
        unknown = set(parameters) - set(PARAMETERS)
        if unknown:
            raise ValueError(f"unknown identity parameters {sorted(unknown)}; see PARAMETERS")
        get = _Getter(parameters, self._material.side)
        head = self.neutral.astype(np.float32).copy()
        for step in self._steps:
            step(head, self._windows, get)
        return head


class _Getter:
    """Looks up a parameter; sided ones differ between left and right."""

    def __init__(self, parameters: Parameters, side: Array) -> None:
        self._parameters = parameters
        self._side = side.astype(np.float32)

    def __call__(self, name: str) -> float:
        return self._parameters.get(name, 0.0)

    def sided(self, name: str) -> Array:
        asymmetry = 0.28 * self._parameters.get(f"{name}_asymmetry", 0.0)
        return self(name) + asymmetry * self._side

    @property
    def side(self) -> Array:
        return self._side


def _windows(m: Material) -> dict[str, Array]:
    a, x, y, front, row = m.a, m.x, m.y, m.front, m.grid.step
    depth = m.base[:, 2]
    nose = np.exp(-((a / (13 + 0.25 * np.clip(20 - y, 0, 40))) ** 4)) * front
    lips_up = smoothstep(row, 10.2, 11.0) * (1 - smoothstep(row, 12.0, 12.4)) * m.mouth_inside**0.4
    lips_low = smoothstep(row, 12.6, 13.0) * (1 - smoothstep(row, 14.0, 14.8)) * m.mouth_inside**0.4
    below = smoothstep(-y, 38, 80) * smoothstep(depth, -35, 35)
    angle = np.degrees(np.abs(m.grid.theta))
    ear = smoothstep(angle, 84, 92) * (1 - smoothstep(angle, 114, 124))
    ear = ear * smoothstep(y, -36, -24) * (1 - smoothstep(y, 34, 44))
    cheek_line = np.clip((y + 14) / -30, 0, 1)
    fold = bell(20.5 + 13 * cheek_line - a, 0, 3.2) - 0.9 * bell(20.5 + 13 * cheek_line - a, -8, 7)
    fold *= smoothstep(-y, 8, 16) * (1 - smoothstep(-y, 34, 52)) * front
    windows = {
        "upper": smoothstep(y, 35, 110),
        "forehead": smoothstep(y, 52, 90) * front,
        "forehead_mid": spot(a, y, 0, 75, 42, 22, 1.5) * front,
        "temple": spot(depth, y, 35, 45, 30, 26) * smoothstep(a, 40, 65),
        "middle": bell(y, 5, 42) * smoothstep(a, 15, 65) * smoothstep(depth, -40, 10),
        "cheekbone": spot(a, y, 52, 4, 18, 13) * front,
        "cheek": spot(a, y, 45, -26, 22, 22) * front,
        "jaw": smoothstep(-y, 20, 62) * smoothstep(depth, -45, 5) * (1 - smoothstep(-y, 95, 125)),
        "gonion": spot(depth, y, 2, -58, 34, 22) * smoothstep(a, 30, 50),
        "below": below * (1 - smoothstep(-y, 92, 125)),
        "lower_face": smoothstep(-y, 5, 85) * (1 - smoothstep(-y, 100, 150)),
        "chin": spot(a, y, 0, -76, 24, 18, 1.3) * smoothstep(depth, 10, 50),
        "chin_mid": spot(a, y, 0, -76, 6, 10) * front,
        "chin_side": spot(a, y, 17, -76, 10, 12) * front,
        "mentolabial": spot(a, y, 0, -60, 16, 5) * front,
        "throat": spot(a, y, 0, -96, 34, 16) * smoothstep(depth, -5, 25),
        "jowl": spot(a, y, 36, -62, 14, 14) * front,
        "eye": spot(a, y, 31.5, 25, 22, 17, 2) * front,
        "eye_core": spot(a, y, 31.5, 25, 19, 12, 2) * front,
        "lid_upper": spot(a, y, 33, 34, 15, 4.5) * front,
        "lid_corner": spot(a, y, 19, 25, 5, 6) * front,
        "bag": spot(a, y, 31, 13, 13, 4.5) * front,
        "bag_groove": spot(a, y, 29, 7, 13, 3.0) * front,
        "brow": spot(a, y, 29, 50, 28, 11, 1.3) * front,
        "ridge": spot(a, y, 26, 46, 22, 7) * front,
        "nose": nose * smoothstep(-y, -44, -30) * (1 - smoothstep(-y, 23, 30)),
        "nose_ramp": nose * smoothstep(-y, -36, 12) * (1 - smoothstep(-y, 22, 40)),
        "bridge": bell(a, 0, 8) * bell(y, 20, 15) * front,
        "bridge_side": np.exp(-((a / 17) ** 4)) * bell(y, 18, 17) * front,
        "hump": bell(a, 0, 7) * bell(y, 15, 9) * front,
        "root": spot(a, y, 0, 33, 10, 9) * front,
        "tip": spot(a, y, 0, -7, 11, 9) * front,
        "wing": np.exp(-((a / 21) ** 4)) * bell(y, -11, 10) * front,
        "wing_side": spot(a, y, 15, -12, 8, 8) * front,
        "mouth": spot(a, y, 0, -43, 38, 19, 1.6) * front,
        "mouth_corner": spot(a, y, 26, -43.5, 13, 11) * front,
        "lips_up": lips_up,
        "lips_low": lips_low,
        "lip_up_border": bell(row, 11, 0.9) * m.mouth_inside**0.6,
        "lip_low_border": bell(row, 14, 0.9) * m.mouth_inside**0.6,
        "bow": bell(row, 11, 0.5) * (bell(a, 6, 4) - bell(a, 0, 4)) * front,
        "philtrum": bell(a, 0, 3) * smoothstep(-y, 21, 25) * (1 - smoothstep(-y, 33, 38)) * front,
        "fold": fold,
        "mid": spot(a, y, 22, -2, 26, 28) * front,
        "ear": ear,
        "neck": smoothstep(-y, 75, 110) * (1 - below * 0),
        "face": front * smoothstep(-y, -80, -40) * (1 - smoothstep(-y, 80, 110)),
    }
    rise = np.abs(ear_relief(m)[:, 0])
    windows["ear_rise"] = rise / rise.max()
    windows["x"] = x
    windows["y"] = y
    return {name: window.astype(np.float32) for name, window in windows.items()}


Step = Callable[[Array, dict[str, Array], _Getter], None]


def _steps() -> tuple[Step, ...]:
    return (_skull, _cheeks_and_jaw, _brows_and_eyes, _nose, _mouth, _ears_and_neck, _lopsided)


def _push(head: Array, window: Array, amount: Array | float, axis: int) -> None:
    head[:, axis] += window * amount


def _scale(head: Array, window: Array, amount: Array | float, axis: int, centre: float) -> None:
    head[:, axis] += window * amount * (head[:, axis] - centre)


def _skull(head: Array, w: dict[str, Array], p: _Getter) -> None:
    size = 0.028 * p("head_size")
    head *= 1 + size
    head[:, 0] *= 1 + 0.030 * p("head_width")
    head[:, 2] *= 1 + 0.028 * p("head_depth")
    head[:, 1] *= 1 + 0.030 * p("face_length")
    _scale(head, w["upper"], 0.045 * p("cranium_height"), 1, 35)
    _push(head, w["forehead"], -3.2 * p("forehead_slope"), 2)
    _push(head, w["forehead_mid"], 1.7 * p("forehead_bulge"), 2)
    _push(head, w["temple"], 1.6 * p("temple") * p.side, 0)


def _cheeks_and_jaw(head: Array, w: dict[str, Array], p: _Getter) -> None:
    _scale(head, w["middle"], 0.036 * p("face_width"), 0, 0)
    _scale(head, w["jaw"], 0.048 * p.sided("jaw_width"), 0, 0)
    cheekbone, cheek = p.sided("cheekbone"), p.sided("cheek_full")
    _push(head, w["cheekbone"], 1.7 * cheekbone, 2)
    _push(head, w["cheekbone"], 1.2 * (cheekbone + p("cheekbone_width")) * p.side, 0)
    _push(head, w["cheekbone"], 2.0 * p("cheekbone_height"), 1)
    _push(head, w["cheek"], 1.9 * cheek, 2)
    _push(head, w["cheek"], 2.2 * cheek * p.side, 0)
    _push(head, w["gonion"], 2.6 * p("jaw_angle") * p.side, 0)
    _push(head, w["gonion"], 2.6 * p("jaw_drop"), 1)
    _push(head, w["lower_face"], -2.0 * p("chin_height") - 1.2 * p("mid_face"), 1)
    _push(head, w["below"], 2.4 * p("chin_out"), 2)
    _scale(head, w["chin"], 0.10 * p("chin_width"), 0, 0)
    _push(head, w["chin"], 1.4 * p("chin_round"), 2)
    _push(head, w["chin_side"], -0.9 * p("chin_round"), 2)
    _push(head, w["chin_mid"], -0.7 * max(p("chin_cleft"), -0.3) - 0.2, 2)
    _push(head, w["mentolabial"], -0.8 * p("chin_crease"), 2)
    heavy = p("double_chin")
    _push(head, w["throat"], -2.8 * (heavy + 0.3 * heavy * abs(heavy)) - 2 * p("under_chin"), 1)
    _push(head, w["throat"], 1.8 * heavy, 2)
    _push(head, w["jowl"], 1.3 * p("jowl") * p.side, 0)
    _push(head, w["jowl"], -1.4 * p("jowl"), 1)
    _push(head, w["mid"], 1.5 * p("face_out"), 2)
    _push(head, w["fold"], -0.75 * p("fold_depth"), 2)


def _brows_and_eyes(head: Array, w: dict[str, Array], p: _Getter) -> None:
    side = p.side
    _push(head, w["ridge"], 1.5 * p("brow_ridge") + 0.8 * p("brow_out"), 2)
    _push(head, w["brow"], 1.8 * p.sided("brow_height"), 1)
    _push(head, w["brow"], 0.055 * p("brow_tilt") * (head[:, 0] * side - 30), 1)
    eye, core = w["eye"], w["eye_core"]
    centre_y = 25.0 * (1 + 0.028 * p("head_size")) * (1 + 0.030 * p("face_length"))
    centre_x = 31.5 * (1 + 0.028 * p("head_size")) * (1 + 0.030 * p("head_width"))
    size = 0.055 * p("eye_size")
    dx, dy = head[:, 0] * side - centre_x, head[:, 1] - centre_y
    tilt = 0.045 * p("eye_tilt")
    head[:, 0] += eye * side * (size * dx - tilt * dy)
    head[:, 1] += eye * (size * dy + tilt * dx)
    _scale(head, core, 0.085 * p.sided("eye_open"), 1, centre_y)
    _push(head, eye, 1.5 * p("eye_spacing") * side, 0)
    _push(head, eye, 0.8 * p.sided("eye_height"), 1)
    _push(head, eye, 1.1 * p("eye_depth"), 2)
    _push(head, w["lid_upper"], 0.9 * p("eye_fold") + 0.5 * p("lid_hood"), 2)
    _push(head, w["lid_upper"], -0.9 * p("lid_hood"), 1)
    _push(head, w["lid_corner"], -0.8 * p("eye_corner"), 1)
    _push(head, w["lid_corner"], 0.5 * p("eye_corner"), 2)
    bags = p.sided("eye_bags")
    _push(head, w["bag"], 0.65 * bags, 2)
    _push(head, w["bag_groove"], -0.6 * bags, 2)


def _nose(head: Array, w: dict[str, Array], p: _Getter) -> None:
    _push(head, w["nose_ramp"], -2.3 * p("nose_length"), 1)
    _scale(head, w["nose_ramp"], 0.06 * p("nose_out"), 2, 70)
    _push(head, w["bridge"], 1.7 * p("nose_bridge") + 0.5 * p("nose_out"), 2)
    _scale(head, w["bridge_side"], 0.11 * p("nose_bridge_width"), 0, 0)
    _push(head, w["hump"], 1.3 * p("nose_hump"), 2)
    _push(head, w["root"], 1.5 * p("nose_root"), 2)
    angle = 0.085 * p("nose_tip_up")
    y, z = head[:, 1] + 6.0, head[:, 2] - 90.0
    turn, cos, sin = w["wing"], np.cos(angle), np.sin(angle)
    head[:, 1] += turn * (cos * y + sin * z - y)
    head[:, 2] += turn * (cos * z - sin * y - z)
    _push(head, w["tip"], 0.9 * p("nose_tip_round"), 2)
    _scale(head, w["tip"], 0.12 * p("nose_tip_round"), 0, 0)
    wing = p.sided("nose_wing")
    _scale(head, w["wing"], 0.085 * wing, 0, 0)
    _push(head, w["wing_side"], 1.0 * p("nose_wing_height"), 1)
    _push(head, w["wing_side"], 0.9 * p("nostril_flare") * p.side, 0)
    _push(head, w["wing_side"], 0.7 * p("nostril_flare"), 2)


def _mouth(head: Array, w: dict[str, Array], p: _Getter) -> None:
    _scale(head, w["mouth"], 0.060 * p("mouth_width"), 0, 0)
    _push(head, w["mouth"], 1.4 * p("mouth_height"), 1)
    _push(head, w["mouth"], 1.5 * p("mouth_out"), 2)
    up, low = p("upper_lip_thick"), p("lower_lip_thick")
    _push(head, w["lip_up_border"], 1.25 * up, 1)
    _push(head, w["lips_up"], 0.75 * up + 0.8 * p("upper_lip_out"), 2)
    _push(head, w["lip_low_border"], -1.35 * low, 1)
    _push(head, w["lips_low"], 0.85 * low + 0.8 * p("lower_lip_out"), 2)
    _push(head, w["mouth_corner"], 1.1 * p.sided("mouth_corner"), 1)
    _push(head, w["bow"], 0.7 * p("lip_bow"), 1)
    _push(head, w["philtrum"], -0.5 * p("philtrum"), 2)


def _ears_and_neck(head: Array, w: dict[str, Array], p: _Getter) -> None:
    ear = w["ear"]
    size = 0.065 * p("ear_size")
    _scale(head, ear, size, 1, 4)
    _push(head, ear, 1.6 * p("ear_height"), 1)
    _push(head, w["ear_rise"], 2.2 * p.sided("ear_out") * p.side, 0)
    _push(head, w["ear_rise"], -1.2 * p("ear_size"), 2)
    _scale(head, w["neck"], 0.055 * p("neck_width"), 0, 0)
    _scale(head, w["neck"], 0.05 * p("neck_depth") + 0.03 * p("neck_width"), 2, -25)


def _lopsided(head: Array, w: dict[str, Array], p: _Getter) -> None:
    _push(head, w["nose_ramp"], 0.9 * p("nose_bend"), 0)
    _push(head, w["below"], 1.3 * p("jaw_shift"), 0)
    _push(head, w["mouth"], 0.6 * p("mouth_shift"), 0)
    face = w["face"]
    _push(head, face, 0.012 * p("face_twist") * w["x"], 2)
    _push(head, face, 0.008 * p("face_shear") * w["y"], 0)
