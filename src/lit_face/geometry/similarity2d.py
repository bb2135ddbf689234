"""2D similarities of images: crops and in-plane augmentation, as (B,3,3) matrices.

A matrix maps pixels of the old image to pixels of the new one. The same matrix moves landmarks
(`apply_similarity`), cameras (`camera.warped`) and pictures (`lit_face.geometry.sampling`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

TRAINING_MARGIN = 1.5
INFERENCE_MARGIN = 1.6
DETECTOR_MARGIN = 1.58
DETECTOR_SHIFT = 0.14


class SquareBox(NamedTuple):
    """Square boxes of a batch, pixels.

    Attributes:
        centre: (B,2).
        size: (B,) side.
        face_size: (B,) mean of width and height of what the box is around.
    """

    centre: Tensor
    size: Tensor
    face_size: Tensor


@fp32_region()
def similarity_matrix(
    scale: Tensor, angle_rad: Tensor, translation: Tensor, centre: Tensor, mirror: bool = False
) -> Tensor:
    """Scale and rotate about a centre, then translate.

    Args:
        scale: (B,).
        angle_rad: (B,) positive turns x towards y: clockwise on the screen, as y points down.
        translation: (B,2) pixels of the new image, applied last.
        centre: (B,2) the pixel that stays where it is without translation.
        mirror: first reflect about the vertical line through the centre.

    Returns:
        (B,3,3).
    """
    cosine, sine = scale * angle_rad.cos(), scale * angle_rad.sin()
    sign = -1.0 if mirror else 1.0
    linear = torch.stack([sign * cosine, -sine, sign * sine, cosine], dim=1).view(-1, 2, 2)
    shift = centre + translation - (linear @ centre[:, :, None])[:, :, 0]
    return _assemble(linear, shift)


def mirror_matrix(width: int, like: Tensor) -> Tensor:
    """Return (1,3,3) that mirrors an image `width` pixels wide onto itself: x to width - 1 - x."""
    return like.new_tensor([[[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]])


@fp32_region()
def apply_similarity(transform: Tensor, points: Tensor) -> Tensor:
    """Move points with their image.

    Args:
        transform: (B,3,3).
        points: (B,...,2) pixels, or (B,...,3) with a depth in the scale of the pixels: depth
            follows the scale, and a mirror keeps it.

    Returns:
        Points of the new image, same shape.
    """
    linear, shift = transform[:, :2, :2], transform[:, :2, 2]
    flat = points.reshape(points.shape[0], -1, points.shape[-1])
    moved = flat[..., :2] @ linear.mT + shift[:, None]
    if points.shape[-1] == 3:
        scale = torch.linalg.det(linear).abs().sqrt()[:, None, None]
        moved = torch.cat([moved, flat[..., 2:] * scale], dim=-1)
    return moved.reshape(points.shape)


def box_of_points(points: Tensor, margin: float, truncate_points: bool = False) -> SquareBox:
    """Put a square box around points, as PRNet does.

    Args:
        points: (B,N,2) or (B,N,3) pixels; N landmarks, or the two corners of a box.
        margin: 1.5 to train, 1.6 to infer.
        truncate_points: first drop the fractions of the coordinates, as PRN's training crops do.

    Returns:
        The box: its side is the mean of the points' width and height times the margin, rounded
        down to whole pixels.
    """
    points = points[..., :2]
    if truncate_points:
        points = points.trunc()
    low, high = points.amin(1), points.amax(1)
    face_size = (high - low).sum(1) / 2
    return SquareBox(high - (high - low) / 2, (face_size * margin).trunc(), face_size)


def box_of_detection(left_top_right_bottom: Tensor) -> SquareBox:
    """Put a square box around a detector's rectangle (B,4) left, top, right, bottom.

    Detectors frame the face without forehead: the centre moves down by 0.14 of the mean side, and
    the margin is 1.58.
    """
    low, high = left_top_right_bottom[:, :2], left_top_right_bottom[:, 2:]
    face_size = (high - low).sum(1) / 2
    centre = high - (high - low) / 2
    centre = torch.stack([centre[:, 0], centre[:, 1] + DETECTOR_SHIFT * face_size], dim=1)
    return SquareBox(centre, (face_size * DETECTOR_MARGIN).trunc(), face_size)


def jitter_box(box: SquareBox, unit: Tensor, amount: float = 0.1) -> SquareBox:
    """Move and resize a box at random, as PRN's training data does.

    Args:
        box: the box to change.
        unit: (B,3) uniform in [0, 1): shift in x, shift in y, size.
        amount: 0.1: shift by up to a tenth of the face, size by up to a tenth.
    """
    reach = (amount * box.face_size)[:, None]
    size = box.size * (unit[:, 2] * 2 * amount + 1 - amount)
    return SquareBox(box.centre + unit[:, :2] * 2 * reach - reach, size, box.face_size)


def box_to_crop(box: SquareBox, crop_size: int = 256) -> Tensor:
    """Return (B,3,3): the box's corners go to (0, 0) and (crop_size - 1, crop_size - 1)."""
    scale = (crop_size - 1) / box.size
    shift = -scale[:, None] * (box.centre - box.size[:, None] / 2)
    linear = scale[:, None, None] * torch.eye(2, dtype=scale.dtype, device=scale.device)
    return _assemble(linear, shift)


def _assemble(linear: Tensor, shift: Tensor) -> Tensor:
    top = torch.cat([linear, shift[:, :, None]], dim=2)
    bottom = top.new_tensor([0.0, 0.0, 1.0]).expand(len(top), 1, 3)
    return torch.cat([top, bottom], dim=1)
