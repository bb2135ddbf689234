"""Losses by name: pure functions, means over valid pixels or texels, so weights fit any size.

Sources: Dib et al. (ICCV 2021) and its supplement; the optimiser NextFace, on which it builds, for
the forms of the map losses; Deng et al. (2019, Deep3D) for the weights of landmarks.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region

HEAVY_LANDMARKS = (*range(28, 36), *range(60, 68))  # nose line and base, inner lips (Deep3D)
_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
        (0.0193339, 0.1191920, 0.9503041))  # fmt: skip


@fp32_region()
def photometric(rendered: Tensor, photo: Tensor, weight: Tensor) -> Tensor:
    """Mean over pictures of their mean absolute difference where the weight says; 0 if nowhere.

    The weight gets no gradient: a face must not profit from hiding.

    Args:
        rendered: (B,3,H,W).
        photo: likewise, in the same light (linear or sRGB).
        weight: (B,1,H,W) in [0,1].
    """
    return photometric_errors(rendered, photo, weight).mean()


@fp32_region()
def photometric_errors(rendered: Tensor, photo: Tensor, weight: Tensor) -> Tensor:
    """Return (B,) mean absolute differences; arguments as in `photometric`."""
    weight = weight.detach()
    error = ((rendered - photo).abs() * weight).sum((1, 2, 3))
    return error / (3 * weight.sum((1, 2, 3))).clamp(min=1e-6)


@fp32_region()
def landmark(found: Tensor, true: Tensor, side: int, heavy: float = 20.0) -> Tensor:
    """Weighted mean of the squared distance in the picture, share of the side squared.

    Args:
        found: (B,68,2+) pixels.
        true: likewise.
        side: of the picture, pixels.
        heavy: weight of the nose and the inner lips beside 1 of the others.
    """
    weight = found.new_ones(68)
    weight[list(HEAVY_LANDMARKS)] = heavy
    distance = (found[..., :2] - true[..., :2]).square().sum(-1)
    return (distance * weight).sum(1).mean() / (weight.sum() * side**2)


def prior(coefficients: Tensor) -> Tensor:
    """Mean square of coefficients (B,K) in standard deviations."""
    return coefficients.square().mean() if coefficients.numel() else coefficients.sum()


def light_grey(light: Tensor) -> Tensor:
    """Mean squared distance of (B,K,3) light from its own grey."""
    return (light - light.mean(-1, keepdim=True)).square().mean()


@fp32_region()
def map_symmetry(maps: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of maps (B,C,S,S) from their mirror image, on `mask` (S,S)."""
    return _mean((maps - maps.flip(-1)).abs(), mask * mask.flip(-1))


@fp32_region()
def map_consistency(maps: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference in colour plus in chromaticity from `reference`, on `mask`."""
    return _mean((maps - reference).abs(), mask) + _mean(
        (chromaticity(maps) - chromaticity(reference)).abs(), mask
    )


@fp32_region()
def chromaticity(maps: Tensor) -> Tensor:
    """Return (B,2,S,S): (X, Y) / (1 + X + Y + Z) of linear sRGB maps (B,3,S,S), XYZ times 100."""
    xyz = 100 * torch.einsum("ij,bjhw->bihw", maps.new_tensor(_XYZ), maps)
    return xyz[:, :2] / (1 + xyz.clamp(min=0).sum(1, keepdim=True))


@fp32_region()
def map_smooth(maps: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of neighbours in rows and in columns, both on `mask` (S,S)."""
    down = (maps[..., 1:, :] - maps[..., :-1, :]).square()
    across = (maps[..., 1:] - maps[..., :-1]).square()
    return _mean(down, mask[1:] * mask[:-1]) + _mean(across, mask[:, 1:] * mask[:, :-1])


@fp32_region()
def map_range(maps: Tensor, mask: Tensor) -> Tensor:
    """Mean distance of maps (B,C,S,S) from the range [0,1], on `mask`."""
    return _mean((-maps).clamp(min=0), mask) + _mean((maps - 1).clamp(min=0), mask)


@fp32_region()
def map_grey(maps: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of maps (B,3,S,S) from their own grey, on `mask`."""
    return _mean((maps - maps.mean(1, keepdim=True)).square(), mask)


@fp32_region()
def smooth_image(image: Tensor) -> Tensor:
    """Blur (B,C,H,W) by 3 x 3 weights proportional to exp(-(d/2)^2), reflecting at the border."""
    row = image.new_tensor([math.exp(-0.25), 1.0, math.exp(-0.25)])
    kernel = torch.outer(row, row)
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), "reflect"), kernel, groups=image.shape[1])


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B,C,H,W) values where (H,W) weights say."""
    count = values.shape[0] * values.shape[1] * mask.sum()
    return (values * mask).sum() / count.clamp(min=1e-6)
