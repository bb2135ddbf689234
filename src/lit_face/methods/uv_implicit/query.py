"""Points in space to what all views say of them: projection, sampling, variance over views."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.precision import fp32_region

Alignment = Literal["exact", "reference"]

FACING = 0.2  # cosine from which on a surface counts as seen
FLOOR = 1e-3  # weight of a view that sees nothing, against a division by 0


@fp32_region()
def project(camera: PerspectiveCamera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points into every view.

    Args:
        camera: intrinsics (B,N,3,3), rotation (B,N,3,3), translation (B,N,3).
        points: (B,P,3) world frame, mm.

    Returns:
        Pixels (B,N,P,2) and depths (B,N,P); behind a camera pixels are mirrored.
    """
    matrix = camera.intrinsics @ torch.cat([camera.rotation, camera.translation[..., None]], dim=-1)
    homogeneous = points[:, None] @ matrix[..., :3].mT + matrix[..., None, :, 3]
    depth = homogeneous[..., 2]
    return homogeneous[..., :2] / depth[..., None], depth


@fp32_region()
def sample_features(maps: Tensor, pixels: Tensor, alignment: Alignment = "exact") -> Tensor:
    """Read feature maps between their pixels; 0 outside.

    The four neighbours are rows of a table: on a CPU quicker to train through than `grid_sample`
    (bench/uv_implicit.py), and the same numbers.

    Args:
        maps: (B,N,H,W,C), channels last.
        pixels: (B,N,P,2) x, y; the centre of the first pixel at 0.
        alignment: 'reference' reads x at x W / (W - 1) - 0.5, as the released code's `grid_sample`
            does since torch 1.3 (half a pixel too far out at the border).

    Returns:
        (B,N,P,C).
    """
    batch, views, height, width, channels = maps.shape
    if alignment == "reference":
        size = pixels.new_tensor([width, height])
        pixels = pixels * (size / (size - 1)) - 0.5
    # What is not finite, and what is far outside, has no neighbours.
    pixels = torch.nan_to_num(pixels, nan=-2.0).clamp(-2, max(height, width) + 1)
    first = pixels.floor()
    part = pixels - first
    corner = first.long()
    shift = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=maps.device)
    neighbours = corner[..., None, :] + shift
    weights = torch.where(shift.bool(), part[..., None, :], 1 - part[..., None, :]).prod(-1)
    x, y = neighbours.unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    view = torch.arange(batch * views, device=maps.device).view(batch, views, 1, 1)
    rows = (view * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
    found = F.embedding_bag(
        rows.view(-1, 4),
        maps.reshape(-1, channels),
        per_sample_weights=(weights * inside).view(-1, 4).to(maps.dtype),
        mode="sum",
    )
    return found.view(batch, views, -1, channels)


@fp32_region()
def in_picture(pixels: Tensor, depth: Tensor, height: int, width: int) -> Tensor:
    """Say which projections (B,N,P) lie in front of the camera and within the picture."""
    x, y = pixels.unbind(-1)
    return (depth > 0) & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


@fp32_region()
def facing(camera: PerspectiveCamera, points: Tensor, normals: Tensor) -> Tensor:
    """Return the cosine (B,N,P) between the normal (B,P,3) and the way to each camera."""
    centre = -(camera.rotation.mT @ camera.translation[..., None])[..., 0]
    way = F.normalize(centre[:, :, None] - points[:, None], dim=-1)
    return (way * F.normalize(normals, dim=-1)[:, None]).sum(-1)


@fp32_region()
def variance(
    maps: Tensor,
    pixels: Tensor,
    weights: Tensor | None = None,
    alignment: Alignment = "exact",
) -> Tensor:
    """Variance over views of what each channel shows at points.

    One view is read at a time, so that memory does not grow with their number.

    Args:
        maps: (B,N,H,W,C) features, channels last.
        pixels: (B,N,P,2) of the points.
        weights: (B,N,P), any scale; None counts all views alike, as the release does.
        alignment: see `sample_features`.

    Returns:
        (B,P,C), of the population.
    """
    views = maps.shape[1]
    share = torch.full_like(pixels[..., 0], 1 / views)
    if weights is not None:
        share = weights / weights.sum(dim=1, keepdim=True)
    mean = squares = pixels.new_zeros(())
    # Unbound, not sliced: the gradient of a slice is a map of zeros for all other views.
    for one, where, part in zip(maps.unbind(1), pixels.unbind(1), share.unbind(1), strict=True):
        found = sample_features(one[:, None], where[:, None], alignment)[:, 0]
        weighted = part[..., None] * found
        mean, squares = mean + weighted, squares + weighted * found
    return (squares - mean.square()).clamp(min=0)
