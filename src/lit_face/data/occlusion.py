"""Things in front of the face: random patches of colour or noise, different for each sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.random import uniform

_NOISE_CELLS = 32
# One stream a purpose (see lit_face.data.random).
_CHANCE, _PLACE, _AREA, _ASPECT, _ANGLE, _ROUND, _COLOR, _NOISE, _IS_NOISE = range(120, 129)


def occluder_mask(
    keys: Tensor,
    size: tuple[int, int],
    probability: float,
    area: tuple[float, float] = (0.02, 0.2),
    aspect: tuple[float, float] = (0.3, 3.33),
) -> Tensor:
    """Draw one turned rectangle or ellipse a sample.

    Args:
        keys: (B,) random keys.
        size: (H, W) of the image.
        probability: of a sample having one.
        area: range of its area as a fraction of the image.
        aspect: range of width over height, uniform in the logarithm.

    Returns:
        (B,1,H,W) float, 1 inside.
    """
    height, width = size
    place = uniform(keys, _PLACE, 2)
    centre = place * place.new_tensor([width, height])
    pixels = uniform(keys, _AREA, 1, low=area[0], high=area[1]) * (height * width)
    ratio = uniform(keys, _ASPECT, 1, low=math.log(aspect[0]), high=math.log(aspect[1])).exp()
    half = torch.cat([(pixels * ratio).sqrt(), (pixels / ratio).sqrt()], dim=1) / 2
    angle = uniform(keys, _ANGLE, low=-math.pi / 2, high=math.pi / 2)
    x = torch.arange(width, device=keys.device) - centre[:, :1]
    y = torch.arange(height, device=keys.device) - centre[:, 1:]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    across = (cos * x[:, None, :] + sin * y[:, :, None]) / half[:, 0, None, None]
    along = (cos * y[:, :, None] - sin * x[:, None, :]) / half[:, 1, None, None]
    ellipse = across**2 + along**2 < 4 / math.pi  # the same area as the rectangle
    rectangle = (across.abs() < 1) & (along.abs() < 1)
    is_round = (uniform(keys, _ROUND) < 0.5)[:, None, None]
    present = (uniform(keys, _CHANCE) < probability)[:, None, None]
    return (torch.where(is_round, ellipse, rectangle) & present)[:, None].float()


def occluder_texture(keys: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw what the occluders look like (B,3,H,W): one colour, or coloured noise."""
    color = uniform(keys, _COLOR, 3)[:, :, None, None]
    noise = uniform(keys, _NOISE, 3, _NOISE_CELLS, _NOISE_CELLS)
    noise = functional.interpolate(noise, size=size, mode="nearest")
    is_noise = (uniform(keys, _IS_NOISE) < 0.5)[:, None, None, None]
    return torch.where(is_noise, noise, color)


def occlude(image: Tensor, keys: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """Put occluders in front of images.

    Args:
        image: (B,3,H,W) in [0,1].
        keys: (B,) random keys.
        probability: of a sample being occluded.

    Returns:
        the images and what stays visible, (B,1,H,W), 1 = visible.
    """
    size = (image.shape[2], image.shape[3])
    mask = occluder_mask(keys, size, probability)
    return torch.where(mask > 0, occluder_texture(keys, size), image), 1 - mask
