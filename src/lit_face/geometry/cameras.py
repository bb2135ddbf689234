"""Cameras: head space (mm) to image space.

Image space: x right, y down, the centre of the first pixel at (0, 0); the third coordinate grows
away from the camera (smaller = nearer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region


@dataclass(eq=False)
class AffineCamera:
    """A linear camera; orthographic cameras are the ones with a scaled rotation.

    Attributes:
        matrix: (B,3,4) maps homogeneous head-space points (mm) to (x px, y px, depth in px).
    """

    matrix: Tensor

    @classmethod
    def orthographic(cls, scale: Tensor, rotation: Tensor, translation: Tensor) -> Self:
        """Build a scaled orthographic camera.

        Args:
            scale: (B,) pixels per mm.
            rotation: (B,3,3) head axes (y up, z out of the face) to camera axes (y down, z
                forward).
            translation: (B,3) where the head's origin lands: x px, y px, depth px.
        """
        return cls(torch.cat([scale[:, None, None] * rotation, translation[:, :, None]], dim=2))

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a camera with `function` applied to its tensors."""
        return replace(self, matrix=function(self.matrix))

    @fp32_region()
    def project(self, points: Tensor) -> Tensor:
        """Project head-space points (B,V,3) or (V,3), mm, to (B,V,3) x px, y px, depth px."""
        return points @ self.matrix[:, :, :3].mT + self.matrix[:, None, :, 3]

    @fp32_region()
    def warped(self, image_transform: Tensor) -> Self:
        """Follow an image similarity: pixels of the old image to pixels of the new one.

        Args:
            image_transform: (B,3,3) 2D similarity, last row (0, 0, 1); depth follows its scale
                (the square root of the determinant, so a mirror keeps depth).
        """
        linear = image_transform[:, :2, :2]
        scale = torch.linalg.det(linear).abs().sqrt()
        lifted = torch.zeros_like(self.matrix[:, :, :3])
        lifted[:, :2, :2], lifted[:, 2, 2] = linear, scale
        matrix = lifted @ self.matrix
        shift = torch.zeros_like(matrix)
        shift[:, :2, 3] = image_transform[:, :2, 2]
        return replace(self, matrix=matrix + shift)


@dataclass(eq=False)
class PerspectiveCamera:
    """A pinhole camera in OpenCV axes (x right, y down, z forward).

    Attributes:
        intrinsics: (B,3,3) pixels.
        rotation: (B,3,3) head axes to camera axes.
        translation: (B,3) the head's origin in the camera frame, mm; z > 0.
    """

    intrinsics: Tensor
    rotation: Tensor
    translation: Tensor

    def __len__(self) -> int:
        return self.intrinsics.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a camera with `function` applied to its tensors."""
        return replace(
            self,
            intrinsics=function(self.intrinsics),
            rotation=function(self.rotation),
            translation=function(self.translation),
        )

    @fp32_region()
    def to_camera(self, points: Tensor) -> Tensor:
        """Move head-space points (B,V,3) or (V,3) to the camera frame (B,V,3), mm."""
        return points @ self.rotation.mT + self.translation[:, None]

    @fp32_region()
    def project(self, points: Tensor) -> Tensor:
        """Project head-space points (B,V,3) or (V,3), mm, to (B,V,3) x px, y px, depth mm.

        Points behind the camera get mirrored pixels; callers mask them by depth <= 0.
        Source: Hartley & Zisserman (2004), eq. 6.1.
        """
        camera_points = self.to_camera(points)
        depth = camera_points[..., 2:]
        pixels = (camera_points / depth) @ self.intrinsics.mT
        return torch.cat([pixels[..., :2], depth], dim=-1)

    @fp32_region()
    def warped(self, image_transform: Tensor) -> Self:
        """Follow an image similarity (B,3,3): pixels of the old image to pixels of the new one."""
        return replace(self, intrinsics=image_transform @ self.intrinsics)


@fp32_region()
def look_at(eye: Tensor, target: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Place a camera that looks at a point.

    Args:
        eye: (B,3) the camera's centre, head space, mm.
        target: (B,3) what lies in the middle of the picture.
        up: (B,3) a direction that points up in the picture; not along the line of sight.

    Returns:
        rotation (B,3,3) and translation (B,3) of a `PerspectiveCamera`.
    """
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    return rotation, -(rotation @ eye[:, :, None])[:, :, 0]
