"""What may hide part of a face in a procedural photograph: hands, things, glasses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_face.data.photographs.background import natural_tint
from lit_face.data.random import normal, uniform
from lit_face.geometry.sampling import pixel_centres

_WHETHER, _KIND, _PLACE, _SHAPE, _COLOR, _FINGERS, _GLASSES = range(480, 487)
_GLASSES_SHARE = 0.4
_CAPSULES = 6  # four fingers and two for the palm and wrist


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
    present = uniform(keys, _WHETHER) < probability
    wears = uniform(keys, _KIND) < _GLASSES_SHARE
    pixels = pixel_centres(size, keys.device)
    for chosen, paint in ((present & wears, _glasses), (present & ~wears, _things)):
        rows = chosen.flatten().nonzero()[:, 0]
        if len(rows):
            painted, opacity = paint(keys[rows], landmarks[rows], skin[rows], pixels)
            color = color.index_copy(0, rows, painted)
            alpha = alpha.index_copy(0, rows, opacity)
    return color, alpha


def _things(keys: Tensor, landmarks: Tensor, skin: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Hands, bars, cups and microphones: capsules lit from above."""
    low, high = landmarks[..., :2].amin(1), landmarks[..., :2].amax(1)
    extent = (high - low).amax(1)[:, None]
    draw, shape = uniform(keys, _PLACE, 4), uniform(keys, _SHAPE, 6)
    # The middle lies somewhere over the lower or outer face.
    target = low + (high - low) * (draw[:, :2] * 1.3 - 0.15)
    angle = (draw[:, 2] - 0.5) * 2.4 + math.pi / 2
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    start, stop, radius = _hand(keys, target, direction, extent)
    is_hand = shape[:, :1] < 0.55
    length = extent * (0.3 + 1.2 * shape[:, 1:2])
    bar = target[:, None].expand_as(start)
    start = torch.where(is_hand[..., None], start, bar)
    stop = torch.where(is_hand[..., None], stop, bar + (direction * length)[:, None])
    radius = torch.where(is_hand, radius, extent * (0.05 + 0.22 * shape[:, 2:3] ** 2))
    distance = _capsule_distance(pixels, start, stop, radius)
    inner, which = distance.min(dim=1, keepdim=True)
    size = radius.gather(1, which.flatten(1)).view_as(inner)
    alpha = ((1 - inner) * size + 0.5).clamp(0, 1)
    rounding = (1 - inner.clamp(max=1) ** 2).clamp(min=0).sqrt()
    hue = uniform(keys, _COLOR, 5)
    thing = (0.02 + 0.7 * hue[:, 3:4] ** 1.5) * natural_tint(hue[:, :3])
    color = torch.where(is_hand, skin, thing).clamp(0, 0.9)
    light = (0.35 + 0.65 * rounding) * (0.6 + 0.5 * hue[:, 4, None, None, None])
    return color[..., None, None] * light, alpha


