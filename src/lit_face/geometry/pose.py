"""Head pose: from cameras, from corresponding points, and as PRNet computes it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_face.geometry.alignment import Similarity, procrustes
from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import matrix_to_euler


class ScaledPose(NamedTuple):
    """A similarity taken out of an affine matrix.

    Attributes:
        scale: (B,).
        rotation: (B,3,3).
        translation: (B,3), not divided by the scale.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor


def decompose_affine(matrix: Tensor) -> ScaledPose:
    """Split (B,3,4) affine matrices into scale, rotation and translation (face3d's `P2sRt`).

    The scale is the mean of the lengths of the first two rows; the rotation is those rows
    normalised and their cross product, not re-orthogonalised.
    """
    first, second = matrix[:, 0, :3], matrix[:, 1, :3]
    lengths = torch.stack([first.norm(dim=-1), second.norm(dim=-1)])
    first, second = first / lengths[0, :, None], second / lengths[1, :, None]
    rotation = torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
    return ScaledPose(lengths.mean(0), rotation, matrix[:, :, 3])


@fp32_region()
def pose_from_camera(camera: AffineCamera) -> ScaledPose:
    """Return the head's pose in the axes of `lit_face.geometry.rotations`.

    Args:
        camera: head space (mm) to image space. Where it mirrors (negative determinant), the pose
            is that of the mirrored head: yaw and roll change sign.

    Returns:
        Scale in pixels per mm, rotation to the y-up frame (the nearest rotation to the camera's
        linear part), and translation x px, y px, depth px.
    """
    linear = camera.matrix[:, :, :3]
    mirror = linear.new_tensor([-1.0, 1.0, 1.0])
    linear = torch.where(torch.linalg.det(linear)[:, None, None] < 0, linear * mirror, linear)
    upright = linear * linear.new_tensor([1.0, -1.0, -1.0])[:, None]  # y down, z forward to y up
    u, singular, vh = torch.linalg.svd(upright)
    return ScaledPose(singular.mean(-1), u @ vh, camera.matrix[:, :, 3])


@fp32_region()
def head_angles(camera: AffineCamera) -> Tensor:
    """Return (B,3) pitch, yaw, roll in radians, as `Pose_Para` has them."""
    return matrix_to_euler(pose_from_camera(camera).rotation)


@fp32_region()
def camera_angles(camera: AffineCamera | PerspectiveCamera) -> Tensor:
    """Return (B,3) pitch, yaw, roll in radians of any camera (`lit_face.geometry.rotations`)."""
    if isinstance(camera, AffineCamera):
        return head_angles(camera)
    upright = camera.rotation * camera.rotation.new_tensor([1.0, -1.0, -1.0])[:, None]
    return matrix_to_euler(upright)


@fp32_region()
def fit_orthographic_camera(
    vertices: Tensor, image_vertices: Tensor, weights: Tensor | None = None
) -> AffineCamera:
    """Fit a scaled orthographic camera to points known in both spaces.

    Args:
        vertices: (N,3) or (B,N,3) head space, mm.
        image_vertices: (B,N,3) x, y in pixels and depth in pixels, smaller = nearer.
        weights: (N,) or (B,N).

    Returns:
        The camera with the least squared error; NaN where there is no answer (`procrustes`).
    """
    fit = procrustes(vertices.expand_as(image_vertices), image_vertices, weights)
    return AffineCamera.orthographic(fit.scale, fit.rotation, fit.translation)


