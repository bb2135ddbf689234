"""What the generator is trained on, and what it is measured by; in mm."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_l1(predicted: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """Return the mean absolute difference of maps (B,1,T,T) over valid texels."""
    return ((predicted - true).abs() * valid).sum() / valid.sum().clamp(min=1)


def correlation_sums(predicted: Tensor, true: Tensor, valid: Tensor) -> Tensor:
    """Return the sums (6,) float64 that `correlation` needs; those of batches may be added."""
    known = valid > 0.5
    x, y = predicted[known].double(), true[known].double()
    one = torch.ones_like(x)
    return torch.stack([part.sum() for part in (one, x, y, x * x, y * y, x * y)])


def correlation(sums: Tensor) -> Tensor:
    """Return Pearson's correlation from sums; 0 where a side is constant."""
    count, x, y, xx, yy, xy = sums
    spread = (count * xx - x * x).clamp(min=0) * (count * yy - y * y).clamp(min=0)
    value: Tensor = (count * xy - x * y) / spread.sqrt().clamp(min=1e-12)
    return value
