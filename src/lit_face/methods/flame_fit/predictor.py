"""The photometric fit as a method: crops and landmarks in, faces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import losses, scene
from lit_face.methods.flame_fit.camera import house_camera, project, to_ndc, to_pixels
from lit_face.methods.flame_fit.descent import Watch
from lit_face.methods.flame_fit.fit import FitOptions, fit_photos
from lit_face.methods.flame_fit.light import house_light
from lit_face.methods.flame_fit.scene import Head, Photos
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.contour import contour_candidates
from lit_face.morphable_models.texture_space import (
    TextureSource,
    TextureSpace,
    corner_aligned,
    texture_space_of,
)
from lit_face.rendering.color import srgb_to_linear
from lit_face.types import FaceBatch, Reconstruction, required

_HALF = 0.1  # sRGB error of a pixel that counts half where there is no skin mask
_EYE_CORNERS = (36, 45)
_OUTSIDE = 0.05  # share of landmarks that may lie a quarter of the picture off it


class Refined(NamedTuple):
    """Fitted faces, in pixels of their crops.

    Attributes:
        face: the reconstruction.
        before: `errors` (B,) of the mean face after the rigid stage.
        after: the same at the end, and `failed`, 1 where a photo's losses were not finite.
        trace: `fit.Fitted.trace`.
        plain: `errors` at the end without the offset map, where there is one.
    """

    face: Reconstruction
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    trace: dict[str, Tensor]
    plain: dict[str, Tensor] | None = None


class FlameFit(nn.Module):
    """Fits a head and a texture space to photos with landmarks; nothing is trained.

    Args:
        morphable_model: shape; with joints and contour (FLAME) or without.
        texture_space: albedo, or a function of the model that returns it; None takes the model's
            own.
        image_size: side of the square crops, pixels.
        margin: side of the crop over the size of the landmarks' box.
        components: of the texture that are fitted; None for all.
        follow_contour: jaw landmarks lie on the visible contour, as detectors have them.
        joints: names of the joints that move, of those that the model has.
        options: how it is fitted (`fit.FitOptions`), as a mapping.

    Attributes:
        watch: called after every step with its number and the means of the losses by name.

    Raises:
        ValueError: an option that there is not, or that makes no sense.
    """

    starts_from_landmarks = True
    _candidates: Tensor | None
    _face: Tensor | None

    def __init__(
        self,
        morphable_model: MorphableModel,
        texture_space: TextureSource | None = None,
        image_size: int = 256,
        margin: float = 2.0,
        components: int | None = None,
        follow_contour: bool = True,
        joints: Sequence[str] = ("jaw",),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = morphable_model
        space = texture_space_of if texture_space is None else texture_space
        if not isinstance(space, TextureSpace):
            space = space(morphable_model)
        self.textures = _leading(space, components)
        self.image_size, self.margin = image_size, margin
        self.follow_contour, self.joints = follow_contour, tuple(joints)
        self.options = FitOptions(**(options or {}))
        self.watch: Watch | None = None
        candidates = None
        if follow_contour and not morphable_model.has_contour:
            candidates = contour_candidates(morphable_model)
        self.register_buffer("_candidates", candidates, persistent=False)
        self.register_buffer("_face", morphable_model.regions.get("face"), persistent=False)

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Reconstruction:
        """Fit a batch with landmarks; skin masks are used where there are any."""
        landmarks = required(batch.landmarks, "landmarks", "flame_fit")
        return self.refine(batch.image, landmarks, skin_mask=batch.skin_mask).face

    @fp32_region()
    def refine(
        self,
        images: Tensor,
        landmarks: Tensor,
        refinement: object = None,
        are_detected: bool = True,
        skin_mask: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> Refined:
        """Fit crops.

        Args:
            images: (B,3,S,S) sRGB in [0,1].
            landmarks: (B,68,2) or (B,68,3) pixels.
            refinement: not used; the method has its own options.
            are_detected: not used; `follow_contour` says what the jaw points are.
            skin_mask: (B,1,S,S) in [0,1]; None takes the head's own face, and trusts pixels less
                whose photo and picture are far apart.
            confidence: (B,68) of the landmarks, 1 without it.

        Raises:
            ValueError: landmarks, pictures or masks that cannot be used.
        """
        check_inputs(images, landmarks, skin_mask)
        photos = self._photos(images, landmarks, skin_mask, confidence)
        head, options = self.head(skin_mask is None), self.options
        if skin_mask is None and options.outlier is None:
            options = replace(options, outlier=_HALF)
        fitted = fit_photos(head, photos, options, self.joints, self.watch)
        before, after = (errors(head, photos, v) for v in (fitted.start, fitted.values))
        after["failed"] = fitted.failed.to(images)
        face = reconstruction(head, fitted.values, images.shape[-1])
        plain = {name: value for name, value in fitted.values.items() if name != "offset"}
        without = errors(head, photos, plain) if "offset" in fitted.values else None
        return Refined(face, before, after, fitted.trace, without)

    def _photos(
        self, images: Tensor, landmarks: Tensor, mask: Tensor | None, confidence: Tensor | None
    ) -> Photos:
        images = images.detach().float()
        if mask is None:
            mask = torch.ones_like(images[:, :1])
        points = to_ndc(landmarks[..., :2].detach().float(), images.shape[-1])
        weights = losses.point_weights().to(points).expand(len(points), -1)
        if confidence is not None:
            weights = weights * confidence.to(weights)
        return Photos(images, mask.to(images), points, weights)

    def head(self, without_mask: bool = False) -> Head:
        """Return what is fitted; where photos have no mask, only the face's pixels count."""
        face = self._face if without_mask else None
        return Head(self.model, self.textures, self._candidates, face)


