"""Error of light as a surface feels it: irradiance over all normals."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lit_face.geometry.spherical_harmonics import band_count, lambert_factors

Light = Float[Tensor, "B K 3"]


def irradiance_error(
    predicted: Light, true: Light, scale_invariant: bool = False
) -> Float[Tensor, " B"]:
    """Relative L2 difference of irradiance over the sphere of normals.

    ||E_predicted - E_true|| / ||E_true||, over all normals and channels; harmonics are
    orthonormal, so that the integrals are sums over coefficients.

    Args:
        predicted: radiance coefficients, camera frame, any number of bands.
        true: likewise, perhaps another number of bands.
        scale_invariant: first give the prediction its best gain, one for all channels.
    """
    count = max(predicted.shape[1], true.shape[1])
    factors = lambert_factors(band_count(true.new_zeros(1, count, 3))).to(true)[:, None]
    felt, wanted = (
        (F.pad(light, (0, 0, 0, count - light.shape[1])) * factors).flatten(1)
        for light in (predicted.float(), true.float())
    )
    if scale_invariant:
        power = felt.square().sum(1, keepdim=True)
        overlap = (felt * wanted).sum(1, keepdim=True)
        felt = felt * torch.where(power > 0, overlap / power, torch.zeros_like(power))
    error: Tensor = (felt - wanted).norm(dim=1) / wanted.norm(dim=1)
    return error
