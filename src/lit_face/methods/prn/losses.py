"""The weighted position map loss (Feng et al. 2018, eq. 3). Pure functions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

LossKind = Literal["mse", "l2norm", "l1"]
Reduction = Literal["all", "nonzero"]


def position_map_loss(
    predicted: Tensor,
    target: Tensor,
    weight: Tensor,
    kind: LossKind = "mse",
    reduction: Reduction = "all",
) -> Tensor:
    """Weighted distance of two position maps.

    The paper states the weights, not the reduction; these are the ones in use.

    Args:
        predicted: (B,3,S,S) normalised position maps.
        target: (B,3,S,S) likewise.
        weight: (S,S), (1,S,S) or (B,S,S) texel weights, not negative.
        kind: 'mse' squares each coordinate, 'l2norm' takes each texel's distance, 'l1' the
            absolute coordinate differences.
        reduction: mean over 'all' values, or over those with a 'nonzero' weight.
    """
    difference = predicted - target
    if kind == "mse":
        values = difference.square()
    elif kind == "l1":
        values = difference.abs()
    else:
        values = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
    weight = weight.expand(len(predicted), *weight.shape[-2:])[:, None]
    total = (weight * values).mean()
    if reduction == "nonzero":
        total = total / (weight > 0).to(total.dtype).mean().clamp_min(1e-12)
    return total
