"""What may hide part of a face in a procedural photograph: hands, things, glasses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_face.data.random import normal, uniform
from lit_face.geometry.sampling import pixel_centres

_WHETHER, _KIND, _PLACE, _SHAPE, _COLOR, _FINGERS, _GLASSES = range(480, 487)
_CAPSULES = 6


def occluders(
    keys: Tensor, landmarks: Tensor, skin: Tensor, size: tuple[int, int], probability: float
) -> tuple[Tensor, Tensor]:
    """Draw occluders for some samples.

    Args:
        keys: (B,).
        landmarks: (B,68,3) pixels: occluders are placed by the face.
        skin: (B,3) linear rgb, for hands.
        size: height and width.
        probability: share of samples with one.

    Returns:
        linear rgb (B,3,H,W) and opacity (B,1,H,W).
    """
    color = landmarks.new_zeros(len(keys), 3, *size)
    alpha = landmarks.new_zeros(len(keys), 1, *size)
    if probability <= 0:
        return color, alpha
    draw = uniform(keys, _WHETHER, 1)[:, 0]
    kind = uniform(keys, _KIND, 1)[:, 0]
    pixels = pixel_centres(size, keys.device)
    for is_kind, paint in ((kind < 0.62, _things), (kind >= 0.62, _glasses)):
        chosen = ((draw < probability) & is_kind).nonzero()[:, 0]
        if len(chosen):
            painted, opacity = paint(keys[chosen], landmarks[chosen], skin[chosen], pixels)
            color = color.index_copy(0, chosen, painted)
            alpha = alpha.index_copy(0, chosen, opacity)
    return color, alpha


def _capsule_distance(pixels: Tensor, start: Tensor, stop: Tensor, radius: Tensor) -> Tensor:
    """Distance (B,N,H,W) to capsules in units of their radius, 1 on the outline."""
    axis = stop - start
    offset = pixels - start[:, :, None, None]
    length = (axis * axis).sum(-1).clamp(min=1e-6)[..., None, None]
    along = ((offset * axis[:, :, None, None]).sum(-1) / length).clamp(0, 1)
    nearest = offset - along[..., None] * axis[:, :, None, None]
    return nearest.norm(dim=-1) / radius[..., None, None]


def _things(keys: Tensor, landmarks: Tensor, skin: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Hands, bars, cups and microphones: capsules lit from above."""
    face = landmarks[..., :2]
    low, high = face.amin(1), face.amax(1)
    extent = (high - low).amax(1)
    draw, shape = uniform(keys, _PLACE, 4), uniform(keys, _SHAPE, 6)
    # The middle lies somewhere over the lower or outer face.
    target = low + (high - low) * (draw[:, :2] * 1.3 - 0.15)
    angle = (draw[:, 2] - 0.5) * 2.4 + math.pi / 2
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    across = torch.stack([-direction[:, 1], direction[:, 0]], dim=-1)
    is_hand = shape[:, 0] < 0.55
    spread = torch.arange(_CAPSULES, device=keys.device) - 1.5
    jitter = normal(keys, _FINGERS, _CAPSULES, 2)
    # Hand: four fingers, a thumb and a palm; thing: one long capsule and a thick end.
    width = 0.055 * extent
    fan = spread[None, :, None] * width[:, None, None] * 2.05
    base = (
        target[:, None] + across[:, None] * fan + direction[:, None] * extent[:, None, None] * 0.30
    )
    reach = 0.40 + 0.05 * jitter[..., :1] - 0.03 * (spread[None, :, None] - 0.2) ** 2
    tilt = across[:, None] * (0.05 * spread[None, :, None] + 0.02 * jitter[..., 1:])
    tip = base - (direction[:, None] + tilt) * reach * extent[:, None, None]
    radius = (width * 1.05)[:, None].expand(-1, _CAPSULES).clone()
    palm = slice(4, 6)
    centre = target + direction * extent[:, None] * 0.52
    base[:, palm], tip[:, palm] = (
        centre[:, None],
        centre[:, None] + direction[:, None] * extent[:, None, None] * 0.8,
    )
    base[:, 4] += across * width[:, None] * 1.2
    base[:, 5] -= across * width[:, None] * 1.2
    radius[:, palm] = (width * 3.4)[:, None]
    thing_start = target[:, None].expand(-1, _CAPSULES, -1)
    thing_stop = thing_start + direction[:, None] * extent[:, None, None] * (
        0.3 + 1.2 * shape[:, 1, None, None]
    )
    hand = is_hand[:, None, None]
    base, tip = torch.where(hand, base, thing_start), torch.where(hand, tip, thing_stop)
    thick = (extent * (0.05 + 0.22 * shape[:, 2] ** 2))[:, None]
    radius = torch.where(is_hand[:, None], radius, thick)
    return _shade_capsules(keys, pixels, base, tip, radius, skin, is_hand)


