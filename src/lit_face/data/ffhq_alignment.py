"""How FFHQ cuts and turns its pictures: from 68 landmarks to the aligned square."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

_EYES = (slice(36, 42), slice(42, 48))
_MOUTH_CORNERS = (48, 54)


@fp32_region()
def ffhq_alignment(landmarks: Tensor, size: int) -> Tensor:
    """Return (B,3,3): pixels of a picture to pixels of FFHQ's aligned picture.

    Args:
        landmarks: (B,68,2|3) pixels of the picture.
        size: side of the aligned picture, pixels.

    Source: Karras, Laine & Aila (2019), `recreate_aligned_images` of NVlabs/ffhq-dataset.
    """
    points = landmarks[..., :2]
    first, second = (points[:, eye].mean(1) for eye in _EYES)
    eyes = (first + second) / 2
    mouth = points[:, list(_MOUTH_CORNERS)].mean(1)
    eye_to_eye, eye_to_mouth = second - first, mouth - eyes
    across = eye_to_eye + torch.stack([eye_to_mouth[:, 1], -eye_to_mouth[:, 0]], dim=1)
    reach = torch.maximum(2.0 * eye_to_eye.norm(dim=1), 1.8 * eye_to_mouth.norm(dim=1))
    x = across / across.norm(dim=1, keepdim=True)
    y = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    linear = torch.stack([x, y], dim=1) * (size / (2 * reach))[:, None, None]
    centre = eyes + 0.1 * eye_to_mouth
    shift = (size - 1) / 2 - (linear @ centre[..., None])
    matrix = torch.cat([linear, shift], dim=2)
    bottom = matrix.new_tensor([0.0, 0.0, 1.0]).expand(len(matrix), 1, 3)
    return torch.cat([matrix, bottom], dim=1)
