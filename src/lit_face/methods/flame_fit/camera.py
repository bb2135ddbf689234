"""The weak-perspective camera: closed form from points, NDC, pixels and the house's camera.

NDC: x right, y down, [-1, 1] over the picture. Upright axes: x right, y up, z to the viewer.
A point p of upright axes lies at scale (p_x + t_x), -scale (p_y + t_y): FLAME's camera
(scale, t_x, t_y), here in NDC a mm and mm. What is optimised is better conditioned: the logarithm
of the scale, and where the head's origin lies in the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from lit_face.methods.flame_fit.light import TO_CAMERA
from lit_face.methods.flame_fit.losses import landmark_term

_RATES = {"rotation": 0.02, "camera": 0.01}


def to_ndc(pixels: Tensor, size: int) -> Tensor:
    """Convert (...,2) pixels, the centre of the first at 0, of a picture of side `size`."""
    return (2 * pixels + 1) / size - 1


def to_pixels(ndc: Tensor, size: int) -> Tensor:
    """Inverse of `to_ndc`."""
    return ((ndc + 1) * size - 1) / 2


def project(points: Tensor, rotation: Tensor, camera: Tensor) -> Tensor:
    """Project head space, mm, to NDC.

    Args:
        points: (B,N,3).
        rotation: (B,3,3) head space to upright axes.
        camera: (B,3) logarithm of the scale (NDC a mm), NDC x and y of the head's origin.

    Returns:
        (B,N,3): x, y, and depth in the same units, smaller = nearer.
    """
    axes = points.new_tensor(TO_CAMERA)[:, None] * rotation * camera[:, :1, None].exp()
    shift = torch.cat([camera[:, 1:], torch.zeros_like(camera[:, :1])], 1)
    return points @ axes.mT + shift[:, None]


def flame_camera(camera: Tensor) -> Tensor:
    """Return (B,3) FLAME's scale, t_x, t_y for metres."""
    scale = camera[:, :1].exp()
    shift = camera[:, 1:] * camera.new_tensor([1.0, -1.0]) / scale
    return torch.cat([1e3 * scale, shift / 1e3], 1)


def house_camera(rotation: Tensor, camera: Tensor, size: int) -> AffineCamera:
    """Return the camera of the house: head space, mm, to pixels of a picture of side `size`."""
    scale = camera[:, 0].exp() * (size / 2)
    place = to_pixels(camera[:, 1:], size)
    translation = torch.cat([place, torch.zeros_like(place[:, :1])], 1)
    axes = rotation.new_tensor(TO_CAMERA)[:, None] * rotation
    return AffineCamera.orthographic(scale, axes, translation)


@fp32_region()
def rigid_start(
    points: Tensor, landmarks: Tensor, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Fit pose and camera to points in closed form.

    Args:
        points: (N,3) or (B,N,3) head space, mm; not in one plane.
        landmarks: (B,N,2) NDC.
        weights: (B,N); without them all count alike.

    Returns:
        `rotation` (B,3) axis-angle and `camera` (B,3) as in `project`: the least-squares affine
        camera, then the rotation nearest to its two rows, one scale, and the mean's shift.
    """
    points = points.expand(len(landmarks), -1, -1)
    share = torch.ones_like(landmarks[..., :1]) if weights is None else weights[..., None]
    share = share / share.sum(1, keepdim=True).clamp(min=1e-9)
    middle = (share * points).sum(1, keepdim=True)
    spread = points - middle
    goal = landmarks - (share * landmarks).sum(1, keepdim=True)
    affine = torch.linalg.solve((share * spread).mT @ spread, (share * spread).mT @ goal).mT
    upright = affine * affine.new_tensor([1.0, -1.0])[:, None]
    u, singular, vh = torch.linalg.svd(upright, full_matrices=False)
    rows = u @ vh
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    camera = torch.cat([singular.mean(1, keepdim=True).log(), torch.zeros_like(rows[:, 0, :2])], 1)
    shift = (share * (landmarks - project(points, rotation, camera)[..., :2])).sum(1)
    return {
        "rotation": matrix_to_axis_angle(rotation),
        "camera": torch.cat([camera[:, :1], shift], 1),
    }


@torch.enable_grad()
@fp32_region()
def rigid_fit(
    points: Tensor, landmarks: Tensor, steps: int = 150, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Minimise the mean distance of the points from the closed form on; see `rigid_start`."""
    start = rigid_start(points, landmarks, weights)
    free = {name: value.clone().requires_grad_() for name, value in start.items()}
    points = points.expand(len(landmarks), -1, -1)
    optimizer = torch.optim.Adam(
        [{"params": [value], "lr": _RATES[name]} for name, value in free.items()]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        found = project(points, axis_angle_to_matrix(free["rotation"]), free["camera"])
        optimizer.zero_grad()
        landmark_term(found, landmarks, weights).sum().backward()
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in free.items()}
