"""What a fit looks at: model, texture space and photos at one size, and the terms they give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import losses
from lit_face.methods.flame_fit.camera import project, to_pixels
from lit_face.methods.flame_fit.light import light_basis
from lit_face.methods.flame_fit.pixels import Pixels, mix, pick, seen_pixels, weights_of
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.contour import visible_contour
from lit_face.morphable_models.texture_space import TextureSpace, sample_texture
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear

Values = Mapping[str, Tensor]
Terms = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Photos:
    """Photos and what is known of them.

    Attributes:
        image: (B,3,S,S) sRGB in [0,1].
        mask: (B,1,S,S) in [0,1], pixels that count.
        landmarks: (B,68,2) NDC.
        confidence: (B,68) how much each counts.
    """

    image: Tensor
    mask: Tensor
    landmarks: Tensor
    confidence: Tensor

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return self.image.shape[-1]

    def singles(self) -> list[Photos]:
        """Return them one by one."""
        parts = zip(self.image, self.mask, self.landmarks, self.confidence, strict=True)
        return [Photos(*(part[None] for part in one)) for one in parts]

    def shrunk(self, size: int) -> Photos:
        """Return them area-averaged to another side; a pixel counts as its part in the mask."""
        if size == self.size:
            return self
        image = F.interpolate(self.image, size=(size, size), mode="area")
        mask = F.interpolate(self.mask, size=(size, size), mode="area")
        return Photos(image, mask * (mask > 0.5), self.landmarks, self.confidence)


@dataclass(frozen=True, eq=False)
class Head:
    """Model and texture space of a fit.

    Attributes:
        model: shape.
        textures: albedo.
        candidates: (17,N) vertices that may be the jaw's contour; None takes the model's points.
        face: (V,) in [0,1], vertices whose pixels count; None for all.
    """

    model: MorphableModel
    textures: TextureSpace
    candidates: Tensor | None = None
    face: Tensor | None = None

    def vertices(self, values: Values) -> Tensor:
        """Return vertices (B,V,3) in head space, mm, without pose."""
        joints = values["joints"] if self.model.joint_names else None
        vertices: Tensor = self.model(values["identity"], values["expression"], joints=joints)
        return vertices

    def landmarks(self, points: Tensor, rotation: Tensor) -> Tensor:
        """Return the 68 landmarks (B,68,3) of projected vertices (B,V,3), x right, y down."""
        if self.candidates is not None:
            return visible_contour(points, self.model.landmark_index, self.candidates)
        return self.model.landmarks(points, rotation)

    def texture(self, values: Values) -> Tensor:
        """Return sRGB albedo (B,3,S,S), texel-centred, not clamped."""
        texture: Tensor = self.textures(values["texture"])
        return texture + values["offset"] if "offset" in values else texture

    def at_landmarks(self) -> Head:
        """Return one with the vertices alone that landmarks may be; models with joints as is."""
        model, candidates = self.model, self.candidates
        if model.joint_names or model.has_contour:
            return self
        points = model.landmark_index if candidates is None else candidates.flatten()
        kept = torch.cat([model.landmark_index, points]).unique()
        place = torch.zeros(len(model.mean), dtype=torch.int64, device=kept.device)
        place[kept] = torch.arange(len(kept), device=kept.device)
        arrays = ModelArrays(
            mean=model.mean[kept],
            faces=model.faces[:0],
            uv=model.uv[kept],
            landmark_index=place[model.landmark_index],
            identity_basis=model.identity_basis[kept],
            expression_basis=model.expression_basis[kept],
            identity_std=model.identity_std,
            expression_std=model.expression_std,
            albedo_mean=model.albedo_mean[kept],
            albedo_basis=model.albedo_basis[kept, :, :0],
        )
        smaller = MorphableModel(arrays, model.name)
        return Head(smaller, self.textures, None if candidates is None else place[candidates])

    def halved(self, times: int) -> Head:
        """Return the same with textures that are so often half as wide."""
        if not times:
            return self
        space, factor = self.textures, 2**times
        smaller = TextureSpace(
            F.avg_pool2d(space.mean, factor),
            F.avg_pool2d(space.basis, factor),
            space.coverage[::factor, ::factor],
            space.name,
        )
        return Head(self.model, smaller, self.candidates, self.face)


def shape_terms(head: Head, photos: Photos, values: Values) -> tuple[Terms, Tensor, Tensor]:
    """Return terms (B,) of landmarks and shape, vertices (B,V,3) in head space, and in NDC."""
    vertices = head.vertices(values)
    rotation = axis_angle_to_matrix(values["rotation"])
    ndc = project(vertices, rotation, values["camera"])
    found = head.landmarks(ndc, rotation)
    terms = {
        "landmark": losses.landmark_term(found, photos.landmarks, photos.confidence),
        "opening": losses.opening_term(found, photos.landmarks),
    }
    for name in ("identity", "expression", "joints"):
        terms[name] = losses.half_squares(values[name])
    return terms, vertices, ndc


@torch.no_grad()
def find_pixels(head: Head, photos: Photos, ndc: Tensor) -> Pixels:
    """Return the pixels that count where vertices lie at `ndc` (B,V,3)."""
    points = torch.cat([to_pixels(ndc[..., :2], photos.size), ndc[..., 2:]], -1)
    pixels = seen_pixels(points, head.model.faces, photos.image, photos.mask)
    if head.face is None:
        return pixels
    part = head.face[pixels.corner].mean(1)
    return pixels._replace(weight=pixels.weight * (part > 0.5))


def pixel_weights(pixels: Pixels, ndc: Tensor) -> Tensor:
    """Return barycentric weights (B,3,N) of vertices at `ndc` (B,V,3)."""
    return weights_of(pixels, to_pixels(ndc[..., :2], pixels.size))


def pixel_uv(head: Head, pixels: Pixels, weights: Tensor) -> Tensor:
    """Return (B,N,2) UV coordinates of pixels."""
    return mix(weights, head.model.uv.T[:, pixels.corner].movedim(0, 1)).mT


def pixel_light(
    head: Head, values: Values, vertices: Tensor, pixels: Pixels, weights: Tensor
) -> Tensor:
    """Return (B,N,9) factors of the light at pixels; mixed normals are not made unit again."""
    rotation = axis_angle_to_matrix(values["rotation"])
    normals = vertex_normals(vertices, head.model.faces) @ rotation.mT
    return light_basis(mix(weights, pick(normals.mT, pixels.corner)).mT)


def read_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Return (B,3,N) of maps (B,3,S,S) at (B,N,2)."""
    return sample_texture(texture, uv)


def shaded(albedo: Tensor, shading: Tensor) -> Tensor:
    """Return sRGB colors of sRGB albedo under linear shading, both (B,3,N)."""
    return linear_to_srgb(srgb_to_linear(albedo) * shading)
