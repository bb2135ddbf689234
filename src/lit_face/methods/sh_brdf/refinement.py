"""Optimise the attributes of single photos, from a network's estimate or from landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.methods.sh_brdf import losses
from lit_face.methods.sh_brdf.objective import Objective
from lit_face.methods.sh_brdf.reader import AttributeReader, with_valid_maps
from lit_face.methods.sh_brdf.start import check_landmarks, landmark_start
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.interpolate import barycentric, interpolate
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.scene import render_face
from lit_face.types import FaceBatch, Reconstruction, required

OF_A_PERSON = ("identity", "albedo", "residual_diffuse", "residual_specular")
_SHAPE = ("identity", "expression", "rotation", "translation", "focal")
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
_OUTLIER = 0.1  # smallest error of a pixel, linear light, that counts half without a skin mask
_OUTLIER_SHARE = 2.0  # the same, of the mean error: a poor start must not shut a face out


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
        steps: of the optimiser; 0 leaves the start as it is.
        landmark_share: share of the steps for the landmarks alone, where there is no network.
        map_share: share of the steps for maps and light.
        shared_identity: all pictures of a batch show one person, with one identity and one albedo.

    Raises:
        ValueError: a number of steps below 0, or shares that are none.
    """

    def __init__(
        self,
        renderer: nn.Module,
        weights: dict[str, float],
        steps: int = 200,
        landmark_share: float = 0.15,
        map_share: float = 0.3,
        shared_identity: bool = False,
    ) -> None:
        if steps < 0 or min(landmark_share, map_share) < 0 or landmark_share + map_share > 1:
            raise ValueError(
                f"refine should be 0 or more steps, found {steps}; landmark_share and map_share "
                f"shares of them, found {landmark_share} and {map_share}."
            )
        self.renderer, self.objective = renderer, Objective(weights)
        self.steps, self.shared_identity = steps, shared_identity
        self.landmark_share, self.map_share = landmark_share, map_share

    @fp32_region()
    def __call__(
        self,
        reader: AttributeReader,
        image: Tensor,
        landmarks: Tensor,
        start: Mapping[str, Tensor] | None = None,
        skin_mask: Tensor | None = None,
        follow_contour: bool = True,
    ) -> Refined:
        """Refine a batch of square pictures.

        Args:
            reader: attributes to faces.
            image: (B,3,S,S) sRGB in [0,1].
            landmarks: (B,68,2) or (B,68,3) pixels.
            start: raw attributes of a network; None fits the head to the landmarks.
            skin_mask: (B,1,S,S) in [0,1]; None takes the head's own face, and
                trusts pixels less whose photo and picture are far apart.
            follow_contour: jaw points lie on the visible contour, as detectors have them.

        Raises:
            ValueError: landmarks, pictures or masks that cannot be used, or a loss that is not
                finite.
        """
        check_landmarks(landmarks)
        _check_pictures(image, skin_mask)
        phases = self._phases(has_network=start is not None)
        if start is None:
            start = landmark_start(reader, landmarks, image.shape[-1])
        batch = FaceBatch(image=image, landmarks=landmarks, skin_mask=skin_mask)
        fit = _Fit(self, reader, batch, follow_contour, start)
        before = fit.errors()
        for phase in phases:
            fit.descend(phase)
        return Refined(with_valid_maps(fit.face()), before, fit.errors())

    def _phases(self, has_network: bool) -> list[_Phase]:
        first = 0 if has_network else round(self.landmark_share * self.steps)
        last = round(self.map_share * self.steps)
        return [
            _Phase(_SHAPE, first, with_photo=False),
            _Phase((*_SHAPE, "albedo", "light"), self.steps - first - last),
            _Phase((*_MAPS, "light"), last),
        ]


class _Phase(NamedTuple):
    """Which attributes are free, for how many steps, and whether the photo counts."""

    free: tuple[str, ...]
    steps: int
    with_photo: bool = True


class _Fit:
    """The attributes of one batch on their way; what belongs to a person may have one row."""

    def __init__(
        self,
        settings: Refinement,
        reader: AttributeReader,
        batch: FaceBatch,
        follow_contour: bool,
        start: Mapping[str, Tensor],
    ) -> None:
        self.settings, self.reader, self.batch = settings, reader, batch
        self.follow_contour = follow_contour
        self.size = (batch.image.shape[-2], batch.image.shape[-1])
        self.values = {name: value.detach().float().clone() for name, value in start.items()}
        side = reader.head.map_size
        for name in _MAPS:
            if name not in self.values:
                self.values[name] = batch.image.new_zeros(len(batch), 3, side, side)
        if settings.shared_identity:
            for name in OF_A_PERSON:
                self.values[name] = self.values[name].mean(0, keepdim=True)

    def descend(self, phase: _Phase) -> None:
        """Minimise the losses over the free attributes."""
        if not phase.steps:
            return
        free = [self.values[name].requires_grad_() for name in phase.free]
        optimizer = torch.optim.Adam(
            [{"params": [v], "lr": RATES[n]} for n, v in zip(phase.free, free, strict=True)]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, phase.steps)
        for step in range(phase.steps):
            loss = self._loss(phase.with_photo, refresh=step % _REFRESH == 0)
            if not torch.isfinite(loss):
                raise ValueError(f"refine: the loss is {loss.item()} after {step} steps.")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        for value in free:
            value.requires_grad_(False)

    def face(self) -> Reconstruction:
        """Return the faces as they are now."""
        count = len(self.batch)
        attributes = {name: v.expand(count, *v.shape[1:]) for name, v in self.values.items()}
        face: Reconstruction = self.reader(attributes, self.size[0], self.follow_contour)
        return face

    @torch.no_grad()
    def errors(self) -> dict[str, Tensor]:
        """Return `photo_l1` and `landmarks_px` of every face."""
        face = self.face()
        rendered, mask = self._render(face)
        shown = self.batch.skin_mask
        if shown is None:
            shown = seen_face(self.reader, face, self.size)
        true = required(self.batch.landmarks, "landmarks", "refine")
        distance = (face.landmarks[..., :2] - true[..., :2]).norm(dim=-1)
        photo = srgb_to_linear(self.batch.image)
        return {
            "photo_l1": losses.photometric_errors(rendered, photo, mask * shown),
            "landmarks_px": distance.mean(1),
        }

    def _loss(self, with_photo: bool, refresh: bool) -> Tensor:
        face, batch, objective = self.face(), self.batch, self.settings.objective
        if with_photo:
            rendered, mask = self._render(face)
            if refresh:
                self._weight = self._pixel_weight(face, rendered)
            mask = mask * self._weight
        else:
            rendered, mask = batch.image, torch.zeros_like(batch.image[:, :1])
        terms = objective.terms(face, rendered, mask, batch, self.reader.head)
        return objective.total(terms, {})

    def _render(self, face: Reconstruction) -> tuple[Tensor, Tensor]:
        picture = render_face(self.settings.renderer, face, self.size)
        return picture.image, picture.mask.detach()

    @torch.no_grad()
    def _pixel_weight(self, face: Reconstruction, rendered: Tensor) -> Tensor:
        if self.batch.skin_mask is not None:
            return self.batch.skin_mask
        photo = srgb_to_linear(self.batch.image)
        error = (rendered - photo).abs().mean(1, keepdim=True)
        shown = seen_face(self.reader, face, self.size)
        total = shown.sum((1, 2, 3), keepdim=True).clamp(min=1e-6)
        mean = (error * shown).sum((1, 2, 3), keepdim=True) / total
        half = (_OUTLIER_SHARE * mean).clamp(min=_OUTLIER)
        return shown / (1 + (error / half).square())


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
