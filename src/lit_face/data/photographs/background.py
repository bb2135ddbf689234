"""Backgrounds of procedural photographs: rooms, skies, foliage, walls, all out of focus."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs.texture import random_field
from lit_face.data.random import normal, uniform

_KIND, _BASE, _CLOUD, _FINE, _BOXES, _BOX_COLOR, _STRIPES, _BOKEH, _BOKEH_COLOR = range(460, 469)
_BOX_COUNT, _LIGHT_COUNT = 6, 10
_COARSE = 4  # shapes are drawn at a quarter of the size: they are out of focus


def backgrounds(keys: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw (B,3,H,W) linear rgb, roughly in [0,1]."""
    height, width = size
    small = (max(height // _COARSE, 8), max(width // _COARSE, 8))
    base = uniform(keys, _BASE, 3, 4)
    level = 0.02 + 0.75 * base[:, :, 3:] ** 1.6
    colors = level * natural_tint(base[:, :, :3])
    y = torch.linspace(0, 1, small[0], device=keys.device)[None, None, :, None]
    x = torch.linspace(0, 1, small[1], device=keys.device)[None, None, None, :]
    kind = uniform(keys, _KIND, 4)
    # A floor, a horizon, a wall: two colours meet softly at some height.
    horizon = (kind[:, 1] * 1.4 - 0.2)[:, None, None, None]
    edge = torch.sigmoid((y - horizon) * (4 + 40 * kind[:, 2, None, None, None] ** 3))
    color = colors[..., None, None]
    image = color[:, 0] * (1 - edge) + color[:, 1] * edge
    cloud = random_field(normal(keys, _CLOUD, 4, 5, 5), small)
    image = image * (1 + 0.25 * cloud[:, 3:]) + 0.05 * level[:, :1, :, None] * cloud[:, :3]
    chosen = (kind[:, 0] * 5).long()[:, None, None, None]
    image = torch.where(chosen == 1, _boxes(keys, image, x, y), image)
    image = torch.where(chosen == 2, _foliage(keys, image, color[:, 2], small), image)
    image = torch.where(chosen == 3, _stripes(keys, image, color[:, 2], x, y), image)
    image = torch.where(chosen == 4, _bokeh(keys, image, x * small[1] / small[0], y), image)
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=False).clamp(
        0, 2
    )


def natural_tint(draw: Tensor) -> Tensor:
    """Turn three uniform numbers (...,3) into a tint about 1: browns, blues, greens, all pale."""
    warm = draw.new_tensor([1.25, 1.0, 0.72])
    cool = draw.new_tensor([0.72, 0.98, 1.35])
    green = draw.new_tensor([0.80, 1.15, 0.62])
    amount = draw[..., 1:2] ** 1.5
    hue = draw[..., :1]
    tint = torch.where(hue < 0.45, warm, torch.where(hue < 0.75, cool, green))
    return 1 + amount * (tint - 1) + 0.25 * (draw[..., 2:] - 0.5) * (tint - 1)


def _boxes(keys: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Windows, shelves, pictures on the wall: soft rectangles."""
    place = uniform(keys, _BOXES, _BOX_COUNT, 4)
    hue = uniform(keys, _BOX_COLOR, _BOX_COUNT, 4)
    color = (0.02 + 1.1 * hue[..., 3:] ** 2) * natural_tint(hue[..., :3])
    centre, half = place[..., :2] * 1.2 - 0.1, 0.04 + 0.28 * place[..., 2:] ** 1.5
    across = (x[:, 0] - centre[:, :, 0, None, None]).abs() - half[:, :, 0, None, None]
    along = (y[:, 0] - centre[:, :, 1, None, None]).abs() - half[:, :, 1, None, None]
    inside = torch.sigmoid(-60 * torch.maximum(across, along))
    for box in range(_BOX_COUNT):
        share = inside[:, box : box + 1]
        image = image + share * (color[:, box, :, None, None] - image)
    return image


def _foliage(keys: Tensor, image: Tensor, color: Tensor, small: tuple[int, int]) -> Tensor:
    """Leaves, crowds, rock: noise at two scales between two colours."""
    noise = random_field(normal(keys, _FINE, 2, 16, 16), small)
    share = torch.sigmoid(1.5 * noise[:, :1] + 1.1 * noise[:, 1:])
    return image * (1 - share) + (0.35 * color + 0.4 * image) * share


def _stripes(keys: Tensor, image: Tensor, color: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Blinds, fences, bookshelves."""
    draw = uniform(keys, _STRIPES, 4)[..., None, None, None]
    angle = (draw[:, 0] - 0.5) * 0.5 + torch.where(draw[:, 1] < 0.5, 0.0, 1.57)
    wave = torch.sin((x * angle.cos() + y * angle.sin()) * (12 + 70 * draw[:, 2] ** 2))
    share = torch.sigmoid(5 * (wave - 1.2 * (draw[:, 3] - 0.5)))
    return image + 0.7 * share * (color - image)


def _bokeh(keys: Tensor, image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Lights at night, out of focus: bright discs."""
    place = uniform(keys, _BOKEH, _LIGHT_COUNT, 3)
    hue = uniform(keys, _BOKEH_COLOR, _LIGHT_COUNT, 3)
    distance = torch.hypot(
        x[:, 0] - place[:, :, 0, None, None] * 1.2, y[:, 0] - place[:, :, 1, None, None]
    )
    radius = (0.015 + 0.06 * place[:, :, 2])[..., None, None]
    disc = torch.sigmoid((radius - distance) * 150)
    glow = torch.einsum("bnhw,bnc->bchw", disc, 0.15 + 0.7 * hue)
    return 0.55 * image + glow
