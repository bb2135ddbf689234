"""What the face is made of: diffuse and specular albedo per vertex, nonlinear in its parameters.

Diffuse albedo is in sRGB values [0,1]; specular albedo is one intensity in [0,1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.features import Material, bell, iris_offset, spot
from lit_face.morphable_models.procedural.grid import smoothstep

Array = NDArray[np.float64]
Parameters = dict[str, float | int]

# Skin from very fair to very dark (sRGB); a person's tone is a place on this line.
_SKIN = np.array(
    [
        [0.93, 0.78, 0.70], [0.89, 0.70, 0.60], [0.83, 0.62, 0.50], [0.74, 0.53, 0.40],
        [0.62, 0.42, 0.30], [0.48, 0.31, 0.22], [0.34, 0.215, 0.155],
    ]
)  # fmt: skip
_HAIR = np.array(
    [
        [0.05, 0.045, 0.045], [0.11, 0.08, 0.065], [0.20, 0.13, 0.09], [0.33, 0.21, 0.13],
        [0.55, 0.40, 0.24], [0.45, 0.20, 0.10], [0.62, 0.60, 0.58],
    ]
)  # fmt: skip
_IRIS = np.array(
    [
        [0.16, 0.09, 0.06], [0.26, 0.15, 0.08], [0.38, 0.27, 0.14], [0.36, 0.38, 0.22],
        [0.36, 0.46, 0.52], [0.42, 0.56, 0.68],
    ]
)  # fmt: skip
_BLOTCHES = 18
_SHINE_BLOTCHES = 8

CONTINUOUS = (
    "tone", "redness", "yellow", "lip_red", "lip_dark", "brow_density", "brow_thickness",
    "brow_height", "brow_length", "beard", "moustache", "blush", "nose_red", "dark_circles",
    "freckles", "spots", "lid_shadow", "liner", "sclera", "forehead_tone", "contrast", "ear_red",
)  # fmt: skip
SHINE = ("overall", "forehead", "nose", "cheeks", "lips", "chin", "eyes", "lids")


def sample_albedo(rng: np.random.Generator) -> dict[str, Array]:
    """Draw one person's colouring: tone decides the likely hair and eye colours."""
    tone = float(rng.beta(1.15, 1.25))
    values = {name: rng.standard_normal() for name in CONTINUOUS}
    values["tone"] = tone
    masculine = rng.random() < 0.5
    values["beard"] = max(rng.normal(0.45, 0.35), 0.0) if masculine else 0.0
    values["moustache"] = values["beard"] * rng.uniform(0.4, 1.2)
    values["liner"] = 0.0 if masculine else max(rng.normal(0.4, 0.5), 0.0)
    values["lip_red"] += 0.0 if masculine else 0.9
    values["freckles"] = max(rng.normal(-0.3, 0.8), 0.0) * (tone < 0.4)
    values["spots"] = max(rng.normal(-0.5, 0.8), 0.0)
    hair = rng.uniform(0, 4.6 - 3.6 * min(tone * 1.5, 1.0)) + 0.3 * rng.random()
    if rng.random() < 0.10:
        hair = 6.0
    elif rng.random() < 0.06 and tone < 0.45:
        hair = 5.0
    iris = rng.uniform(0, 5.0) if tone < 0.42 else rng.uniform(0, 1.2)
    return {
        "values": np.array([values[name] for name in CONTINUOUS]),
        "hair": np.array(hair),
        "iris": np.array(iris),
        "blotches": rng.standard_normal((_BLOTCHES, 2)),
        "shine": rng.standard_normal(len(SHINE)),
        "shine_blotches": rng.standard_normal(_SHINE_BLOTCHES),
    }


def _pick(table: Array, place: float) -> Array:
    position = np.clip(place, 0, len(table) - 1)
    return np.array([np.interp(position, np.arange(len(table)), table[:, i]) for i in range(3)])


def _fields(position: Array, count: int, seed: int, scales: tuple[float, ...]) -> Array:
    """Smooth random fields (count,V) of unit variance over head space, wavelengths `scales` mm."""
    rng = np.random.default_rng(seed)
    fields = np.zeros((count, len(position)))
    for k in range(count):
        scale = scales[k % len(scales)]
        waves = rng.standard_normal((10, 3)) * (2 * np.pi / scale)
        phase = rng.uniform(0, 2 * np.pi, 10)
        fields[k] = np.cos(position @ waves.T + phase).sum(1) * np.sqrt(2 / 10)
    return fields


