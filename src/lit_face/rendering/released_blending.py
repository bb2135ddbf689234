"""The texture of the multi-view release, step for step, and the window that its network is given.

For equality with published results; `lit_face.rendering.texture_blending` makes better textures.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.precision import fp32_region

_BOX = 31  # texels over which normals are averaged
_TEXTURE = 1024  # texels, the side that the network's window is cut from
_ROWS, _COLUMNS = slice(12, 962), slice(38, 988)


@torch.no_grad()
@fp32_region()
def released_texture(
    position: Tensor, normal: Tensor, images: Tensor, camera: PerspectiveCamera, size: int
) -> Tensor:
    """Blend photos by the angle alone, as the release does.

    Nothing asks whether a view sees a texel, and photos are read up to half a pixel beside the
    point (`grid_sample` without aligned corners, coordinates with them).

    Args:
        position: (S,S,3) world frame, 0 where there is no surface.
        normal: (S,S,3) likewise.
        images: (N,3,H,W) colours in any order and range.
        camera: N cameras of the photos.
        size: side T of the texture.

    Returns:
        (3,T,T) in the range of `images`, 0 without surface.
    """
    points, valid = _upsampled(position, size)
    normals = _planes(normal)
    normals = F.interpolate(normals, (size, size), mode="bilinear", align_corners=False)
    normals = F.avg_pool2d(_mirrored(normals, _BOX // 2), _BOX, 1)
    flat = points[0].flatten(1).T
    centres = -(camera.rotation.mT @ camera.translation[..., None])[..., 0]
    colors, weights = [], []
    height, width = images.shape[-2:]
    for view in range(len(images)):
        one = camera.map(lambda value, row=view: value[row : row + 1])  # type: ignore[misc]
        pixels = one.project(flat)[..., :2]
        grid = 2 * pixels / pixels.new_tensor([width - 1, height - 1]) - 1
        image = images[view : view + 1].to(grid)
        color = F.grid_sample(image, grid.view(1, size, size, 2), align_corners=False)[0]
        towards = F.normalize(centres[view] - flat, dim=-1).T.view(3, size, size)
        weight = (towards * normals[0]).sum(0).clamp(min=0) * (color.sum(0) > 0)
        colors.append(color)
        weights.append(weight)
    stacked, weight = torch.stack(colors), torch.stack(weights)[:, None]
    total = weight.sum(0, keepdim=True)
    share = torch.where(total > 0, weight / total.clamp(min=1e-30), 1 / len(images))
    return (share * stacked).sum(0) * valid


def relocated(texture: NDArray[Any]) -> NDArray[Any]:
    """Cut the facial window of a texture (1024,1024,C) and enlarge it to the same side.

    Raises:
        ValueError: another shape.
    """
    if texture.shape[:2] != (_TEXTURE, _TEXTURE):
        raise ValueError(
            f"the facial window is cut from ({_TEXTURE}, {_TEXTURE}) texels, found "
            f"{texture.shape[:2]}."
        )
    return np.asarray(
        cv2.resize(texture[_ROWS, _COLUMNS], (_TEXTURE, _TEXTURE), interpolation=cv2.INTER_LINEAR)
    )


def _upsampled(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return points (1,3,T,T), linear but for the borders, and where they are (T,T)."""
    planes = _planes(position)
    linear = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False)
    nearest = F.interpolate(planes, (size, size), mode="nearest")
    gap = (linear.norm(dim=1) - nearest.norm(dim=1)).abs()
    points = torch.where((gap > gap.mean())[:, None], nearest, linear)
    return points, (points != 0).any(1)[0].to(points)


def _mirrored(maps: Tensor, border: int) -> Tensor:
    """Pad (1,C,T,T) by its mirror, the outermost texels twice."""
    for axis in (-2, -1):
        first = maps.narrow(axis, 0, border).flip(axis)
        last = maps.narrow(axis, maps.shape[axis] - border, border).flip(axis)
        maps = torch.cat([first, maps, last], dim=axis)
    return maps


def _planes(maps: Tensor) -> Tensor:
    return maps.movedim(-1, 0)[None]
