"""Light in spherical harmonics as the environment map that Mitsuba reads."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.spherical_harmonics import band_count, sh_basis


def environment_directions(height: int, width: int) -> Tensor:
    """Return the (H,W,3) float64 directions of Mitsuba's texels, camera frame.

    Rows run from pole to pole, t = pi i / (H-1) from +y; columns are centred,
    f = 2 pi (j + 0.5) / W, the azimuth atan2(x, -z).
    """
    polar = torch.linspace(0, math.pi, height, dtype=torch.float64)[:, None]
    azimuth = (torch.arange(width, dtype=torch.float64) + 0.5) * (2 * math.pi / width)
    x, z = polar.sin() * azimuth.sin(), -polar.sin() * azimuth.cos()
    return torch.stack([x, polar.cos().expand_as(x), z], dim=-1)


@functools.lru_cache(maxsize=8)
def _basis(size: tuple[int, int], bands: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (H,W,K) harmonics on the grid; shared, never to be written to."""
    with torch.inference_mode(False), torch.no_grad():
        basis: Tensor = sh_basis(environment_directions(*size), bands)
        return basis.to(device=device, dtype=dtype)


@fp32_region()
def environment_map(light: Tensor, height: int, width: int) -> Tensor:
    """Evaluate max(0, light) on Mitsuba's grid, differentiable.

    Args:
        light: (B,K,3) radiance coefficients, K a square number, camera frame.
        height: rows of the map, at least 2.
        width: columns of the map, before padding.

    Returns:
        (B,H,W+2,3): the last column, the map, the first column, as Mitsuba stores it. An unpadded
        map would be accepted and read with a wrong scale.

    Raises:
        ValueError: K is not a square number.
    """
    basis = _basis((height, width), band_count(light), light.dtype, light.device)
    radiance = torch.einsum("hwk,bkc->bhwc", basis, light).clamp_min(0)
    return torch.cat([radiance[:, :, -1:], radiance, radiance[:, :, :1]], dim=2)
