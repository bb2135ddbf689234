"""FLAME as released: its own vertices, in metres, model space (y up, z out of the face)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.morphable_models.flame.files import EXPRESSION_START, FlameArrays
from lit_face.morphable_models.flame.skinning import Posed, skin


class FlameLayer(nn.Module):
    """FLAME's function; `Flame` is the same in house units.

    Everything is a non-persistent buffer.

    Args:
        arrays: of the model's file.
        identity_size: leading identity components, at most 300.
        expression_size: leading expression components, at most 100.
    """

    template: Tensor
    faces: Tensor
    basis: Tensor
    pose_basis: Tensor
    joint_template: Tensor
    joint_basis: Tensor
    weights: Tensor

    def __init__(
        self, arrays: FlameArrays, identity_size: int = 300, expression_size: int = 100
    ) -> None:
        super().__init__()
        self.parents = arrays.parents
        self.identity_size, self.expression_size = identity_size, expression_size
        start = EXPRESSION_START
        basis = torch.cat(
            [
                arrays.shape_basis[..., :identity_size],
                arrays.shape_basis[..., start : start + expression_size],
            ],
            dim=2,
        )
        regressor = arrays.joint_regressor
        buffers = {
            "template": arrays.template,
            "faces": arrays.faces,
            "basis": basis,
            "pose_basis": arrays.pose_basis.flatten(0, 1).mT.contiguous(),
            "joint_template": regressor @ arrays.template,
            "joint_basis": (regressor @ basis.flatten(1)).view(len(regressor), 3, -1),
            "weights": arrays.weights,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def rotations(
        self, pose: Tensor, neck: Tensor | None = None, eyes: Tensor | None = None
    ) -> Tensor:
        """Return the joints' rotations (B,5,3,3) of axis-angles in radians.

        Args:
            pose: (B,6) whole head, jaw.
            neck: (B,3).
            eyes: (B,6) left, right.
        """
        zero = torch.zeros_like(pose[:, :3])
        neck = zero if neck is None else neck
        eyes = torch.cat([zero, zero], 1) if eyes is None else eyes
        full = torch.cat([pose[:, :3], neck, pose[:, 3:], eyes], dim=1)
        return axis_angle_to_matrix(full.view(len(full), -1, 3))

    @fp32_region()
    def forward(
        self,
        identity: Tensor,
        expression: Tensor,
        rotations: Tensor,
        offsets: Tensor | None = None,
    ) -> Posed:
        """Return vertices (B,V,3) and joints (B,5,3) in metres.

        Args:
            identity: (B,k), k <= identity_size, standard deviations.
            expression: (B,k) likewise.
            rotations: (B,5,3,3) see `rotations`.
            offsets: (B,V,3) added before skinning, so that they turn with the head (eyelids).
        """
        expressions = self.basis[..., self.identity_size :]
        moved = identity @ self.basis[..., : identity.shape[1]].flatten(0, 1).mT
        moved = moved + expression @ expressions[..., : expression.shape[1]].flatten(0, 1).mT
        shaped = self.template + moved.view(len(moved), -1, 3)
        jumps = self.joint_basis[..., self.identity_size :]
        joints = identity @ self.joint_basis[..., : identity.shape[1]].flatten(0, 1).mT
        joints = joints + expression @ jumps[..., : expression.shape[1]].flatten(0, 1).mT
        joints = self.joint_template + joints.view(len(joints), -1, 3)
        if offsets is not None:
            shaped = shaped + offsets
        return skin(shaped, joints, rotations, self.parents, self.weights, self.pose_basis)
