"""One texture from many photos of a surface: who sees a texel, how well, and how bright.

Views weigh by their angle to the surface and fade out towards where they stop seeing it; a gain a
view and channel evens out their exposures. Each of the two alone takes away the seams, and the
gains the wrong colours, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.surface_maps import SurfaceMaps
from lit_face.rendering.exposure import exposure_gains

_GAIN_TEXELS = 16384  # texels that the gains are found on
_FLOOR = 1e-3  # weight of a texel that is seen at the border of what its view sees


@dataclass(frozen=True)
class Blending:
    """How photos become one texture.

    Attributes:
        facing: cosine between normal and view below which a view does not count.
        sharpness: power of the weights; 1 mixes all views (least noise), larger ones prefer the one
            that faces the surface best.
        feather: width over which a view fades at the border of what it sees, share of the side.
        border: width over which a view fades at its photo's border, pixels.
        is_even: even out exposures by gains.
    """

    facing: float = 0.1
    sharpness: float = 1.0
    feather: float = 0.03
    border: float = 8.0
    is_even: bool = True


@dataclass(frozen=True, eq=False)
class BlendedTexture:
    """What photos show of a surface.

    Attributes:
        color: (3,T,T) values as those of the photos; texels that no view sees are filled from
            their surroundings.
        weight: (T,T) sum of the views' weights: how well a texel is seen, 0 if it is not.
        gains: (N,3) that the photos were multiplied by.
    """

    color: Tensor
    weight: Tensor
    gains: Tensor


@torch.no_grad()
@fp32_region()
def blend_texture(
    surface: SurfaceMaps,
    images: Sequence[Tensor] | Tensor,
    camera: PerspectiveCamera,
    visibility: Tensor | None = None,
    blending: Blending | None = None,
) -> BlendedTexture:
    """Blend photos into the texture of a surface; one view is in memory at a time.

    Args:
        surface: maps at the texture's side, world frame of the cameras.
        images: N photos (3,H,W) in [0,1], of any sizes.
        camera: N cameras of the photos.
        visibility: (N,S,S) in [0,1] who sees which texel, at any side; None: all that face.
        blending: options.

    Raises:
        ValueError: counts that do not fit each other.
    """
    options = blending or Blending()
    count = len(images)
    if len(camera) != count or (visibility is not None and len(visibility) != count):
        seen = "no" if visibility is None else str(len(visibility))
        raise ValueError(
            f"photos, cameras and visibility maps should be as many, found {count}, {len(camera)} "
            f"and {seen}."
        )
    reader = _Reader(surface, images, camera, visibility, options)
    gains = surface.position.new_ones(count, 3)
    if options.is_even and count > 1:
        colors, weights = reader.sparse(_GAIN_TEXELS)
        gains = exposure_gains(colors, weights)
    color = torch.zeros_like(surface.position)
    total = torch.zeros_like(surface.position[0])
    for view in range(count):
        read, weight = reader(view)
        color = color + weight * gains[view, :, None, None] * read
        total = total + weight
    blended = (color / total.clamp(min=1e-12)).clamp(0, 1)
    return BlendedTexture(filled(blended, total > 0), total, gains)


def filled(color: Tensor, known: Tensor) -> Tensor:
    """Fill unknown texels (T,T) of a map (C,T,T) smoothly from known ones, coarse to fine."""
    weight = known[None].to(color)
    if bool(known.all()) or not bool(known.any()) or min(known.shape) < 2:
        return color * weight
    total = F.avg_pool2d(color * weight, 2, ceil_mode=True, count_include_pad=False)
    share = F.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    below = filled(total / share.clamp(min=1e-6), share[0] > 0)
    spread = F.interpolate(below[None], known.shape[-2:], mode="bilinear")[0]
    return torch.where(known, color, spread)


class _Reader:
    """Reads the texels of a surface from its photos, one view at a time.

    Args: as those of `blend_texture`.
    """

    def __init__(
        self,
        surface: SurfaceMaps,
        images: Sequence[Tensor] | Tensor,
        camera: PerspectiveCamera,
        visibility: Tensor | None,
        options: Blending,
    ) -> None:
        self.surface, self.images, self.camera = surface, images, camera
        self.visibility, self.options = visibility, options
        self.points = surface.position.flatten(1).T.contiguous()
        self.centres = -(camera.rotation.mT @ camera.translation[..., None])[..., 0]

    def __call__(self, view: int) -> tuple[Tensor, Tensor]:
        """Return colours (3,T,T) and weights (T,T), 0 where the view does not see the surface."""
        size = self.surface.size
        one = self.camera.map(lambda value: value[view : view + 1])
        projected = one.project(self.points)[0]
        image = self.images[view].to(projected)[None]
        pixels, depth = projected[:, :2], projected[:, 2]
        image, pixels = self._shrunk(image, pixels)
        color = sample_image(image, pixels[None], padding="border")[0].view(3, size, size)
        towards = F.normalize(self.centres[view] - self.points, dim=-1).T.view(3, size, size)
        cosine = (towards * self.surface.normal).sum(0)
        facing = ((cosine - self.options.facing) / (1 - self.options.facing)).clamp(min=0)
        inside = self._inside(pixels, image.shape[-2:]).view(size, size)
        inside = inside * (depth > 0).view(size, size) * self.surface.mask
        if self.visibility is not None:
            seen = self.visibility[view][None, None].to(facing)
            inside = inside * (F.interpolate(seen, (size, size), mode="bilinear")[0, 0] >= 0.5)
        weight = facing**self.options.sharpness * inside
        return color, weight * self._faded(weight > 0)

    def sparse(self, most: int) -> tuple[Tensor, Tensor]:
        """Return colours (N,P,3) and weights (N,P) of at most about so many texels."""
        step = max(1, math.ceil(self.surface.size / math.sqrt(most)))
        rows = [self(view) for view in range(len(self.images))]
        colors = torch.stack([color[:, ::step, ::step].flatten(1).T for color, _ in rows])
        return colors, torch.stack([weight[::step, ::step].flatten() for _, weight in rows])

    def _shrunk(self, image: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Halve a photo as often as neighbouring texels lie that many of its pixels apart."""
        size = self.surface.size
        grid = pixels.view(size, size, 2)
        both = self.surface.mask[:, 1:] & self.surface.mask[:, :-1]
        apart = (grid[:, 1:] - grid[:, :-1]).norm(dim=-1)[both]
        if not len(apart):
            return image, pixels
        factor = 2 ** max(0, round(math.log2(max(float(apart.median()), 1e-6))))
        if factor == 1:
            return image, pixels
        return F.avg_pool2d(image, factor), (pixels - (factor - 1) / 2) / factor

    def _inside(self, pixels: Tensor, shape: Sequence[int]) -> Tensor:
        """Return (T*T,): 0 outside of the photo, rising to 1 `border` pixels inside."""
        limits = pixels.new_tensor([shape[1] - 1, shape[0] - 1])
        room = torch.minimum(pixels, limits - pixels).amin(-1)
        return torch.where(room >= 0, ((room + 1) / (self.options.border + 1)).clamp(max=1), 0)

    def _faded(self, seen: Tensor) -> Tensor:
        """Return (T,T): 1 inside of what is seen, falling to a floor where that ends.

        The surface's own border is no such place: only texels of the surface are counted.
        """
        radius = round(self.options.feather * self.surface.size)
        if radius < 1:
            return seen.to(self.points)
        both = torch.stack([seen, self.surface.mask]).to(self.points)[None]
        width = 2 * radius + 1
        rows = F.avg_pool2d(both, (width, 1), 1, (radius, 0))
        share = F.avg_pool2d(rows, (1, width), 1, (0, radius))[0]
        return (2 * share[0] / share[1].clamp(min=1e-6) - 1).clamp(min=_FLOOR)
