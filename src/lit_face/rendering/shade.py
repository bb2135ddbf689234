"""Diffuse shading under distant light given by spherical harmonics."""

from __future__ import annotations

import math

from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.spherical_harmonics import band_count, lambert_factors, sh_basis


@fp32_region()
def sh_shading(normals: Tensor, coefficients: Tensor) -> Tensor:
    """Irradiance over pi: what a white Lambertian surface sends back.

    Args:
        normals: (B,...,3) unit, camera frame (x right, y down, z forward).
        coefficients: (B,K,3) radiance, linear light, K = bands^2 (9 for three bands), house order
            (`lit_face.geometry.spherical_harmonics`). The light is fixed to the camera; constant
            white light of radiance 1 is sqrt(4 pi) in the first coefficient and shades with 1.

    Returns:
        (B,...,3) factors on linear albedo. The radiance is not clamped, so they can be negative.

    Raises:
        ValueError: K is not a square.
    """
    bands = band_count(coefficients)
    factors = (lambert_factors(bands) / math.pi).to(coefficients)
    flat = sh_basis(normals.flatten(1, -2), bands) @ (coefficients * factors[:, None])
    return flat.view(*normals.shape[:-1], 3)
