"""sRGB as stored in files, and linear light: the one place with the curve (IEC 61966-2-1)."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(color: Tensor) -> Tensor:
    """Decode sRGB values; the straight part goes on below 0, the power above 1."""
    power = ((color.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(color <= 0.04045, color / 12.92, power)


def linear_to_srgb(color: Tensor) -> Tensor:
    """Encode linear light; the straight part goes on below 0, the power above 1."""
    power = 1.055 * color.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(color <= 0.0031308, color * 12.92, power)
