"""Light that a surface gathers, baked once an image on latitude-longitude maps.

81 harmonics a pixel cost tens of times more than a fixed matrix times the coefficients and one
bilinear lookup a pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.spherical_harmonics import band_count, lambert_factors
from lit_face.rendering.environment import sh_to_environment

MAP_SIZE = (62, 126)  # wrapped it is 64 x 128, which `sample_image` need not enlarge


@fp32_region()
def irradiance_map(coefficients: Tensor, size: tuple[int, int] = MAP_SIZE) -> Tensor:
    """Bake irradiance of unshadowed light by normal.

    Args:
        coefficients: (B,K,C) radiance, house order, not clamped.
        size: of the map.

    Returns:
        (B,C,H,W); `sample_environment` with normals reads it.

    Source: Ramamoorthi & Hanrahan (2001), "An efficient representation for irradiance maps".
    """
    factors = lambert_factors(band_count(coefficients)).to(coefficients)
    return sh_to_environment(coefficients * factors[:, None], size, clamp=False)


@fp32_region()
def prefiltered_map(
    coefficients: Tensor, band_factors: Tensor, size: tuple[int, int] = MAP_SIZE
) -> Tensor:
    """Bake light blurred by a round lobe.

    Args:
        coefficients: (B,K,C) radiance.
        band_factors: (B,bands) by which the lobe scales each band.
        size: of the map.

    Returns:
        (B,C,H,W) by the direction of the lobe.
    """
    bands = band_count(coefficients)
    repeats = torch.arange(1, 2 * bands, 2, device=coefficients.device)
    factors = band_factors.repeat_interleave(repeats, dim=1, output_size=bands * bands)
    return sh_to_environment(coefficients * factors.unsqueeze(-1), size, clamp=False)
