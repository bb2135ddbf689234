"""What the face is made of: diffuse and specular albedo per vertex, nonlinear in its parameters.

Diffuse albedo is in sRGB values [0,1]; specular albedo is one intensity in [0,1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.morphable_models.procedural.albedo_windows import paint_windows
from lit_face.morphable_models.procedural.features import Material
from lit_face.morphable_models.procedural.grid import smoothstep

Array = NDArray[Any]
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
# What is inside the mouth, sRGB.
_INSIDE = {
    "cavity": (0.075, 0.028, 0.026),
    "gum": (0.50, 0.24, 0.23),
    "tongue": (0.46, 0.20, 0.19),
    "teeth": (0.86, 0.82, 0.74),
}
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
        self._w = {k: v.astype(np.float32) for k, v in paint_windows(material, neutral).items()}
        blotch = _fields(neutral, _BLOTCHES, 11, (70.0, 34.0, 18.0))
        fine = _fields(neutral, 3, 12, (5.5, 4.5, 7.0))
        shine = _fields(neutral, _SHINE_BLOTCHES, 13, (60.0, 30.0))
        self._blotch = blotch.astype(np.float32)
        self._shine = shine.astype(np.float32)
        # Freckles and spots: rare peaks of fine fields, at the same places for everyone.
        freckles = smoothstep(fine[0] + fine[1], 1.2, 2.6) * self._w["freckle_zone"]
        spots = smoothstep(fine[2], 1.9, 2.4) * self._w["face"]
        self._freckles, self._spots = freckles.astype(np.float32), spots.astype(np.float32)
        # Places outside of a feature need no work for it.
        self._places = {
            name: np.flatnonzero(weight > 1e-3)
            for name, weight in (
                ("mouth", np.maximum(self._w["lips"], self._w["cavity"]) + self._w["wet"]),
                ("brow", self._w["brow_zone"]),
                ("eye", self._w["eyeball"]),
            )
        }

    def diffuse(self, person: dict[str, Array]) -> Array:
        """Return diffuse albedo (V,3), sRGB in [0,1]."""
        p = dict(zip(CONTINUOUS, person["values"].tolist(), strict=True))
        skin = _pick(_SKIN, p["tone"] * (len(_SKIN) - 1))
        skin = skin * (1 + np.array([0.012, -0.018, -0.02]) * p["redness"])
        skin = skin * (1 + np.array([0.005, 0.0, -0.03]) * p["yellow"])
        color = self._skin(skin, person, p)
        self._lips(color, skin, p)
        self._hair(color, person, p)
        self._eyes(color, person, p)
        return np.clip(color, 0.01, 0.99, out=color).T

    def _skin(self, skin: Array, person: dict[str, Array], p: dict[str, float]) -> Array:
        """Brightness, blood, freckles: (3,V) float32."""
        w, dark = self._w, p["tone"]
        blotches = (person["blotches"].T.astype(np.float32)) @ self._blotch
        light = 1 + 0.006 * blotches[0]
        for name, amount in (
            ("under_eye", -0.07 - 0.04 * max(p["dark_circles"], -1)),
            ("lid", -0.05 - 0.03 * p["lid_shadow"]),
            ("forehead", 0.022 * p["forehead_tone"]),
            ("muzzle_pale", 0.03),
            ("nostril", -0.16 - 0.1 * dark),
            ("lip_line", -0.10),
            ("crease", -0.05),
        ):
            light += np.float32(amount) * w[name]
        red = 0.05 * blotches[1]
        for name, amount in (
            ("cheek", 0.30 + 0.22 * p["blush"]),
            ("nose_tip", 0.35 + 0.25 * p["nose_red"]),
            ("ear", 0.35 + 0.2 * p["ear_red"]),
            ("chin", 0.25),
            ("lid_edge", 0.4),
        ):
            red += np.float32(amount) * w[name]
        red *= np.float32(0.13 * (1 - 0.45 * dark))
        spots = np.float32(0.24 * p["freckles"]) * self._freckles
        spots += np.float32(0.14 * p["spots"]) * self._spots
        np.minimum(spots, 0.6, out=spots)
        color = np.empty((3, len(light)), dtype=np.float32)
        for channel, blood, melanin in ((0, 0.18, 0.55), (1, 1.0, 0.8), (2, 0.92, 1.0)):
            tone = 1 - np.float32(blood) * red
            tone *= 1 - np.float32(melanin) * spots
            color[channel] = np.float32(skin[channel]) * light * tone
        return color

    def _lips(self, color: Array, skin: Array, p: dict[str, float]) -> None:
        tint = np.array([0.92, 0.70, 0.69]) if p["tone"] < 0.55 else np.array([0.86, 0.70, 0.72])
        red = np.clip(0.5 + 0.35 * p["lip_red"], 0, 1.6)
        lip = skin * tint * (1 - 0.05 * p["lip_dark"])
        lip = lip * (1 + red * np.array([0.0, -0.15, -0.10]))
        place = self._places["mouth"]
        w = {name: self._w[name][place] for name in ("lips", "upper_lip", "wet", *_INSIDE)}
        part = color[:, place]
        _mix(part, 0.92 * w["lips"], lip[:, None] * (1 - 0.12 * w["upper_lip"]))
        _mix(part, 0.6 * w["wet"], np.array([[0.50], [0.24], [0.22]]))
        for name, shade in _INSIDE.items():
            _mix(part, w[name], np.array(shade)[:, None])
        color[:, place] = part

    def _hair(self, color: Array, person: dict[str, Array], p: dict[str, float]) -> None:
        w = self._w
        hair = _pick(_HAIR, float(person["hair"]))[:, None].astype(np.float32)
        if p["beard"] or p["moustache"]:
            stubble = 0.55 * p["beard"] * w["beard"] + 0.5 * p["moustache"] * w["moustache"]
            grey = np.array([[0.28], [0.30], [0.33]], dtype=np.float32)
            _mix(color, np.minimum(stubble, 0.85), 0.55 * hair + grey * color)
        _mix(color, 0.96 * w["scalp"], 0.75 * hair + 0.15 * color)
        place = self._places["brow"]
        part = color[:, place]
        across = w["brow_v"][place] - 0.084 * p["brow_height"]
        across = across / (1 + 0.18 * p["brow_thickness"])
        along = w["brow_u"][place]
        taper = 1 - 0.62 * smoothstep(along, 0.35, 1.05)
        end = 1.02 + 0.07 * p["brow_length"]
        brow = np.exp(-(np.abs(across / (0.60 * taper)) ** 3.0))
        brow = brow * smoothstep(along, -0.09, 0.10) * (1 - smoothstep(along, end - 0.25, end))
        strength = np.clip(0.80 + 0.16 * p["brow_density"], 0.2, 1.0)
        _mix(part, strength * brow * w["brow_zone"][place], 0.8 * hair + 0.1 * part)
        lash = np.clip(w["lash"][place] * (0.75 + 0.3 * p["liner"]), 0, 1)
        _mix(part, lash, np.array([[0.05], [0.035], [0.03]]))
        color[:, place] = part

    def _eyes(self, color: Array, person: dict[str, Array], p: dict[str, float]) -> None:
        place = self._places["eye"]
        w = {n: self._w[n][place] for n in ("eye_shade", "caruncle", "iris_radius", "eyeball")}
        iris = _pick(_IRIS, float(person["iris"]))[:, None]
        white = np.array([[0.82], [0.79], [0.77]]) * (1 - 0.025 * p["sclera"])
        ball = white * (1 - 0.22 * w["eye_shade"])
        _mix(ball, w["caruncle"], np.array([[0.72], [0.45], [0.42]]))
        radius = w["iris_radius"]
        ring = iris * (1.12 - 0.75 * smoothstep(radius, 3.6, 6.2))
        _mix(ball, 1 - smoothstep(radius, 5.2, 6.5), ring)
        _mix(ball, 1 - smoothstep(radius, 1.7, 2.9), np.array([[0.02]]))
        part = color[:, place]
        _mix(part, w["eyeball"], ball)
        color[:, place] = part

    def specular(self, person: dict[str, Array]) -> Array:
        """Return specular albedo (V,1) in [0,1]."""
        w = self._w
        p = dict(zip(SHINE, person["shine"].tolist(), strict=True))
        value = 0.012 * (person["shine_blotches"].astype(np.float32) @ self._shine)
        value += np.float32(0.26 + 0.045 * p["overall"])
        for name, amount in (
            ("forehead", 0.10 + 0.06 * p["forehead"]),
            ("nose_shine", 0.14 + 0.07 * p["nose"]),
            ("cheek", 0.05 + 0.05 * p["cheeks"]),
            ("chin", 0.03 + 0.04 * p["chin"]),
            ("lid", 0.05 + 0.03 * p["lids"]),
            ("lips", 0.20 + 0.10 * p["lips"]),
        ):
            value += np.float32(amount) * w[name]
        value *= w["matt"]
        value += w["eyeball"] * (np.float32(0.85 + 0.05 * p["eyes"]) - value)
        return np.asarray(np.clip(value, 0.02, 1.0)[:, None])


def _mix(color: Array, weight: Array, target: Array) -> None:
    """Blend (C,N) colours in place towards a target by a weight (N,)."""
    color += weight * (target - color)
