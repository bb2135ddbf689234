"""Small tiling noise textures and their lookup, for everything finer than a vertex."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.random import normal

SIZE = 256
GRAIN, CLOUD, STRAND, MOTTLE = range(4)


@lru_cache(maxsize=4)
def _bank(device: str) -> Tensor:
    """Tiling noises (4, SIZE * SIZE) of unit variance: grain, cloud, strands, skin."""
    keys = torch.tensor([11, 12, 13], dtype=torch.int64)
    noise = normal(keys, 0, SIZE, SIZE)
    grain = _smooth(noise[0], 1.0, 1.0)
    cloud = _smooth(noise[1], 9.0, 9.0) + 0.5 * _smooth(noise[1], 3.0, 3.0)
    strand = _smooth(noise[2], 1.0, 40.0) + 0.7 * _smooth(noise[2], 5.0, 70.0)
    bank = torch.stack([grain, cloud, strand, grain + 0.7 * cloud])
    bank = bank / bank.flatten(1).std(dim=1)[:, None, None]
    return bank.flatten(1).to(device)


def _smooth(noise: Tensor, across: float, along: float) -> Tensor:
    """Gaussian filter with wrap-around, unit variance."""
    for dim, width in ((1, across), (0, along)):
        frequency = torch.fft.fftfreq(SIZE)
        response = torch.exp(-2 * (torch.pi * frequency * width) ** 2)
        shape = (1, SIZE) if dim == 1 else (SIZE, 1)
        noise = torch.fft.ifft(torch.fft.fft(noise, dim=dim) * response.view(shape), dim=dim).real
    return noise / noise.std()


def noise_at(kind: int, x: Tensor, y: Tensor) -> Tensor:
    """Read noise of a kind at texel coordinates (N,), nearest, tiling."""
    index = ((y.long() & (SIZE - 1)) << 8) + (x.long() & (SIZE - 1))
    return _bank(str(x.device))[kind].take(index)


def map_at(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Read a corner-aligned UV map (S,S,C) at (N,) coordinates in [0,1], nearest: (N,C)."""
    side = texture.shape[0]
    index = ((1 - v) * (side - 1) + 0.5).long() * side + (u * (side - 1) + 0.5).long()
    return texture.flatten(0, 1).index_select(0, index.clamp(0, side * side - 1))


def random_field(noise: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge coarse noise (B,C,h,w) to a smooth field (B,C,*size)."""
    return functional.interpolate(noise, size=size, mode="bicubic", align_corners=False)