class AlbedoPainter:
    """Paints one mesh; windows are computed once on the average head."""

    def __init__(self, material: Material, neutral: Array) -> None:
        self._w = {k: v.astype(np.float32) for k, v in _windows(material, neutral).items()}
        blotch = _fields(neutral, _BLOTCHES, 11, (70.0, 34.0, 18.0))
        fine = _fields(neutral, 3, 12, (5.5, 4.5, 7.0))
        shine = _fields(neutral, _SHINE_BLOTCHES, 13, (60.0, 30.0))
        self._blotch = blotch.astype(np.float32)
        self._shine = shine.astype(np.float32)
        # Freckles and spots: rare peaks of fine fields, at the same places for everyone.
        self._freckles = smoothstep(fine[0] + fine[1], 1.2, 2.6).astype(np.float32)
        self._spots = smoothstep(fine[2], 1.9, 2.4).astype(np.float32)

    def diffuse(self, person: dict[str, Array]) -> Array:
        """Return diffuse albedo (V,3), sRGB in [0,1]."""
        w = self._w
        p = dict(zip(CONTINUOUS, person["values"].tolist(), strict=True))
        dark = p["tone"]
        skin = _pick(_SKIN, p["tone"] * (len(_SKIN) - 1))
        skin = skin * (1 + np.array([0.012, -0.018, -0.02]) * p["redness"])
        skin = skin * (1 + np.array([0.005, 0.0, -0.03]) * p["yellow"])
        light = np.ones(len(w["face"]), dtype=np.float32)
        blotch = person["blotches"][:, 0].astype(np.float32) @ self._blotch
        light += 0.006 * blotch
        light -= (0.07 + 0.04 * max(p["dark_circles"], -1)) * w["under_eye"]
        light -= (0.05 + 0.03 * p["lid_shadow"]) * w["lid"]
        light += 0.022 * p["forehead_tone"] * w["forehead"] + 0.03 * w["muzzle_pale"]
        light -= (0.16 + 0.1 * dark) * w["nostril"]
        light -= 0.10 * w["lip_line"] + 0.05 * w["crease"]
        red = 0.30 + 0.22 * p["blush"]
        red = red * w["cheek"] + (0.35 + 0.25 * p["nose_red"]) * w["nose_tip"]
        red = red + (0.35 + 0.2 * p["ear_red"]) * w["ear"] + 0.25 * w["chin"] + 0.4 * w["lid_edge"]
        red = red + 0.05 * person["blotches"][:, 1].astype(np.float32) @ self._blotch
        red = (0.13 * (1 - 0.45 * dark) * red)[:, None]
        color = skin[None] * light[:, None] * (1 - red * np.array([0.18, 1.0, 0.92]))
        spots = 0.24 * p["freckles"] * self._freckles * w["freckle_zone"]
        spots = spots + 0.14 * p["spots"] * self._spots * w["face"]
        color = color * (1 - np.clip(spots, 0, 0.6)[:, None] * np.array([0.55, 0.8, 1.0]))
        color = self._lips(color, skin, p)
        color = self._hair(color, person, p)
        color = self._eyes(color, person, p)
        return np.clip(color, 0.01, 0.99).astype(np.float32)

    def _lips(self, color: Array, skin: Array, p: dict[str, float]) -> Array:
        tint = np.array([0.93, 0.66, 0.66]) if p["tone"] < 0.55 else np.array([0.86, 0.70, 0.72])
        red = np.clip(0.5 + 0.35 * p["lip_red"], 0, 1.6)
        lip = skin * tint * (1 - 0.05 * p["lip_dark"])
        lip = lip * (1 + red * np.array([0.02, -0.20, -0.14]))
        weight = self._w["lips"][:, None] * 0.92
        color = color + weight * (lip * (1 - 0.12 * self._w["upper_lip"][:, None]) - color)
        inner = np.array([0.50, 0.24, 0.22])
        color = color + (self._w["wet"][:, None] * 0.6) * (inner - color)
        w = self._w
        for name, shade in (
            ("cavity", (0.075, 0.028, 0.026)),
            ("gum", (0.50, 0.24, 0.23)),
            ("tongue", (0.46, 0.20, 0.19)),
            ("teeth", (0.86, 0.82, 0.74)),
        ):
            color = color + w[name][:, None] * (np.array(shade) - color)
        return color

    def _hair(self, color: Array, person: dict[str, Array], p: dict[str, float]) -> Array:
        w = self._w
        hair = _pick(_HAIR, float(person["hair"]))
        stubble = 0.55 * p["beard"] * w["beard"] + 0.5 * p["moustache"] * w["moustache"]
        shadow = 0.55 * hair + 0.45 * color * np.array([0.62, 0.66, 0.74])
        color = color + np.clip(stubble, 0, 0.85)[:, None] * (shadow - color)
        scalp = 0.75 * hair + 0.25 * color * 0.6
        color = color + (0.96 * w["scalp"])[:, None] * (scalp - color)
        across = (w["brow_v"] - 0.28 * p["brow_height"] * 0.3) / (1 + 0.18 * p["brow_thickness"])
        along = w["brow_u"]
        taper = 1 - 0.62 * smoothstep(along, 0.35, 1.05)
        end = 1.02 + 0.07 * p["brow_length"]
        brow = np.exp(-(np.abs(across / (0.60 * taper)) ** 3.0))
        brow = brow * smoothstep(along, -0.09, 0.10) * (1 - smoothstep(along, end - 0.25, end))
        strength = np.clip(0.80 + 0.16 * p["brow_density"], 0.2, 1.0)
        tint = 0.8 * hair + 0.2 * color * 0.5
        color = color + (strength * brow)[:, None] * (tint - color)
        lash = np.clip(w["lash"] * (0.75 + 0.3 * p["liner"]), 0, 1)[:, None]
        return color + lash * (np.array([0.05, 0.035, 0.03]) - color)

    def _eyes(self, color: Array, person: dict[str, Array], p: dict[str, float]) -> Array:
        w = self._w
        iris = _pick(_IRIS, float(person["iris"]))
        white = np.array([0.86, 0.83, 0.81]) * (1 - 0.025 * p["sclera"])
        corner = np.array([0.72, 0.45, 0.42])
        ball = white[None] * (1 - 0.22 * w["eye_shade"][:, None])
        ball = ball + w["caruncle"][:, None] * (corner - ball)
        radius = w["iris_radius"]
        ring = iris[None] * (1.12 - 0.75 * smoothstep(radius, 3.6, 6.2))[:, None]
        ball = ball + (1 - smoothstep(radius, 5.2, 6.5))[:, None] * (ring - ball)
        pupil = (1 - smoothstep(radius, 1.7, 2.9))[:, None]
        ball = ball + pupil * (0.02 - ball)
        return color + w["eyeball"][:, None] * (ball - color)

    def specular(self, person: dict[str, Array]) -> Array:
        """Return specular albedo (V,1) in [0,1]."""
        w = self._w
        p = dict(zip(SHINE, person["shine"].tolist(), strict=True))
        value = 0.26 + 0.045 * p["overall"] + 0.012 * person["shine_blotches"] @ self._shine
        value += (0.10 + 0.06 * p["forehead"]) * w["forehead"]
        value += (0.14 + 0.07 * p["nose"]) * w["nose_shine"]
        value += (0.05 + 0.05 * p["cheeks"]) * w["cheek"] + (0.03 + 0.04 * p["chin"]) * w["chin"]
        value += (0.05 + 0.03 * p["lids"]) * w["lid"]
        value += (0.20 + 0.10 * p["lips"]) * w["lips"]
        value = value * (1 - 0.6 * w["scalp"]) * (1 - 0.7 * w["cavity"])
        value = value + w["eyeball"] * (0.85 + 0.05 * p["eyes"] - value)
        return np.clip(value, 0.02, 1.0)[:, None].astype(np.float32)