def _hand(
    keys: Tensor, target: Tensor, direction: Tensor, extent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and stops (B,N,2), radii (B,N) of fingers, palm, wrist; `direction` is the arm's."""
    across = torch.stack([-direction[:, 1], direction[:, 0]], dim=-1)[:, None]
    down = direction[:, None]
    width = 0.052 * extent
    jitter = normal(keys, _FINGERS, 4, 2)
    number = torch.arange(4, device=keys.device) - 1.5
    fan = number[None, :, None] * width[..., None] * 2.0
    knuckle = target[:, None] + across * fan + down * (0.30 * extent)[..., None]
    reach = 0.42 - 0.035 * (number - 0.3) ** 2 + 0.03 * jitter[..., 0]
    lean = across * (0.05 * number[None, :, None] + 0.02 * jitter[..., 1:])
    tip = knuckle - (down - lean) * (reach * extent)[..., None]
    palm = target[:, None] + down * (0.48 * extent)[..., None]
    palm = palm + across * width[..., None] * target.new_tensor([-1.1, 1.1])[:, None]
    wrist = palm + down * (0.9 * extent)[..., None]
    radius = width * target.new_tensor([0.92, 1.0, 1.0, 0.85, 2.9, 2.9])
    return torch.cat([knuckle, palm], dim=1), torch.cat([tip, wrist], dim=1), radius


def _capsule_distance(pixels: Tensor, start: Tensor, stop: Tensor, radius: Tensor) -> Tensor:
    """Distance (B,N,H,W) to capsules in units of their radius, 1 on the outline."""
    axis = stop - start
    x = pixels[..., 0] - start[..., 0, None, None]
    y = pixels[..., 1] - start[..., 1, None, None]
    ax, ay = axis[..., 0, None, None], axis[..., 1, None, None]
    along = ((x * ax + y * ay) / (ax * ax + ay * ay).clamp(min=1e-6)).clamp(0, 1)
    return torch.hypot(x - along * ax, y - along * ay) / radius[..., None, None]


def _glasses(
    keys: Tensor, landmarks: Tensor, skin: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Glasses with clear, tinted or black lenses, seen as the face is seen."""
    draw = uniform(keys, _GLASSES, 6)[..., None, None]
    u, v, scale = _eye_plane(landmarks, pixels)
    wide = 0.66 + 0.16 * draw[:, 0]
    high = wide * (0.66 + 0.30 * draw[:, 1])
    power = 2.0 + 3.0 * draw[:, 2]
    lens = (((u.abs() - 1.0) / wide).abs() ** power + (v / high).abs() ** power) ** (1 / power)
    scale = (scale[:, None, None] * wide).clamp(min=1.0)
    inside = ((1 - lens) * scale + 0.5).clamp(0, 1)
    thin = 0.04 + 0.07 * draw[:, 3]
    rim = ((thin - (lens - 1).abs()) * scale + 0.5).clamp(0, 1)
    bridge = ((0.8 * thin - (v - 0.12).abs()) * scale + 0.5).clamp(0, 1)
    rim = torch.maximum(rim, bridge * (u.abs() < 1 - wide * 0.95))
    is_clear, is_tinted = draw[:, 4] < 0.45, draw[:, 4] < 0.65
    opacity = torch.where(is_clear, 0.06, torch.where(is_tinted, 0.55, 0.97))
    alpha = torch.maximum(inside * opacity, rim * 0.97)
    glint = (0.05 + 0.12 * torch.sigmoid(6 * (v + 0.3 * u - 0.15))) * torch.where(
        is_clear, 3.0, 1.0
    )
    frame = 0.02 + 0.25 * draw[:, 5] ** 4 * uniform(keys, _COLOR, 3)[..., None]
    weight = (rim * 0.97 / alpha.clamp(min=1e-3)).clamp(max=1)[:, None]
    color = glint[:, None] * (1 - weight) + frame[..., None] * weight
    return color, alpha[:, None]


def _eye_plane(landmarks: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates u (to the subject's left), v (up) (B,H,W) in the plane of the lenses.

    The unit is half the distance of the eyes, (B,) pixels long, which is returned third.
    """
    right, left = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    brow, chin = (landmarks[:, 19] + landmarks[:, 24]) / 2, landmarks[:, 8]
    along = (left - right) / 2
    unit = along.norm(dim=1)
    up = (brow + landmarks[:, 27]) / 2 - chin
    up = up * (unit / (brow - chin).norm(dim=1).clamp(min=1e-6))[:, None]
    forward = landmarks[:, 27] - (landmarks[:, 0] + landmarks[:, 16]) / 2
    forward = forward * (unit / forward.norm(dim=1).clamp(min=1e-6))[:, None]
    middle = (right + left) / 2 + 0.30 * forward - 0.10 * up
    area = along[:, 0] * up[:, 1] - along[:, 1] * up[:, 0]
    # Seen edge-on the lenses stay a little wide.
    area = torch.where(area < 0, -1.0, 1.0) * area.abs().maximum(0.15 * unit**2).clamp(min=1e-6)
    x = pixels[..., 0] - middle[:, 0, None, None]
    y = pixels[..., 1] - middle[:, 1, None, None]
    u = (x * up[:, 1, None, None] - y * up[:, 0, None, None]) / area[:, None, None]
    v = (y * along[:, 0, None, None] - x * along[:, 1, None, None]) / area[:, None, None]
    return u, v, unit
