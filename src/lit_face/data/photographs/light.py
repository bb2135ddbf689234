"""Light of a procedural photograph: ambient, a key light, a fill and sometimes a rim."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.random import normal, uniform
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis

BANDS = 5
_AMBIENT, _SKY, _KEY, _FILL, _RIM, _COLOR, _SOFT, _EXPOSURE = range(400, 408)


@dataclass(frozen=True, eq=False)
class Lights:
    """Distant light, linear rgb.

    Attributes:
        direction: (B,4,3) unit vectors to the lights, camera frame (x right, y down, z forward):
            key, fill, rim, sky.
        color: (B,4,3) irradiance over pi that each gives to a surface that faces it.
        softness: (B,4) width of each, radians squared.
        ambient: (B,3) the same from everywhere.
    """

    direction: Tensor
    color: Tensor
    softness: Tensor
    ambient: Tensor

    def coefficients(self, rotation: Tensor | None = None) -> Tensor:
        """Return radiance coefficients (B, BANDS^2, 3).

        Args:
            rotation: (B,3,3) turns camera-frame directions into the frame of the result; none
                leaves the camera frame.
        """
        direction = self.direction if rotation is None else self.direction @ rotation.mT
        degree = torch.tensor(
            [band for band in range(BANDS) for _ in range(2 * band + 1)],
            device=direction.device,
            dtype=direction.dtype,
        )
        # A von Mises-Fisher lobe has coefficients exp(-l (l + 1) s / 2) Y(direction).
        damping = torch.exp(-0.5 * degree * (degree + 1) * self.softness[..., None])
        lobes = sh_basis(direction, BANDS) * damping * math.pi
        radiance = lobes.mT @ self.color
        radiance[:, 0] += self.ambient * math.sqrt(4 * math.pi)
        return radiance


def _direction(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vector (...,3) in the camera frame; azimuth 0 comes from the viewer, up is positive."""
    level = elevation.cos()
    return torch.stack([azimuth.sin() * level, -elevation.sin(), -azimuth.cos() * level], dim=-1)


def sample_lights(keys: Tensor, contrast: float = 1.0) -> Lights:
    """Draw plausible light for (B,) keys, exposed so that a surface facing the viewer is well lit.

    Args:
        keys: random keys.
        contrast: 0 is ambient light alone, 1 the full range from flat to hard.
    """
    key, fill = uniform(keys, _KEY, 4), uniform(keys, _FILL, 3)
    rim, sky = uniform(keys, _RIM, 3), uniform(keys, _SKY, 2)
    side = torch.where(key[:, 3] < 0.5, -1.0, 1.0)
    direction = torch.stack(
        [
            _direction(side * (0.05 + 1.25 * key[:, 0]), -0.12 + 1.0 * key[:, 1]),
            _direction(-side * (0.3 + 1.0 * fill[:, 0]), -0.2 + 0.7 * fill[:, 1]),
            _direction(-side * (2.1 + 0.7 * rim[:, 0]), 0.1 + 0.6 * rim[:, 1]),
            _direction(0.4 * (sky[:, 0] - 0.5), 1.2 + 0 * sky[:, 0]),
        ],
        dim=1,
    )
    strength = torch.stack(
        [
            0.50 + 1.15 * key[:, 2],
            0.28 * fill[:, 2],
            0.8 * (rim[:, 2] - 0.55).clamp(min=0),
            0.30 * sky[:, 1],
        ],
        dim=1,
    )
    # Colour temperature: key and fill lean to opposite sides of white.
    warmth = 0.10 * normal(keys, _COLOR, 4) + 0.05 * torch.tensor(
        [1.0, -1.0, 0.0, -1.0], device=keys.device
    )
    tint = torch.stack([1 + warmth, 1 + 0.1 * warmth, 1 - warmth], dim=-1).clamp(0.6, 1.4)
    color = contrast * strength[..., None] * tint
    base = uniform(keys, _AMBIENT, 2)
    ambient = (0.12 + 0.28 * base[:, :1]) * (
        1 + 0.06 * (base[:, 1:] - 0.5) * color.new_tensor([1.0, 0.0, -1.0])
    )
    softness = uniform(keys, _SOFT, 4, low=0.02, high=0.25)
    lights = Lights(direction, color, softness, ambient)
    exposure = uniform(keys, _EXPOSURE, 1, low=0.78, high=1.12) / _frontal(lights)
    return Lights(direction, color * exposure[..., None], softness, ambient * exposure)


def _frontal(lights: Lights) -> Tensor:
    """Mean brightness (B,1) of surfaces that face the viewer, within sixty degrees."""
    normals = functional.normalize(
        torch.tensor(
            [[0.0, 0, -1], [0.7, 0, -1], [-0.7, 0, -1], [0, -0.7, -1], [0, 0.4, -1]],
            device=lights.color.device,
        ),
        dim=-1,
    )
    facing = (lights.direction @ normals.mT).clamp(min=0).mean(-1)
    brightness = (lights.color.mean(-1) * facing).sum(1) + lights.ambient.mean(-1)
    return brightness[:, None].clamp(min=0.1)


def irradiance(normals: Tensor, coefficients: Tensor) -> Tensor:
    """Irradiance over pi (B,V,3), at least a trace, of normals (B,V,3) under (B,K,3) radiance."""
    factors = (lambert_factors(BANDS) / math.pi).to(coefficients)
    return (sh_basis(normals, BANDS) @ (coefficients * factors[:, None])).clamp(min=0.01)
