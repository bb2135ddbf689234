"""Random numbers that depend on the sample alone.

Every draw is a hash of (key, stream, position), computed in parallel on the key's device. A sample
sees the same numbers on one process or eight, with any batch size, after any restart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(value: Tensor, bits: int) -> Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014) in wrapping int64 arithmetic."""
    value = (value ^ _shift_right(value, 30)) * _MIX_1
    value = (value ^ _shift_right(value, 27)) * _MIX_2
    return value ^ _shift_right(value, 31)


def sample_keys(seed: int, epoch: int, index: Tensor) -> Tensor:
    """Return one key (B,) int64 for each sample `index` (B,) of an epoch."""
    start = torch.as_tensor(index, dtype=torch.int64)
    return _mix(_mix(_mix(start + seed * _GOLDEN % (1 << 62)) + epoch) + start)


def uniform(keys: Tensor, stream: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw uniform float32 numbers.

    Args:
        keys: (B,) int64, one for each sample.
        stream: which draw of the sample this is; use one number for one purpose.
        shape: shape of one sample's numbers.
        low: lower bound, included.
        high: upper bound, excluded but for rounding.

    Returns:
        (B, *shape) on the device of `keys`.
    """
    count = math.prod(shape)
    offset = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    start = _mix(keys + (stream + 1) * 0x632BE59BD9B4E019 % (1 << 62))
    bits = _shift_right(_mix(start[:, None] + offset), 40)
    unit = bits.to(torch.float32) * (1.0 / (1 << 24))
    return (low + (high - low) * unit).view(-1, *shape)


def normal(keys: Tensor, stream: int, *shape: int) -> Tensor:
    """Draw standard normal float32 numbers (B, *shape) by Box and Muller; see `uniform`."""
    pair = uniform(keys, stream, 2, *shape)
    radius = torch.sqrt(-2.0 * torch.log1p(-pair[:, 0]))
    return radius * torch.cos(2.0 * math.pi * pair[:, 1])
