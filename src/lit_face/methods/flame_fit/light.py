"""Light of the photometric fit: nine coefficients of FLAME's fitting code, and the house's.

Normals are in upright axes (x right of the picture, y up, z to the viewer), so the light is fixed
to the camera.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis

BANDS = 9
FULL_LIGHT = math.sqrt(4 * math.pi)  # first coefficient that shades with 1
TO_CAMERA = (1.0, -1.0, -1.0)  # upright axes to the camera's (y down, z forward)
_FIRST = 2 * math.pi / 3 * math.sqrt(3 / (4 * math.pi))
_SECOND = math.pi / 4 * 3 * math.sqrt(5 / (12 * math.pi))
FACTORS = (
    1 / math.sqrt(4 * math.pi),
    *(_FIRST,) * 3,
    *(_SECOND,) * 3,
    _SECOND / 2,
    math.pi / 8 * math.sqrt(5 / (4 * math.pi)),
)


@fp32_region()
def light_basis(normals: Tensor) -> Tensor:
    """Return (...,9) factors of the coefficients at normals (...,3), upright axes, any length.

    Source: photometric_optimization (Feng 2019); real harmonics times the Lambert factors 2 pi / 3
    and pi / 4, band 0 without its pi.
    """
    x, y, z = normals.unbind(-1)
    terms = [
        torch.ones_like(x), x, y, z, x * y, x * z, y * z, x.square() - y.square(),
        3 * z.square() - 1,
    ]  # fmt: skip
    return torch.stack(terms, -1) * normals.new_tensor(FACTORS)


def shading(normals: Tensor, light: Tensor) -> Tensor:
    """Return (B,...,C) factors on albedo: normals (B,...,3), light (B,9,C); neither is clamped."""
    flat = light_basis(normals.flatten(1, -2)) @ light
    return flat.view(*normals.shape[:-1], light.shape[-1])


def house_light(light: Tensor) -> Tensor:
    """Turn coefficients (B,9,1 or 3) into the house's radiance (B,9,3), camera frame.

    `lit_face.rendering.shade.sh_shading` then returns the same shading at unit normals.
    """
    colored = light.expand(-1, -1, 3)
    result: Tensor = _to_house().to(colored) @ colored
    return result


@functools.cache
def _to_house() -> Tensor:
    """(9,9) float64: both bases evaluated at scattered directions, solved for the house's."""
    with torch.inference_mode(False), torch.no_grad():
        steps = torch.arange(64, dtype=torch.float64) + 0.5
        y, azimuth = 1 - steps / 32, steps * (math.pi * (3 - math.sqrt(5)))  # Fibonacci's spiral
        ring = (1 - y.square()).sqrt()
        upright = torch.stack([ring * azimuth.cos(), y, ring * azimuth.sin()], -1)
        house = sh_basis(upright * upright.new_tensor(TO_CAMERA)) * (lambert_factors() / math.pi)
        result: Tensor = torch.linalg.lstsq(house, light_basis(upright)).solution
        return result
