"""Eyes, noses, mouths or faces of one picture painted into another of the same batch.

Where the geometry of both is known, surface points correspond, so the label of the picture stays
true: its geometry, with somebody else's skin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.data.random import uniform
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.renderer import normals_to_camera
from lit_face.rendering.visibility import vertex_visibility

# One stream a purpose (see lit_face.data.random).
_CHANCE, _REGION = 160, 161
_GRAZING = 0.3  # cosine; flatter surfaces of the other picture show too little
_GAIN = (0.4, 2.5)  # how far colours are matched
_FADE = 1 / 24  # of the picture's side, over which a region fades in at its border


@dataclass(frozen=True)
class TextureSwap:
    """Swaps a random region of the texture between faces of a batch.

    The other picture is the next of the batch, the first one for the last.

    Attributes:
        probability: share of the pictures that take a region from another one.
        regions: of the morphable model, of which one is drawn each time; absent ones are left out.
    """

    probability: float = 0.0
    regions: tuple[str, ...] = ("eyes", "nose", "mouth", "face")

    @fp32_region()
    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        coefficients: Mapping[str, Tensor],
        camera: AffineCamera,
        model: MorphableModel,
        keys: Tensor,
    ) -> Tensor:
        """Return the changed pictures; geometry, and all labels with it, stays.

        Args:
            image: (B,3,H,W) in [0,1].
            coefficients: 'identity' (B,Ki) and 'expression' (B,Ke).
            camera: head space to pixels of `image`.
            model: of the coefficients.
            keys: (B,) random keys.
        """
        rows = (uniform(keys, _CHANCE) < self.probability).nonzero().squeeze(1)
        names = [name for name in self.regions if name in model.regions]
        if len(rows) == 0 or len(image) < 2 or not names:
            return image
        others = (rows + 1) % len(image)
        region = torch.stack([model.regions[name].float() for name in names])
        drawn = (uniform(keys[rows], _REGION) * len(names)).long().clamp(max=len(names) - 1)
        own, other = (
            _mesh(coefficients, camera, model, picked, image.shape[-2:])
            for picked in (rows, others)
        )
        fragments = fragments_of(
            own.points, model.faces, rasterize(own.points, model.faces, own.size)
        )
        places = fragments.to_image(fragments.interpolate(other.points[..., :2]))
        patch = sample_image(image[others], places.permute(0, 2, 3, 1), padding="border")
        weight = region[drawn] * other.shown()
        mask = fragments.to_image((fragments.interpolate(weight[..., None]) >= 0.5).float())
        faded = _faded(mask)
        patch = _matched(patch, image[rows], faded)
        return image.index_copy(0, rows, torch.lerp(image[rows], patch, faded))


@dataclass(frozen=True, eq=False)
class _Mesh:
    """Faces (R) in their pictures."""

    points: Tensor  # (R,V,3)
    vertices: Tensor  # (R,V,3) head space
    faces: Tensor
    camera: AffineCamera
    size: tuple[int, int]

    def shown(self) -> Tensor:
        """Return (R,V) 1 for vertices that the picture shows well, else 0."""
        mirrored = torch.linalg.det(self.camera.matrix[:, :, :3]) < 0
        seen = vertex_visibility(self.points, self.faces, self.size, mirrored=mirrored)
        normals = normals_to_camera(vertex_normals(self.vertices, self.faces), self.camera)
        return seen * (normals[..., 2] < -_GRAZING)


def _mesh(
    coefficients: Mapping[str, Tensor],
    camera: AffineCamera,
    model: MorphableModel,
    rows: Tensor,
    size: tuple[int, ...],
) -> _Mesh:
    vertices = model(coefficients["identity"][rows], coefficients["expression"][rows])
    picked = AffineCamera(camera.matrix[rows].float())
    return _Mesh(picked.project(vertices), vertices, model.faces, picked, (size[0], size[1]))


def _faded(mask: Tensor) -> Tensor:
    """Let a mask (R,1,H,W) rise from 0 at its border to 1 inside; it grows nowhere."""
    width = 2 * max(1, round(_FADE * mask.shape[-1] / 2)) + 1
    mean = F.avg_pool2d(mask, width, stride=1, padding=width // 2)
    return (2 * mean - 1).clamp(0, 1) * mask


def _matched(patch: Tensor, image: Tensor, weight: Tensor) -> Tensor:
    """Multiply the colours of a patch so that their mean is that of what they cover."""
    means = [(picture * weight).sum((2, 3), keepdim=True) for picture in (image, patch)]
    gain = (means[0] / means[1].clamp(min=1e-6)).clamp(*_GAIN)
    return (patch * gain).clamp(0, 1)