def _windows(m: Material, neutral: Array) -> dict[str, Array]:
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
    beard = np.maximum(
        spot(a, y, 0, -70, 52, 27, 1.8),
        smoothstep(m.base[:, 2], -8, 8) * smoothstep(a, 44, 58) * bell(y, -35, 34) * (y < 25),
    )
    beard *= 1 - smoothstep(-y, 92, 118)
    beard = beard * (1 - lips * in_mouth) * smoothstep(-y, 14, 34)
    brow_row = (row - (rows["brow_top"] + rows["brow_bottom"]) / 2) / (
        rows["brow_bottom"] - rows["brow_top"]
    )
    degrees = np.degrees(np.abs(grid.theta))
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
            * smoothstep(m.eye_inside, 0.02, 0.25)
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
        "teeth": pocket * ((f > 0.14) & (f < 0.40)) + 0.85 * pocket * ((f > 0.76) & (f < 0.90)),
        "tongue": pocket * ((f > 0.60) & (f < 0.74)),
        "beard": beard * (degrees < 100),
        "moustache": smoothstep(-y, 21.5, 25) * (1 - smoothstep(row, up - 1.2, up + 0.2))
        * np.exp(-((a / 27) ** 6)) * front,
        "scalp": hairline,
        "brow_v": brow_row * 2.0,
        "brow_u": (a - 10) / 42 + 50.0 * (front < 0.3),
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
