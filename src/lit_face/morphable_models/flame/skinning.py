"""FLAME's pose: linear blend skinning with a few joints, as pure functions.

Source: Li et al. (2017), "Learning a model of facial shape and expression from 4D scans"; Loper et
al. (2015), "SMPL". Units are those of the vertices given; rotations are
`lit_face.geometry.rotations.axis_angle_to_matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Posed(NamedTuple):
    """A posed mesh.

    Attributes:
        vertices: (B,V,3).
        joints: (B,J,3) after posing.
    """

    vertices: Tensor
    joints: Tensor


def pose_feature(rotations: Tensor) -> Tensor:
    """Return what pose correctives multiply (B,9(J-1)): R - I of all joints but the root."""
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - identity).flatten(1)


def chain(rotations: Tensor, joints: Tensor, parents: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Turn joints one after another along the tree.

    Args:
        rotations: (B,J,3,3), each in its parent's frame.
        joints: (B,J,3) at rest.
        parents: of each joint, before it in the list; -1 for the root.

    Returns:
        Rotations (B,J,3,3) and positions (B,J,3) in the mesh's frame.
    """
    turned, placed = [rotations[:, 0]], [joints[:, 0]]
    for joint, parent in enumerate(parents[1:], 1):
        bone = (joints[:, joint] - joints[:, parent])[..., None]
        placed.append(placed[parent] + (turned[parent] @ bone)[..., 0])
        turned.append(turned[parent] @ rotations[:, joint])
    return torch.stack(turned, 1), torch.stack(placed, 1)


def skin(
    vertices: Tensor,
    joints: Tensor,
    rotations: Tensor,
    parents: Sequence[int],
    weights: Tensor,
    pose_basis: Tensor | None = None,
) -> Posed:
    """Pose meshes.

    Args:
        vertices: (B,V,3) at rest, whatever is added to the shape already in it.
        joints: (B,J,3) at rest.
        rotations: (B,J,3,3), each in its parent's frame.
        parents: see `chain`.
        weights: (V,J), rows sum to 1.
        pose_basis: (9(J-1),V*3) pose correctives, added before skinning; none adds nothing.
    """
    if pose_basis is not None:
        vertices = vertices + (pose_feature(rotations) @ pose_basis).view(len(rotations), -1, 3)
    turned, placed = chain(rotations, joints, parents)
    shift = placed - (turned @ joints[..., None])[..., 0]
    transforms = torch.cat([turned, shift[..., None]], dim=-1).flatten(2)
    each = (weights @ transforms).unflatten(2, (3, 4))
    posed = (each[..., :3] @ vertices[..., None])[..., 0] + each[..., 3]
    return Posed(posed, placed)
