"""Maps of a surface over a UV square: enlarging them without bleeding at the mask's border.

All maps are texel-centred: texel i of S covers the same square as texels 2i and 2i+1 of 2S.
"""

from __future__ import annotations

from typing import NamedTuple

import kornia.filters
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.meshes import grid_faces, vertex_normals
from lit_face.geometry.precision import fp32_region

_SHIFTS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))


class SurfaceMaps(NamedTuple):
    """A surface by its texels.

    Attributes:
        position: (3,T,T) world frame; outside of the mask continued by a few texels, then 0.
        normal: (3,T,T) unit, outward.
        mask: (T,T) bool.
    """

    position: Tensor
    normal: Tensor
    mask: Tensor

    @property
    def size(self) -> int:
        """Side T, texels."""
        return self.mask.shape[-1]


@fp32_region()
def enlarged_maps(position: Tensor, normal: Tensor, mask: Tensor, size: int) -> SurfaceMaps:
    """Interpolate maps of a surface to another side, bilinearly.

    Args:
        position: (3,S,S) world frame; only texels of the mask count.
        normal: (3,S,S) of about unit length.
        mask: (S,S), non-zero where the surface is.
        size: side T.

    Raises:
        ValueError: no texel is on the surface.
    """
    known = mask > 0
    if not bool(known.any()):
        raise ValueError("the mask of the maps is empty: there is no surface.")
    grown, points = known, position * known
    normals = normal * known
    for _ in range(2):
        points = continued(points, grown)
        normals, grown = _spread(normals, grown), _grown(grown)
    points, normals = (
        F.interpolate(value[None], (size, size), mode="bilinear")[0] for value in (points, normals)
    )
    share = F.interpolate(known[None, None].to(points), (size, size), mode="bilinear")[0, 0]
    return SurfaceMaps(points, F.normalize(normals, dim=0), share >= 0.5)


@fp32_region()
def surface_normals(position: Tensor, mask: Tensor, outward: Tensor | None = None) -> Tensor:
    """Return the normals of the mesh of a surface's texels.

    Args:
        position: (3,S,S).
        mask: (S,S), non-zero where the surface is.
        outward: (3,S,S) rough normals that say which side is outside; None: that from which
            columns run to the right and rows down.

    Returns:
        (3,S,S) unit, 0 beside the mask and at texels without a face.
    """
    known = mask > 0
    points = position[:, known].T
    found = vertex_normals(points[None], grid_faces(known), by_area=False)[0].T
    if outward is not None and (found * outward[:, known].to(found)).sum() < 0:
        found = -found
    normals = torch.zeros_like(position)
    normals[:, known] = found
    return normals


def smoothed_map(values: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Blur a map (C,S,S) by a Gaussian of `sigma` texels over its known texels (S,S)."""
    if sigma <= 0:
        return values * known
    weight = known[None].to(values)
    reach = 2 * min(max(1, round(4 * sigma)), min(known.shape) - 1) + 1
    both = torch.cat([values * weight, weight])[None]
    blurred: Tensor = kornia.filters.gaussian_blur2d(both, reach, (sigma, sigma))[0]
    return blurred[:-1] / blurred[-1:].clamp(min=1e-6)


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Continue a map (C,S,S) by one texel beyond where it is known (S,S), linearly where it can."""
    total, count = torch.zeros_like(values), torch.zeros_like(values[:1])
    for shift in _SHIFTS:
        near, is_near = _shifted(values, shift), _shifted(known[None], shift)
        far, is_far = _shifted(near, shift), _shifted(is_near, shift)
        is_linear = is_near & is_far
        total = total + torch.where(is_linear, 2 * near - far, 0)
        count = count + is_linear
    guess = torch.where(count > 0, total / count.clamp(min=1), _spread(values, known))
    return torch.where(known, values, guess)


def _spread(values: Tensor, known: Tensor) -> Tensor:
    """Give unknown texels the mean of their known neighbours, 0 where there is none."""
    pairs = [(_shifted(values * known, s), _shifted(known[None], s)) for s in _SHIFTS]
    total = torch.stack([value for value, _ in pairs]).sum(0)
    count = torch.stack([is_known for _, is_known in pairs]).sum(0)
    return torch.where(known, values, total / count.clamp(min=1))


def _grown(known: Tensor) -> Tensor:
    return torch.stack([known] + [_shifted(known[None], s)[0] for s in _SHIFTS]).any(0)


def _shifted(values: Tensor, shift: tuple[int, int]) -> Tensor:
    """Let each texel show its neighbour at `shift` (rows, columns); 0 beyond the border."""
    height, width = values.shape[-2:]
    padded = F.pad(values, (1, 1, 1, 1))
    return padded[..., 1 + shift[0] : 1 + shift[0] + height, 1 + shift[1] : 1 + shift[1] + width]
