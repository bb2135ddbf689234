"""What cameras and light do to a picture: shadows, exposure, lost colour, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.random import normal, uniform

# One stream a purpose (see lit_face.data.random).
(_SHADOW, _EDGE, _DEPTH, _GAMMA, _CONTRAST, _GREY, _TINT, _BLUR, _SIZE, _NOISE, _GRAIN,
 _BARS, _BAR, _TINTED) = range(140, 154)  # fmt: skip
_GREY_WEIGHTS = (0.299, 0.587, 0.114)
_MIDDLE = 0.45  # grey that contrast leaves alone


@dataclass(frozen=True)
class Photometric:
    """Random changes of pictures that move nothing; the defaults change nothing.

    Attributes:
        shadow: probability of a soft-edged shadow over part of the picture.
        gamma: largest natural logarithm of the exponent, both ways.
        contrast: largest share by which contrast changes, both ways.
        grey: probability of losing the colour, wholly or with a tint.
        blur: probability of the picture coming from a smaller one (down to a quarter).
        noise: largest standard deviation of the grain, of 1.
        bars: probability of a black border at one side, as padded photographs have.
    """

    shadow: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    bars: float = 0.0

    @property
    def is_random(self) -> bool:
        """Whether any picture is changed."""
        return any(vars(self).values())

    def __call__(self, image: Tensor, keys: Tensor) -> Tensor:
        """Change pictures (B,3,H,W) in [0,1]; keys (B,) decide all."""
        if not self.is_random:
            return image
        image = _shade(image, keys, self.shadow)
        exponent = (self.gamma * _signed(keys, _GAMMA)).exp()
        image = image.clamp(1e-4, 1) ** exponent
        factor = 1 + self.contrast * _signed(keys, _CONTRAST)
        image = _MIDDLE + (image - _MIDDLE) * factor
        image = _lose_color(image, keys, self.grey)
        image = _lose_detail(image, keys, self.blur)
        level = self.noise * uniform(keys, _NOISE)[:, None, None, None] ** 2
        image = image + level * normal(keys, _GRAIN, *image.shape[1:])
        return _add_bars(image, keys, self.bars).clamp(0, 1)


def _signed(keys: Tensor, stream: int) -> Tensor:
    return uniform(keys, stream, low=-1.0, high=1.0)[:, None, None, None]


def _chosen(keys: Tensor, stream: int, probability: float) -> Tensor:
    return (uniform(keys, stream) < probability)[:, None, None, None]


def _shade(image: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Darken one side of a random line, softly."""
    height, width = image.shape[2:]
    angle, place, soft = uniform(keys, _EDGE, 3).unbind(1)
    angle = 2 * math.pi * angle
    y = torch.linspace(-1, 1, height, device=image.device)[:, None]
    x = torch.linspace(-1, 1, width, device=image.device)
    across = angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y
    reach = (0.02 + 0.4 * soft)[:, None, None]
    covered = torch.sigmoid((across - (1.2 * place - 0.6)[:, None, None]) / reach * 3)[:, None]
    depth = uniform(keys, _DEPTH, low=0.2, high=0.75)[:, None, None, None]
    return torch.where(_chosen(keys, _SHADOW, probability), image * (1 - depth * covered), image)


def _lose_color(image: Tensor, keys: Tensor, probability: float) -> Tensor:
    weights = image.new_tensor(_GREY_WEIGHTS)[:, None, None]
    tint = 1 + 0.15 * uniform(keys, _TINT, 3, low=-1.0, high=1.0)[:, :, None, None]
    grey = (image * weights).sum(1, keepdim=True) * torch.where(
        _chosen(keys, _TINTED, 0.5), tint, torch.ones_like(tint)
    )
    return torch.where(_chosen(keys, _GREY, probability), grey, image)


def _lose_detail(image: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Replace pictures by enlarged small ones: half or a quarter of the size."""
    if probability == 0:
        return image
    size = image.shape[2:]
    half = functional.avg_pool2d(image, 2, ceil_mode=True)
    quarter = functional.avg_pool2d(half, 2, ceil_mode=True)
    half, quarter = (
        functional.interpolate(small, size=size, mode="bilinear") for small in (half, quarter)
    )
    small = torch.where(_chosen(keys, _SIZE, 0.3), quarter, half)
    return torch.where(_chosen(keys, _BLUR, probability), small, image)


def _add_bars(image: Tensor, keys: Tensor, probability: float) -> Tensor:
    """Blacken a border of up to a quarter at one of the four sides."""
    height, width = image.shape[2:]
    side, share = uniform(keys, _BAR, 2).unbind(1)
    y = ((torch.arange(height, device=image.device) + 0.5) / height)[:, None].expand(height, width)
    x = ((torch.arange(width, device=image.device) + 0.5) / width).expand(height, width)
    inwards = torch.stack([x, 1 - x, y, 1 - y])[(4 * side).long().clamp(max=3)]
    bar = (inwards < 0.25 * share[:, None, None])[:, None] & _chosen(keys, _BARS, probability)
    return image.masked_fill(bar, 0.0)
