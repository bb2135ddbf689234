"""Which views a training step looks at, and which part of their photos."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lit_face.data.random import uniform
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.precision import fp32_region
from lit_face.methods.uv_implicit.query import project
from lit_face.types import FaceBatch


def choose_views(batch: FaceBatch, camera: PerspectiveCamera, chosen: Tensor) -> FaceBatch:
    """Keep some views of each sample.

    Args:
        batch: photos (B,N,3,H,W).
        camera: of its views.
        chosen: (B,M) int64 numbers of views.
    """
    rows = torch.arange(len(batch), device=chosen.device)[:, None]
    maps = dict(batch.uv_maps or {})
    if "visibility" in maps:
        maps["visibility"] = maps["visibility"][rows, chosen]
    return replace(
        batch,
        image=batch.image[rows, chosen],
        camera=camera.map(lambda value: value[rows, chosen]),
        uv_maps=maps,
    )


def random_views(keys: Tensor, views: int, count: int) -> Tensor:
    """Draw `count` of `views` for each key (B,): (B,count) int64, no view twice."""
    return uniform(keys, 45, views).argsort(dim=1)[:, :count]


def random_gains(batch: FaceBatch, keys: Tensor, strength: float) -> FaceBatch:
    """Multiply each photo by exp(`strength` z), z standard normal, as if exposed otherwise."""
    spread = uniform(keys, 46, batch.image.shape[1], low=-1.7, high=1.7)  # of unit variance
    gain = torch.exp(strength * spread)[..., None, None, None].to(batch.image)
    return replace(batch, image=(batch.image * gain).clamp(0, 1))


@fp32_region()
def cropped_to_face(batch: FaceBatch, camera: PerspectiveCamera, margin: int) -> FaceBatch:
    """Cut photos to what they show of the base mesh; nothing is resampled.

    Args:
        batch: photos (B,N,3,H,W) and `uv_maps`.
        camera: of its views.
        margin: pixels around the mesh.

    Returns:
        A batch whose photos have the size of the largest such box, cameras shifted with them.
    """
    maps = batch.uv_maps
    if maps is None:
        return batch
    height, width = batch.image.shape[-2:]
    points = maps["position"].flatten(2).mT
    pixels, depth = project(camera, points)
    used = (maps["mask"].flatten(2) > 0.5) & (depth > 0)
    limit = pixels.new_tensor([width - 1, height - 1])
    pixels = torch.minimum(pixels.clamp(min=0), limit)
    low = torch.where(used[..., None], pixels, torch.inf).amin(2)
    high = torch.where(used[..., None], pixels, -torch.inf).amax(2)
    seen = low.isfinite().all(-1, keepdim=True)
    low = torch.where(seen, (low - margin).floor(), 0)
    high = torch.where(seen, (high + margin).ceil(), 0)
    size = [
        min(int(side), whole)
        for side, whole in zip((high - low + 1).amax((0, 1)), (width, height), strict=True)
    ]
    # Boxes lie within the photo, whatever their margin.
    room = pixels.new_tensor([width - size[0], height - size[1]])
    start = torch.minimum(low.clamp(min=0), room).long()
    columns = start[..., 0, None] + torch.arange(size[0], device=start.device)
    rows = start[..., 1, None] + torch.arange(size[1], device=start.device)
    image = batch.image.permute(0, 1, 3, 4, 2)
    sample = torch.arange(len(batch), device=start.device)[:, None, None, None]
    view = torch.arange(start.shape[1], device=start.device)[None, :, None, None]
    image = image[sample, view, rows[..., :, None], columns[..., None, :]].permute(0, 1, 4, 2, 3)
    intrinsics = camera.intrinsics.clone()
    intrinsics[..., :2, :] -= start[..., None].to(intrinsics) * camera.intrinsics[..., 2:, :]
    moved = PerspectiveCamera(intrinsics, camera.rotation, camera.translation)
    return replace(batch, image=image.contiguous(), camera=moved)
