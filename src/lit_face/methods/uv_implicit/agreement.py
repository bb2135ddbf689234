"""Which view shows something else than the others do on the same surface."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

_LEAST = 1e-6  # of weights and of brightness, against divisions by 0


class ViewAgreement(NamedTuple):
    """How each view compares with the others; NaN for one that shows nothing that they show.

    Attributes:
        features: (B,N) distance of its features from the other views' mean, 1 for the usual one.
        brightness: (B,N) of its photo on the surface, 1 for the usual one.
    """

    features: Tensor
    brightness: Tensor


@fp32_region()
def view_agreement(features: Tensor, colors: Tensor, weights: Tensor) -> ViewAgreement:
    """Compare views texel by texel.

    Views from the side differ more, and so do texels of some regions: each distance is divided by
    the median one at its texel, each brightness likewise.

    Args:
        features: (B,N,P,C) of each view at points of the surface.
        colors: (B,N,P,3) of its photo there, in [0,1].
        weights: (B,N,P) how well it sees them, 0 for not at all.
    """
    total = torch.einsum("bnp,bnpc->bpc", weights, features)
    others = weights.sum(1, keepdim=True) - weights
    mean = (total[:, None] - weights[..., None] * features) / others.clamp(min=_LEAST)[..., None]
    distance = (features - mean).square().mean(-1).sqrt()
    compared = (weights > 0) & (others > _LEAST)
    grey = colors.mean(-1).clamp(min=_LEAST)
    relative = _relative(distance, compared)
    weights = torch.where(compared, weights, 0)
    value = (relative.nan_to_num(0.0) * weights).sum(-1) / weights.sum(-1)
    return ViewAgreement(
        value / value.nanmedian(dim=1, keepdim=True).values,
        _relative(grey, compared).nanmedian(dim=-1).values,
    )


def _relative(values: Tensor, compared: Tensor) -> Tensor:
    """Divide values (B,N,P) by their median over views; NaN where nothing is compared."""
    known = torch.where(compared, values, torch.nan)
    usual: Tensor = known.nanmedian(dim=1, keepdim=True).values
    return known / usual.clamp(min=_LEAST)
