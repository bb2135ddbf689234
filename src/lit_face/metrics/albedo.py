"""Errors of albedo at corresponding points of a surface."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Colors = Float[Tensor, "B N C"]
Weights = Float[Tensor, "..."]
Values = Float[Tensor, " B"]


def albedo_rmse(predicted: Colors, true: Colors, weights: Weights) -> Values:
    """Root of the weighted mean square difference over points and channels, linear values.

    Args:
        predicted: (B,N,C).
        true: (B,N,C).
        weights: (N,) or (B,N), not negative; without any weight the result is NaN.
    """
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    error = (share * (predicted - true).square()).sum((-2, -1)) / predicted.shape[-1]
    return error.sqrt()


def scale_invariant_rmse(predicted: Colors, true: Colors, weights: Weights) -> Values:
    """`albedo_rmse` after the best gain of each channel; light and albedo share that freedom.

    A prediction of zeros has the error of black.
    """
    weighted = weights[..., None] * predicted
    overlap = (weighted * true).sum(-2, keepdim=True)
    power = (weighted * predicted).sum(-2, keepdim=True)
    gain = torch.where(power > 0, overlap / power, torch.zeros_like(power))
    return albedo_rmse(gain * predicted, true, weights)
