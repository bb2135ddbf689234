"""Optimise the attributes of single photos, from a network's estimate or from landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.methods.sh_brdf import losses
from lit_face.methods.sh_brdf.objective import Objective
from lit_face.methods.sh_brdf.predictor import with_valid_maps
from lit_face.methods.sh_brdf.reader import AttributeReader, material_of
from lit_face.methods.sh_brdf.start import check_landmarks, landmark_start
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.interpolate import barycentric, interpolate
from lit_face.rendering.rasterize import rasterize
from lit_face.types import FaceBatch, Reconstruction, required

OF_A_PERSON = ("identity", "albedo", "residual_diffuse", "residual_specular")
_MAPS = ("residual_diffuse", "residual_specular")
RATES = {
    "identity": 0.03,
    "expression": 0.03,
    "albedo": 0.04,
    "rotation": 0.005,
    "translation": 0.02,
    "focal": 0.02,
    "light": 0.1,
    "residual_diffuse": 0.006,
    "residual_specular": 0.003,
}
_REFRESH = 10  # steps after which the weights of the pixels follow the face
_OUTLIER = 0.15  # error of a pixel, sRGB, at which it counts half where no skin mask is given


class Refined(NamedTuple):
    """Faces after a refinement.

    Attributes:
        face: in pixels of the pictures.
        before: `photo_l1` (linear light) and `landmarks_px` (B,), at the start.
        after: the same at the end.
    """

    face: Reconstruction
    before: dict[str, Tensor]
    after: dict[str, Tensor]


class Refinement:
    """Minimises the training's losses over the attributes of the pictures themselves.

    The first steps fit shape and pose to the landmarks; then all but the residual maps follow the
    photo too; at last the maps and the light alone (the stages of NextFace).

    Args:
        renderer: shades the faces (`conf/renderer`).
        weights: of the loss terms, by name (`objective.TERMS`).
        landmark_share: share of the steps for the landmarks alone, where there is no network.
        map_share: share of the steps for maps and light.
        shared_identity: all pictures show one person, with one identity and one albedo.
        follow_contour: jaw points lie on the visible contour, as detectors of 2D points have them.
    """

    def __init__(
        self,
        renderer: nn.Module,
        weights: dict[str, float],
        landmark_share: float = 0.15,
        map_share: float = 0.3,
        shared_identity: bool = False,
        follow_contour: bool = True,
    ) -> None:
        self.renderer, self.objective = renderer, Objective(weights)
        self.landmark_share, self.map_share = landmark_share, map_share
        self.shared_identity, self.follow_contour = shared_identity, follow_contour

    @fp32_region()
    def __call__(
        self,
        reader: AttributeReader,
        image: Tensor,
        landmarks: Tensor,
        steps: int,
        start: Mapping[str, Tensor] | None = None,
        skin_mask: Tensor | None = None,
    ) -> Refined:
        """Refine a batch of square pictures.

        Args:
            reader: attributes to faces.
            image: (B,3,S,S) sRGB in [0,1].
            landmarks: (B,68,2) or (B,68,3) pixels.
            steps: of the optimiser; 0 returns the start.
            start: raw attributes of a network; None fits the head to the landmarks.
            skin_mask: (B,1,S,S) in [0,1]; None trusts where the head has its
                face, and pixels far from its picture less.

        Raises:
            ValueError: landmarks, pictures or masks that cannot be used, or a loss that is not
                finite.
        """
        check_landmarks(landmarks)
        _check_pictures(image, skin_mask)
        batch = FaceBatch(image=image, landmarks=landmarks, skin_mask=skin_mask)
        size = image.shape[-1]
        phases = self._phases(steps, has_network=start is not None)
        if start is None:
            start = landmark_start(reader, landmarks, size)
        values = self._variables(reader, start)
        before = self._errors(reader, values, batch)
        for names, count, with_photo in phases:
            self._descend(reader, values, batch, names, count, with_photo)
        with torch.no_grad():
            face = self._face(reader, values, size, len(image))
            after = self._errors(reader, values, batch)
        return Refined(with_valid_maps(face), before, after)

    def _phases(self, steps: int, has_network: bool) -> list[tuple[tuple[str, ...], int, bool]]:
        """Return what is free, for how many steps, and whether the photo counts."""
        shape = ("identity", "expression", "rotation", "translation", "focal")
        first = 0 if has_network else round(self.landmark_share * steps)
        last = round(self.map_share * steps)
        middle = steps - first - last
        return [
            (shape, first, False),
            ((*shape, "albedo", "light"), middle, True),
            ((*_MAPS, "light"), last, True),
        ]

    def _variables(self, reader: AttributeReader, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return leaves; what belongs to a person has one row where identity is shared."""
        values = {name: value.detach().float().clone() for name, value in start.items()}
        count, side = len(values["rotation"]), reader.head.map_size
        for name in _MAPS:
            if name not in values:
                values[name] = values["rotation"].new_zeros(count, 3, side, side)
        if self.shared_identity:
            for name in OF_A_PERSON:
                values[name] = values[name].mean(0, keepdim=True)
        return values

    def _descend(
        self,
        reader: AttributeReader,
        values: dict[str, Tensor],
        batch: FaceBatch,
        names: tuple[str, ...],
        steps: int,
        with_photo: bool,
    ) -> None:
        if not steps:
            return
        for name, value in values.items():
            value.requires_grad_(name in names)
        groups = [{"params": [values[name]], "lr": RATES[name]} for name in names]
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        weight: Tensor | None = None
        for step in range(steps):
            face = self._face(reader, values, batch.image.shape[-1], len(batch))
            if with_photo:
                rendered, mask = self._render(face, batch)
                if weight is None or step % _REFRESH == 0:
                    weight = self._pixel_weight(reader, face, rendered, mask, batch)
                rendered_mask = mask * weight
            else:
                rendered, rendered_mask = batch.image, torch.zeros_like(batch.image[:, :1])
            terms = self.objective.terms(face, rendered, rendered_mask, batch, reader.head)
            loss = self.objective.total(terms, {})
            if not torch.isfinite(loss):
                raise ValueError(f"refine: the loss is {loss.item()} after {step} steps.")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for value in values.values():
            value.requires_grad_(False)

    def _face(
        self, reader: AttributeReader, values: Mapping[str, Tensor], size: int, count: int
    ) -> Reconstruction:
        attributes = {name: value.expand(count, *value.shape[1:]) for name, value in values.items()}
        face: Reconstruction = reader(attributes, size, self.follow_contour)
        return face

    def _render(self, face: Reconstruction, batch: FaceBatch) -> tuple[Tensor, Tensor]:
        size = (batch.image.shape[-2], batch.image.shape[-1])
        picture = self.renderer(
            face.vertices, face.faces, face.uv, face.camera, size, material_of(face), face.light
        )
        return picture.image, picture.mask.detach()

    @torch.no_grad()
    def _pixel_weight(
        self,
        reader: AttributeReader,
        face: Reconstruction,
        rendered: Tensor,
        mask: Tensor,
        batch: FaceBatch,
    ) -> Tensor:
        if batch.skin_mask is not None:
            return batch.skin_mask
        shown = seen_face(reader, face, (batch.image.shape[-2], batch.image.shape[-1]))
        error = (rendered - srgb_to_linear(batch.image)).abs().mean(1, keepdim=True)
        return shown * mask / (1 + (error / _OUTLIER).square())

    @torch.no_grad()
    def _errors(
        self, reader: AttributeReader, values: Mapping[str, Tensor], batch: FaceBatch
    ) -> dict[str, Tensor]:
        """Return `photo_l1` and `landmarks_px` of every face."""
        face = self._face(reader, values, batch.image.shape[-1], len(batch))
        rendered, mask = self._render(face, batch)
        size = (batch.image.shape[-2], batch.image.shape[-1])
        shown = seen_face(reader, face, size) if batch.skin_mask is None else batch.skin_mask
        photo = srgb_to_linear(batch.image)
        true = required(batch.landmarks, "landmarks", "refine")
        distance = (face.landmarks[..., :2] - true[..., :2]).norm(dim=-1)
        return {
            "photo_l1": losses.photometric_errors(rendered, photo, mask * shown),
            "landmarks_px": distance.mean(1),
        }


def seen_face(reader: AttributeReader, face: Reconstruction, size: tuple[int, int]) -> Tensor:
    """Return (B,1,H,W) in [0,1]: where pictures show the face, without scalp and teeth."""
    points = face.image_vertices
    index = rasterize(points, face.faces, size)
    weights = barycentric(points, face.faces, index)
    part = reader.head.face.to(points).expand(len(points), -1)[..., None]
    return interpolate(part, face.faces, index, weights)


def _check_pictures(image: Tensor, skin_mask: Tensor | None) -> None:
    if image.ndim != 4 or image.shape[-1] != image.shape[-2]:
        raise ValueError(f"Pictures should be (B,3,S,S), found {tuple(image.shape)}.")
    wanted = (len(image), 1, *image.shape[-2:])
    if skin_mask is not None and tuple(skin_mask.shape) != wanted:
        raise ValueError(f"skin_mask should be {wanted}, found {tuple(skin_mask.shape)}.")
    for name, value in (("image", image), ("skin_mask", skin_mask)):
        if value is not None and not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity.")