@fp32_region()
def fit_affine_camera(points: Tensor, pixels: Tensor) -> AffineCamera:
    """Fit an affine camera to 3D points and their pixels.

    Args:
        points: (B,N,3) head space, N at least 4 and not in one plane.
        pixels: (B,N,2).

    Returns:
        A camera whose first two rows have the least squared error; the third, depth, completes
        them to a right-handed frame with the mean of their scales, and no translation.

    Source: Hartley & Zisserman (2004), algorithm 7.2, the gold standard for affine cameras.
    """
    pixel_mean, point_mean = pixels.mean(1, keepdim=True), points.mean(1, keepdim=True)
    # Centred and scaled to unit spread: the normal equations are then well-conditioned.
    pixel_scale = (pixels - pixel_mean).norm(dim=-1).mean(-1)[:, None, None]
    point_scale = (points - point_mean).norm(dim=-1).mean(-1)[:, None, None]
    solution = torch.linalg.lstsq(
        (points - point_mean) / point_scale, (pixels - pixel_mean) / pixel_scale
    ).solution
    linear = solution.mT * (pixel_scale / point_scale)
    shift = pixel_mean.mT - linear @ point_mean.mT
    rows = torch.cat([linear, shift], dim=2)
    lengths = linear.norm(dim=-1)
    depth = torch.linalg.cross(linear[:, 0], linear[:, 1]) / lengths.mean(-1, keepdim=True)
    depth = torch.cat([depth, torch.zeros_like(depth[:, :1])], dim=1)
    return AffineCamera(torch.cat([rows, depth[:, None]], dim=1))


def frontalize_rigid(vertices: Tensor, canonical: Tensor) -> Tensor:
    """Take pose and scale off vertices (B,N,3), towards canonical ones (N,3); identity stays."""
    return procrustes(vertices, canonical.expand_as(vertices)).apply(vertices)


@fp32_region()
def frontalize_affine(vertices: Tensor, canonical: Tensor) -> Tensor:
    """Map vertices (B,N,3) onto canonical ones (N,3) by the best affine map, as PRNet does.

    The map is not rigid: it squeezes the face towards the canonical one, identity included.
    """
    homogeneous = torch.cat([vertices, torch.ones_like(vertices[..., :1])], dim=-1)
    solution: Tensor = torch.linalg.lstsq(homogeneous, canonical.expand_as(vertices)).solution
    return homogeneous @ solution


class PRNetPose(NamedTuple):
    """Pose by PRNet's own formulas, in its frame (x right, y DOWN, z towards the viewer).

    Attributes:
        camera_matrix: (B,3,4).
        pose: scale, rotation, translation taken out of it.
        yaw_pitch_roll_rad: (B,3).
    """

    camera_matrix: Tensor
    pose: ScaledPose
    yaw_pitch_roll_rad: Tensor


@fp32_region()
def prnet_pose(vertices: Tensor, canonical: Tensor) -> PRNetPose:
    """Estimate pose with the formulas of PRNet's reference code, for parity only.

    Its translation forgets scale and rotation (10 to 150 px off), its angles match the data set's
    only for rotations about one axis, and its way out of a reflection is not the best one; use
    `fit_orthographic_camera` and `head_angles`.

    Args:
        vertices: (B,N,3) PRNet's image frame.
        canonical: (N,3) PRNet's canonical vertices.
    """
    means = vertices.mean(1), canonical.mean(0)
    centred, reference = vertices - means[0][:, None], canonical - means[1]
    u, _, vh = torch.linalg.svd(centred.mT @ reference)
    rotation = u @ vh
    flip = rotation.new_tensor([1.0, 1.0, -1.0])
    rotation = torch.where(torch.linalg.det(rotation)[:, None, None] < 0, rotation * flip, rotation)
    size = centred.square().sum(-1).mean(-1).sqrt()
    scale = size / reference.square().sum(-1).mean(-1).sqrt()
    similarity = Similarity(scale, rotation, means[0] - means[1])
    pose = decompose_affine(similarity.matrix())
    return PRNetPose(similarity.matrix(), pose, prnet_angles(pose.rotation))


def prnet_angles(rotation: Tensor) -> Tensor:
    """Return (B,3) yaw, pitch, roll in radians as PRNet and 3DDFA read them off a matrix."""
    yaw = torch.asin(rotation[:, 2, 0])
    pitch = torch.atan2(rotation[:, 2, 1], rotation[:, 2, 2])
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return torch.stack([yaw, pitch, roll], dim=1)