@torch.no_grad()
def reconstruction(head: Head, values: dict[str, Tensor], size: int) -> Reconstruction:
    """Return matte faces in pixels of pictures of side `size` from fitted values (`fit.Fitted`)."""
    model, vertices = head.model, head.vertices(values)
    rotation = axis_angle_to_matrix(values["rotation"])
    camera = house_camera(rotation, values["camera"], size)
    points = camera.project(vertices)
    diffuse = srgb_to_linear(corner_aligned(head.texture(values)).clamp(0, 1))
    return Reconstruction(
        image_vertices=points,
        vertices=vertices,
        faces=model.faces,
        uv=model.uv,
        landmarks=head.landmarks(points, rotation),
        unit=model.unit,
        camera=camera,
        light=house_light(values["light"]),
        coefficients={n: values[n] for n in ("identity", "expression", "joints", "texture")},
        textures={"diffuse": diffuse},
    )


@torch.no_grad()
def errors(
    head: Head, photos: Photos, values: dict[str, Tensor], in_srgb: bool = False
) -> dict[str, Tensor]:
    """Return errors (B,) of fitted values.

    Args:
        head: model and texture space.
        photos: what was fitted.
        values: `fit.Fitted`'s.
        in_srgb: shading multiplies sRGB values, not linear light.

    Returns:
        Over the covered pixels of the mask, of sRGB values: `photo_l1`, `psnr` (dB) and
        `albedo_inside` (share of albedo in [0,1]); `landmarks_px`, and `nme`, the same in percent
        of the distance of the outer eye corners.
    """
    vertices = head.vertices(values)
    rotation = axis_angle_to_matrix(values["rotation"])
    ndc = project(vertices, rotation, values["camera"])
    pixels = scene.find_pixels(head, photos, ndc)
    weights = scene.pixel_weights(pixels, ndc)
    light = scene.pixel_light(head, values, vertices, pixels, weights)
    albedo = scene.read_texture(head.texture(values), scene.pixel_uv(head, pixels, weights))
    shading = (light @ values["light"]).mT
    shown = albedo * shading if in_srgb else scene.shaded(albedo, shading)
    share = pixels.weight / pixels.weight.sum(1, keepdim=True).clamp(min=1e-9)
    difference = shown - pixels.color
    inside = ((albedo >= 0) & (albedo <= 1)).all(1)
    found = to_pixels(head.landmarks(ndc, rotation)[..., :2], photos.size)
    true = to_pixels(photos.landmarks, photos.size)
    distance = (found - true).norm(dim=-1).mean(1)
    eyes = (true[:, _EYE_CORNERS[0]] - true[:, _EYE_CORNERS[1]]).norm(dim=-1)
    squared = (difference.square().mean(1) * share).sum(1)
    return {
        "photo_l1": (difference.abs().mean(1) * share).sum(1),
        "psnr": -10 * squared.clamp(min=1e-10).log10(),
        "albedo_inside": (inside * share).sum(1),
        "landmarks_px": distance,
        "nme": 100 * distance / eyes.clamp(min=1e-9),
    }


def check_inputs(images: Tensor, landmarks: Tensor, skin_mask: Tensor | None) -> None:
    """Refuse what cannot be fitted.

    Raises:
        ValueError: names the field, the first photo, and what is wrong.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[-1] != images.shape[-2]:
        raise ValueError(f"image should be (B,3,S,S), found {tuple(images.shape)}.")
    if landmarks.ndim != 3 or landmarks.shape[:2] != (len(images), 68):
        raise ValueError(
            f"landmarks should be ({len(images)},68,2) pixels, found {tuple(landmarks.shape)}."
        )
    wanted = (len(images), 1, *images.shape[-2:])
    if skin_mask is not None and tuple(skin_mask.shape) != wanted:
        raise ValueError(f"skin_mask should be {wanted}, found {tuple(skin_mask.shape)}.")
    for name, value in (("image", images), ("landmarks", landmarks), ("skin_mask", skin_mask)):
        if value is not None and not value.isfinite().all():
            row = int((~value.isfinite()).flatten(1).any(1).nonzero()[0])
            raise ValueError(f"{name} of photo {row} holds NaN or infinity.")
    points, size = landmarks[..., :2], images.shape[-1]
    extent = (points.amax(1) - points.amin(1)).amin(1)
    if (extent < 1).any():
        row = int((extent < 1).nonzero()[0])
        raise ValueError(f"landmarks of photo {row} lie in one line or place.")
    outside = ((points < -0.25 * size) | (points > 1.25 * size)).any(-1).float().mean(1)
    if (outside > _OUTSIDE).any():
        row = int((outside > _OUTSIDE).nonzero()[0])
        raise ValueError(
            f"landmarks of photo {row} lie off the picture of {size} pixels; they should be in "
            "pixels of the picture as it is read."
        )


def _leading(space: TextureSpace, components: int | None) -> TextureSpace:
    if components is None or components >= space.components:
        return space
    return TextureSpace(space.mean, space.basis[:components], space.coverage, space.name)
