"""Deep3D's losses (Deng et al. 2019, as Deep3DFaceRecon_pytorch has them): pure functions.

Their scales differ on purpose, so that the published weights apply: sums over vectors, means over
pictures, landmarks in pixels of a crop of 224.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region

SIDE = 224  # pixels; the frame of the landmarks' loss
HEAVY_LANDMARKS = (28, 29, 30, *range(60, 68))  # nose line and tip, inner lips
HEAVY = 20.0
COEFFICIENTS = {"identity": 1.0, "expression": 0.8, "albedo": 1.7e-2}
_EPS = 1e-6


@fp32_region()
def photo(rendered: Tensor, true: Tensor, mask: Tensor, eps: float = _EPS) -> Tensor:
    """Mean distance of colors over the pixels of a mask, which gets no gradient; 0 if it is empty.

    Args:
        rendered: (B,3,H,W), sRGB.
        true: likewise.
        mask: (B,1,H,W) in [0,1].
        eps: keeps the root differentiable.
    """
    mask = mask.detach()
    distance = (eps + (rendered - true).square().sum(1, keepdim=True)).sqrt()
    return (distance * mask).sum() / mask.sum().clamp(min=1)


@fp32_region()
def landmark(found: Tensor, true: Tensor, side: int = SIDE) -> Tensor:
    """Weighted mean squared distance of 68 points in the picture, in pixels of a crop of 224.

    Args:
        found: (B,68,2+) pixels.
        true: likewise.
        side: of the picture, pixels.
    """
    weight = found.new_ones(68)
    weight[list(HEAVY_LANDMARKS)] = HEAVY
    distance = ((found - true)[..., :2] * (SIDE / side)).square().sum(-1)
    return (distance * weight).mean()


def coefficients(
    values: Mapping[str, Tensor], weights: Mapping[str, float] = COEFFICIENTS
) -> Tensor:
    """Sum of squares of coefficients (B,K) by name, weighted, mean over the batch."""
    parts = [weights[name] * values[name].square().sum(1).mean() for name in weights]
    return torch.stack(parts).sum()


def light(gamma: Tensor) -> Tensor:
    """Mean squared distance of light (B,3,9) from its own grey."""
    return (gamma - gamma.mean(1, keepdim=True)).square().mean()


def reflectance(albedo: Tensor, skin: Tensor) -> Tensor:
    """Variance of the albedo of skin, summed over channels: shadows stay in the light.

    Args:
        albedo: (B,V,3) sRGB values in 0..1.
        skin: (V,) in [0,1].
    """
    weight = skin[:, None] / skin.sum().clamp(min=_EPS)
    mean = (albedo * weight).sum(1, keepdim=True)
    return ((albedo - mean).square() * weight).sum((1, 2)).mean()


def perceptual(found: Tensor, true: Tensor) -> Tensor:
    """One minus the cosine of identity features (B,D), mean over the batch."""
    return (1 - F.cosine_similarity(found, true, dim=-1)).mean()
