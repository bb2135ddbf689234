"""The 68 iBUG landmarks: mirror table, projection from coefficients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.morphable_models.base import MorphableModel

# Which point of a mirrored face takes the place of each point.
MIRROR_68 = torch.tensor(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
     45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
     54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)  # fmt: skip


def project_landmarks(
    model: MorphableModel, coefficients: Mapping[str, Tensor], camera: AffineCamera
) -> Tensor:
    """Project the 68 landmarks (B,68,3) without making the other vertices.

    Args:
        model: head model.
        coefficients: `identity` (B,K) and `expression` (B,K), standard deviations; fewer than the
            model has are the leading ones.
        camera: head space to image space.
    """
    index = model.landmark_index
    points = model.mean[index]
    for name, basis in (("identity", model.identity_basis), ("expression", model.expression_basis)):
        values = coefficients[name].float()
        modes = basis[index][..., : values.shape[1]].flatten(0, 1)
        points = points + (values @ modes.mT).view(-1, 68, 3)
    return camera.project(points)
