"""Terms of the photometric fit, each (B,): sums would let the batch's size change the balance."""

from __future__ import annotations

import torch
from torch import Tensor

_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))  # lids and lips
_EDGE = 0.02  # color error below which the robust term turns from linear to quadratic


def distances(vectors: Tensor) -> Tensor:
    """Return lengths (...,) of (...,D) whose gradient at 0 is 0, not NaN."""
    squared = vectors.square().sum(-1)
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


def landmark_term(found: Tensor, true: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the weighted mean distance (B,) of points (B,N,2).

    Args:
        found: (B,N,>=2).
        true: (B,N,>=2), the same units.
        weights: (N,) or (B,N); without them all count alike. A sample without weight has 0.
    """
    length = distances(found[..., :2] - true[..., :2])
    if weights is None:
        return length.mean(1)
    weights = weights.expand_as(length)
    return (length * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def point_weights() -> Tensor:
    """Return (68,) how much a landmark counts, mean 1: DECA's for jaw, nose and mouth."""
    weights = torch.ones(68)
    for points, weight in (
        ((5, 6, 10, 11), 2.0),
        (range(27, 36), 1.5),
        ((30, 31, 35), 3.0),
        (range(48, 68), 1.5),
        ((48, 54), 3.0),
    ):
        weights[list(points)] = weight
    return weights / weights.mean()


def opening_term(found: Tensor, true: Tensor) -> Tensor:
    """Return how much the openings of lids and lips differ (B,), from landmarks (B,68,2)."""
    upper, lower = (list(side) for side in zip(*_PAIRS, strict=True))
    gaps = [points[:, upper, :2] - points[:, lower, :2] for points in (found, true)]
    return distances(gaps[0] - gaps[1]).mean(1)


def reference_photometric(rendered: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Return mean over all of (C,H,W) of mask times the absolute difference (B,)."""
    return (mask * (rendered - image).abs()).flatten(1).mean(1)


def photometric_term(difference: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean size (B,) of color differences (B,3,N), rounded off at 0.

    Args:
        difference: of sRGB values.
        weights: (B,N); a sample without any has 0.
    """
    length = (difference.square().mean(1) + _EDGE**2).sqrt() - _EDGE
    return (length * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def half_squares(coefficients: Tensor) -> Tensor:
    """Return half the sum of squares (B,)."""
    return 0.5 * coefficients.flatten(1).square().sum(1)


def grey_light(light: Tensor) -> Tensor:
    """Return how far the light (B,9,C) is from grey (B,), DECA's prior."""
    return (light - light.mean(-1, keepdim=True)).square().flatten(1).mean(1)


def out_of_range(albedo: Tensor, weights: Tensor) -> Tensor:
    """Return how far albedo (B,3,N) leaves [0,1] (B,), quadratic."""
    excess = (albedo - albedo.clamp(0, 1)).square().sum(1)
    return (excess * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
