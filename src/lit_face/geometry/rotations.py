"""Rotations: matrices inside, angles at the edges.

Head angles (pitch, yaw, roll) are those of 300W-LP's and AFLW2000-3D's `Pose_Para`, in the head's
axes (x to the subject's left, y up, z out of the face): R = Rx(pitch) Ry(yaw) Rz(roll) with

    Rx = [1 0 0; 0 c s; 0 -s c]    Ry = [c 0 -s; 0 1 0; s 0 c]    Rz = [c s 0; -s c 0; 0 0 1]

which turns vertices into the y-up frame of the picture. Positive pitch lifts the nose, positive yaw
moves it to the left of the picture, positive roll tilts the top of the head to the right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region


def euler_to_matrix(angles_rad: Tensor) -> Tensor:
    """Convert (...,3) pitch, yaw, roll in radians to (...,3,3) rotations; see the module."""
    (a, b, c), (sa, sb, sc) = angles_rad.cos().unbind(-1), angles_rad.sin().unbind(-1)
    rows = [
        [b * c, b * sc, -sb],
        [sa * sb * c - a * sc, sa * sb * sc + a * c, sa * b],
        [a * sb * c + sa * sc, a * sb * sc - sa * c, a * b],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_euler(rotation: Tensor) -> Tensor:
    """Convert (...,3,3) rotations to (...,3) pitch, yaw, roll in radians; see the module.

    Yaw is in [-pi/2, pi/2]. At its ends only pitch plus or minus roll is defined; roll is then 0.
    """
    cosine = torch.hypot(rotation[..., 0, 0], rotation[..., 0, 1])
    yaw = torch.atan2(-rotation[..., 0, 2], cosine)
    locked = cosine < 1e-6
    pitch = torch.where(
        locked,
        torch.atan2(yaw.sign() * rotation[..., 1, 0], rotation[..., 1, 1]),
        torch.atan2(rotation[..., 1, 2], rotation[..., 2, 2]),
    )
    roll = torch.atan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return torch.stack([pitch, yaw, torch.where(locked, 0.0, roll)], dim=-1)


@fp32_region()
def axis_angle_to_matrix(axis_angle_rad: Tensor) -> Tensor:
    """Convert (...,3) rotation vectors (axis times angle, right-handed) to (...,3,3).

    Differentiable at 0. Source: Rodrigues' formula.
    """
    squared = axis_angle_rad.square().sum(-1)[..., None, None]
    small = squared < 1e-8
    safe = torch.where(small, 1.0, squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    x, y, z = axis_angle_rad.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    cross = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    identity = torch.eye(3, dtype=cross.dtype, device=cross.device)
    result: Tensor = identity + first * cross + second * (cross @ cross)
    return result


def matrix_to_axis_angle(rotation: Tensor) -> Tensor:
    """Convert (...,3,3) rotations to (...,3) rotation vectors with an angle in [0, pi].

    Through the quaternion component that is largest, so that no angle is ill-conditioned.
    Source: Shepperd (1978), "Quaternion from rotation matrix".
    """
    quaternion = _matrix_to_quaternion(rotation)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    imaginary = torch.where(real < 0, -imaginary, imaginary)
    squared = imaginary.square().sum(-1, keepdim=True)
    small = squared < 1e-14
    sine = torch.where(small, 1.0, squared).sqrt()
    angle = 2 * torch.atan2(sine, real.abs())
    return imaginary * torch.where(small, 2.0, angle / sine)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Return the angle (...,) in radians, in [0, pi], by which (...,3,3) rotations turn.

    `rotation_angle(first.mT @ second)` is the geodesic distance of two rotations.
    """
    skew = rotation - rotation.mT
    doubled_sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1)
    doubled_cosine = rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(doubled_sine, doubled_cosine)


def face3d_angles_to_matrix(angles_deg: Tensor) -> Tensor:
    """Convert (...,3) degrees about x, y, z to (...,3,3) as face3d does: Rz Ry Rx, right-handed."""
    return euler_to_matrix(angles_deg.deg2rad()).mT


def face3d_matrix_to_angles(rotation: Tensor) -> Tensor:
    """Convert (...,3,3) to (...,3) degrees about x, y, z; inverse of `face3d_angles_to_matrix`."""
    return matrix_to_euler(rotation.mT).rad2deg()


def _matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """Return (...,4) unit quaternions, real part first."""
    m00, m11, m22 = rotation.diagonal(dim1=-2, dim2=-1).unbind(-1)
    m01, m02, m12 = rotation[..., 0, 1], rotation[..., 0, 2], rotation[..., 1, 2]
    m10, m20, m21 = rotation[..., 1, 0], rotation[..., 2, 0], rotation[..., 2, 1]
    candidates = [  # each row is the quaternion times four times its own diagonal component
        [1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01],
        [m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20],
        [m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21],
        [m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22],
    ]
    matrix = torch.stack([torch.stack(row, dim=-1) for row in candidates], dim=-2)
    best = matrix.diagonal(dim1=-2, dim2=-1).argmax(-1)
    chosen = matrix.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    return F.normalize(chosen, dim=-1)
