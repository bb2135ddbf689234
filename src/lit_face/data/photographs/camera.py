"""The camera: white balance, vignette, tone curve, blur, noise; and cameras for random poses."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs.texture import GRAIN, SIZE, noise_at
from lit_face.data.random import normal, uniform
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.rotations import euler_to_matrix

_BALANCE, _BLUR, _NOISE, _GRAIN, _CURVE, _ANGLES, _SCALE, _SHIFT = range(500, 508)


def develop(linear: Tensor, keys: Tensor, strength: float = 1.0) -> Tensor:
    """Turn linear rgb (B,3,H,W) into an sRGB picture in [0,1] as a camera would.

    Args:
        linear: scene light, 1 = white paper well lit.
        keys: (B,).
        strength: 0 applies the tone curve alone.
    """
    draw = uniform(keys, _CURVE, 3, low=-1, high=1)
    image = linear * white_balance(keys, strength)[..., None, None]
    height, width = image.shape[-2:]
    y = torch.linspace(-1, 1, height, device=image.device)[:, None]
    x = torch.linspace(-1, 1, width, device=image.device)
    fall = strength * 0.06 * (1 + draw[:, 2])[:, None, None, None]
    image = image * (1 - fall * (x * x + y * y))
    # A shoulder instead of clipping, then the display's power law.
    image = image.clamp(min=0)
    shoulder = 0.75
    over = (image - shoulder).clamp(min=0)
    image = image.clamp(max=shoulder) + 0.25 * (1 - torch.exp(-over / 0.25))
    contrast, lift, _ = draw[..., None, None, None].unbind(1)
    image = image.clamp(min=1e-5) ** (1 / (2.2 * (1 + strength * 0.08 * contrast)))
    image = image + strength * 0.025 * lift
    image = _blur(image, strength * uniform(keys, _BLUR, 1)[:, 0] ** 3)
    level = strength * 0.011 * uniform(keys, _NOISE, 1)[:, 0] ** 2 + 0.002 * strength
    offset = uniform(keys, _GRAIN, 2, high=SIZE)[..., None, None]
    row = torch.arange(height, device=image.device)[:, None] + offset[:, 0].long()
    column = torch.arange(width, device=image.device) + offset[:, 1].long()
    grain = noise_at(GRAIN, column + 0 * row, row + 0 * column)
    return (image + level[:, None, None, None] * grain[:, None]).clamp(0, 1)


def white_balance(keys: Tensor, strength: float = 1.0) -> Tensor:
    """Return the gains (B,3) that the camera gives to linear rgb before its tone curve."""
    return (1 + strength * 0.05 * normal(keys, _BALANCE, 3)).clamp(0.8, 1.25)


def _blur(image: Tensor, share: Tensor) -> Tensor:
    """Mix each picture with its blurred self."""
    kernel = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    weight = kernel.view(1, 1, 1, 5).expand(3, 1, 1, 5)
    soft = functional.conv2d(functional.pad(image, (2, 2, 0, 0), "replicate"), weight, groups=3)
    soft = functional.conv2d(functional.pad(soft, (0, 0, 2, 2), "replicate"), weight.mT, groups=3)
    return torch.lerp(image, soft, share[:, None, None, None])


def pose_camera(
    angles: Tensor, center: Tensor, points: Tensor, scale: Tensor | None = None,
    box: Tensor | None = None,
) -> AffineCamera:  # fmt: skip
    """Build orthographic cameras that see given points around given pixels.

    Args:
        angles: (B,3) pitch, yaw, roll in radians, convention of `euler_to_matrix`.
        center: (B,2) pixels: the middle of the points' bounding box lands here.
        points: (B,N,3) or (N,3) head space, mm; the 68 landmarks, say.
        scale: (B,) pixels per mm; or
        box: (B,) pixels: the larger side of the points' bounding box.

    Raises:
        ValueError: neither or both of `scale` and `box`.
    """
    flip = torch.tensor([1.0, -1.0, -1.0], device=angles.device)
    rotation = flip[:, None] * euler_to_matrix(angles)
    turned = points @ rotation.mT
    low, high = turned.amin(1), turned.amax(1)
    if scale is None and box is not None:
        scale = box / (high - low)[:, :2].amax(1)
    elif scale is None or box is not None:
        raise ValueError("pose_camera takes one of scale and box, found neither or both.")
    middle = (low + high) / 2 * scale[:, None]
    translation = torch.cat([center - middle[:, :2], torch.zeros_like(center[:, :1])], dim=1)
    return AffineCamera.orthographic(scale, rotation, translation)


def sample_poses(
    keys: Tensor,
    points: Tensor,
    size: tuple[int, int],
    yaw_range: tuple[float, float] = (-80.0, 80.0),
    pitch_range: tuple[float, float] = (-25.0, 25.0),
    roll_range: tuple[float, float] = (-25.0, 25.0),
    box_range: tuple[float, float] = (0.40, 0.62),
) -> AffineCamera:
    """Draw cameras: angles uniform in ranges (degrees), the face's box inside the picture.

    Args:
        keys: (B,).
        points: (B,N,3) or (N,3) head space, mm, whose bounding box is placed (the landmarks).
        size: height and width of the picture.
        yaw_range: degrees; beyond 75 or so one half of the face is hidden.
        pitch_range: degrees, positive looks up.
        roll_range: degrees.
        box_range: larger side of that box as a share of the smaller side of the picture.
    """
    draw = uniform(keys, _ANGLES, 3)
    ranges = draw.new_tensor([pitch_range, yaw_range, roll_range]) * (math.pi / 180)
    angles = ranges[:, 0] + draw * (ranges[:, 1] - ranges[:, 0])
    shorter = min(size)
    box = shorter * uniform(keys, _SCALE, 1, low=box_range[0], high=box_range[1])[:, 0]
    shift = uniform(keys, _SHIFT, 2, low=-1, high=1)
    spare = (0.9 * shorter - box).clamp(min=0)[:, None] * 0.3
    center = draw.new_tensor([(size[1] - 1) / 2, (size[0] - 1) / 2]) + shift * spare
    return pose_camera(angles, center, points, box=box)
