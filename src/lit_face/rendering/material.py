"""What a face is made of, and the picture of it: shared by every backend that shades a BRDF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Material:
    """UV maps of the simplified Cook-Torrance BRDF (`lit_face.rendering.brdf`).

    Maps are corner-aligned (`lit_face.geometry.uv`); values are linear, never sRGB.

    Attributes:
        diffuse: (B,3,S,S) albedo.
        specular: (B,1,S,S) or (B,3,S,S) reflectance at normal incidence.
        roughness: (B,1,S,S), or (B,1,1,1) where it is constant; in (0,1].
    """

    diffuse: Tensor
    specular: Tensor
    roughness: Tensor

    def __len__(self) -> int:
        return self.diffuse.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return a material with `function` applied to its maps."""
        return replace(
            self,
            diffuse=function(self.diffuse),
            specular=function(self.specular),
            roughness=function(self.roughness),
        )


@dataclass(frozen=True, eq=False)
class Radiance:
    """A picture in linear light.

    Attributes:
        image: (B,3,H,W) radiance on black, not clamped.
        mask: (B,1,H,W) share of the pixel that the mesh covers, in [0,1].
    """

    image: Tensor
    mask: Tensor