def _shade_capsules(
    keys: Tensor, pixels: Tensor, start: Tensor, stop: Tensor, radius: Tensor, skin: Tensor,
    is_hand: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    distance = _capsule_distance(pixels, start, stop, radius)
    inner, which = distance.min(dim=1, keepdim=True)
    size = radius.gather(1, which.flatten(1)).view_as(inner)
    alpha = ((1 - inner) * size + 0.5).clamp(0, 1)
    round_off = (1 - inner.clamp(max=1) ** 2).clamp(min=0).sqrt()
    draw = uniform(keys, _COLOR, 5)
    value = 0.02 + 0.7 * draw[:, 3:4] ** 1.5
    color = value * (0.3 + 1.4 * draw[:, :3])
    color = torch.where(is_hand[:, None], skin, color).clamp(0, 0.9)
    light = (0.35 + 0.65 * round_off) * (0.6 + 0.5 * draw[:, 4, None, None, None])
    return color[..., None, None] * light, alpha


def _glasses(
    keys: Tensor, landmarks: Tensor, skin: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Glasses with clear, tinted or black lenses, seen as the face is seen."""
    draw = uniform(keys, _GLASSES, 6)
    right, left = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    brow = (landmarks[:, 19] + landmarks[:, 24]) / 2
    chin = landmarks[:, 8]
    along = (left - right) / 2  # half the distance of the eyes, image space
    up = ((brow + landmarks[:, 27]) / 2 - chin) * (along.norm(dim=1) / (brow - chin).norm(dim=1))[
        :, None
    ]
    forward = torch.linalg.cross(along, up) / along.norm(dim=1, keepdim=True)
    forward = torch.where(forward[:, 2:] > 0, -forward, forward)  # towards the viewer's side
    middle = (right + left) / 2 + 0.22 * forward - 0.10 * up
    x_axis, y_axis = along[:, :2], up[:, :2]
    determinant = x_axis[:, 0] * y_axis[:, 1] - x_axis[:, 1] * y_axis[:, 0]
    smallest = 0.15 * along.norm(dim=1) ** 2
    determinant = torch.where(determinant < 0, -1.0, 1.0) * determinant.abs().clamp(
        min=1e-6
    ).maximum(smallest)
    offset = pixels[None] - middle[:, None, None, :2]
    u = (
        offset[..., 0] * y_axis[:, 1, None, None] - offset[..., 1] * y_axis[:, 0, None, None]
    ) / determinant[:, None, None]
    v = (
        offset[..., 1] * x_axis[:, 0, None, None] - offset[..., 0] * x_axis[:, 1, None, None]
    ) / determinant[:, None, None]
    wide = (0.66 + 0.16 * draw[:, 0])[:, None, None]
    high = wide * (0.66 + 0.30 * draw[:, 1])[:, None, None]
    power = (2.0 + 3.0 * draw[:, 2])[:, None, None]
    lens = (((u.abs() - 1.0) / wide).abs() ** power + (v / high).abs() ** power) ** (1 / power)
    scale = (along.norm(dim=1)[:, None, None] * wide).clamp(min=1.0)
    inside = ((1 - lens) * scale + 0.5).clamp(0, 1)
    thin = (0.04 + 0.07 * draw[:, 3])[:, None, None]
    rim = ((thin - (lens - 1).abs()) * scale + 0.5).clamp(0, 1)
    bridge = ((thin * 0.8 - (v - 0.12).abs()) * scale + 0.5).clamp(0, 1) * (
        u.abs() < 1 - wide * 0.95
    )
    rim = torch.maximum(rim, bridge)
    # A third each: clear, tinted, black.
    dark = draw[:, 4]
    opacity = torch.where(dark < 0.45, 0.06, torch.where(dark < 0.65, 0.55, 0.97))[:, None, None]
    alpha = torch.maximum(inside * opacity, rim * 0.97)
    glint = 0.05 + 0.12 * torch.sigmoid(6 * (v + 0.3 * u - 0.15))
    tint = 0.02 + 0.25 * draw[:, 5:6] ** 4 * uniform(keys, _COLOR, 3)
    lens_color = glint[:, None] * torch.where(dark < 0.45, 3.0, 1.0)[:, None, None, None]
    weight = (rim * 0.97 / alpha.clamp(min=1e-3)).clamp(max=1)[:, None]
    color = lens_color.expand(-1, 3, -1, -1) * (1 - weight) + tint[..., None, None] * weight
    return color, alpha[:, None]
