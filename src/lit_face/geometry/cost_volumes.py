"""Cost volumes (B,D,S,S) over a UV map, and the displacement that they mean."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region


def depth_values(planes: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the displacements (D,) of the planes in intervals: -(D // 2), and on by 1."""
    return torch.arange(planes, device=device, dtype=torch.float32) - planes // 2


@fp32_region()
def argmax_displacement(volume: Tensor, mask: Tensor) -> Tensor:
    """Return the best plane of each texel.

    Args:
        volume: (B,D,S,S).
        mask: (B,1,S,S), 0 or 1.

    Returns:
        (B,1,S,S) intervals, 0 outside of the mask.
    """
    best = volume.argmax(dim=1, keepdim=True)
    return depth_values(volume.shape[1], volume.device)[best] * mask


@fp32_region()
def expected_displacement(volume: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean of the planes under the softmax of their scores times `temperature`.

    Shapes as in `argmax_displacement`. A raw cost volume lies in [0,1] and needs a temperature
    (about 40); scores of a regulariser bring their own.
    """
    depth = depth_values(volume.shape[1], volume.device)
    share = torch.softmax(volume * mask * temperature, dim=1)
    return torch.einsum("bdhw,d->bhw", share, depth)[:, None] * mask


@fp32_region()
def displaced(position: Tensor, normal: Tensor, displacement: Tensor, mask: Tensor) -> Tensor:
    """Move a position map (B,3,S,S) along the normals by a displacement map (B,1,S,S)."""
    return (position + normal * displacement) * mask
