"""Fine displacement in UV: pores, forehead lines, crow's feet, lip creases."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from lit_face.morphable_models.procedural.features import Material, bell, spot
from lit_face.morphable_models.procedural.grid import smoothstep

Array = NDArray[Any]


def displacement_map(m: Material, uv: Array, size: int) -> NDArray[Any]:
    """Displacement along the normal (1,S,S), mm; symmetric in its lines, random in its pores."""
    grid = m.grid
    u = uv[:, 0].reshape(grid.rows, grid.columns)[0]
    v = uv[:, 1].reshape(grid.rows, grid.columns)[:, 0]
    texel_v, texel_u = np.meshgrid(np.linspace(1, 0, size), np.linspace(0, 1, size), indexing="ij")
    points = np.stack([texel_v.ravel(), texel_u.ravel()], axis=1)

    def lookup(values: Array) -> Array:
        table = values.reshape(grid.rows, grid.columns)[::-1]
        values = RegularGridInterpolator((v[::-1], u), table)(points)
        return np.asarray(values).reshape(size, size)

    a, y, front = lookup(m.a), lookup(m.y), lookup(m.front)
    inside_eye, inside_mouth = lookup(m.eye_inside), lookup(m.mouth_inside)
    rng = np.random.default_rng(5)
    white = rng.standard_normal((size, size))
    pores = gaussian_filter(white, 0.7) * 2.4 - gaussian_filter(white, 2.2) * 4.0
    bumps = gaussian_filter(rng.standard_normal((size, size)), 3.0) * 10.0
    strength = 0.018 + 0.03 * spot(a, y, 14, -4, 22, 20) + 0.012 * spot(a, y, 0, 70, 50, 25)
    out = strength * np.minimum(pores, 1.0) + 0.02 * bumps
    wobble = gaussian_filter(rng.standard_normal((size, size)), 12) * 30
    lines = np.cos((y + 0.6 * wobble) * 0.95 + 0.0011 * a**2)
    out += 0.10 * np.minimum(lines, 0.2) * bell(a, 0, 36) * bell(y, 74, 15)
    feet = np.cos(np.arctan2(y - 23, a - 40) * 17 + 0.4 * wobble)
    out += 0.09 * np.minimum(feet, 0.2) * spot(a, y, 55, 23, 8, 11) * (a > 46)
    under = np.cos((y - 14 + 0.011 * (a - 30) ** 2 + 0.3 * wobble) * 2.1)
    out += 0.05 * np.minimum(under, 0.2) * spot(a, y, 31, 14, 13, 5)
    frown = -bell(a, 6.5, 1.6) * bell(y, 46, 7) * 0.14
    lips = np.cos(a * 2.7 + 0.7 * wobble) * smoothstep(inside_mouth, 0.05, 0.3)
    out += frown + 0.05 * lips * spot(a, y, 0, -43.5, 28, 10, 3)
    out *= front * (1 - smoothstep(inside_eye, 0.0, 0.1) * spot(a, y, 31.5, 25, 16, 7, 3))
    return np.asarray(out[None], dtype=np.float32)
