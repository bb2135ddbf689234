"""Crop and augment faces on the training device, a batch at a time.

Crop, rotation, scale, shift and mirror are one similarity, so the image is resampled once, and
landmarks, camera, skin mask and position map move with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from lit_face.data.landmarks import MIRROR_68, project_landmarks
from lit_face.data.occlusion import occlude
from lit_face.data.photometric import Photometric
from lit_face.data.random import uniform
from lit_face.data.texture_swap import TextureSwap
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.five_points import five_point_box, five_points, standard_points
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import Padding, warp_image
from lit_face.geometry.similarity2d import (
    SquareBox,
    apply_similarity,
    box_to_crop,
    mirror_matrix,
    similarity_matrix,
)
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

# One stream a purpose (see lit_face.data.random); occlusion has 120 to 128.
_CENTRE, _SIZE, _ROTATION, _SHIFT, _SCALE, _MIRROR, _COLOR = range(100, 107)

Range = tuple[float, float]
Alignment = Literal["box", "five_points", "whole"]


class FaceTransform(nn.Module):
    """From a dataset's picture to the square a network sees; defaults are the paper's for PRN.

    Random numbers come from `FaceBatch.random_key` alone: a sample is transformed in the same way
    in any batch, on any device, after any restart (but for `texture_swap`, which takes colours
    from the batch's next picture).

    Args:
        image_size: side of the result, pixels.
        margin: side of the crop over the size of the landmarks' box.
        center_jitter: shift of the crop's centre, fraction of the landmarks' box, or of the crop
            where `alignment` does not look at that box; each direction.
        size_jitter: range of factors of the crop's side.
        rotation: about the crop's centre, degrees, each direction.
        translation: fraction of the crop, each direction.
        scale: range of enlargement.
        color: range of the factor of each channel.
        occlusion: probability of a patch in front of the face.
        mirror: probability of mirroring.
        padding: outside the picture, 'zeros', 'border' or 'reflection'.
        morphable_model: gives the landmarks of batches that have only coefficients and a camera.
        photometric: shadows, exposure, lost colour, blur and noise; none without it.
        texture_swap: probability of another face's eyes, nose, mouth or whole texture; needs
            coefficients and an affine camera in the batch, and `morphable_model`.
        alignment: what is shown. 'box': `margin` times the landmarks' box; 'five_points': Deep3D's
            upright crop (`lit_face.geometry.five_points`); 'whole': all of the picture, for
            pictures that are aligned crops already, with or without landmarks.
        standard_points: (5,3) decimetres, for alignment='five_points'; those of `morphable_model`'s
            mean face where they are not given.

    Raises:
        ValueError: an unknown alignment, or one without the points that it needs.
    """

    mirror_68: Tensor
    standard_points: Tensor | None

    def __init__(
        self,
        image_size: int = 256,
        margin: float = 1.5,
        center_jitter: float = 0.1,
        size_jitter: Range = (0.9, 1.1),
        rotation: float = 45.0,
        translation: float = 0.1,
        scale: Range = (0.9, 1.2),
        color: Range = (0.6, 1.4),
        occlusion: float = 0.5,
        mirror: float = 0.5,
        padding: Padding = "zeros",
        morphable_model: MorphableModel | None = None,
        photometric: Photometric | None = None,
        texture_swap: float = 0.0,
        alignment: Alignment = "box",
        standard_points: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.alignment = _checked(alignment)
        if alignment == "five_points" and standard_points is None:
            standard_points = _mean_face_points(morphable_model)
        self.register_buffer("standard_points", standard_points, persistent=False)
        self.texture_swap = TextureSwap(texture_swap)
        self.photometric = photometric or Photometric()
        self.image_size, self.margin, self.padding = image_size, margin, padding
        self.center_jitter, self.size_jitter = center_jitter, _range("size_jitter", size_jitter)
        self.rotation, self.translation = rotation, translation
        self.scale, self.color = _range("scale", scale), _range("color", color)
        self.occlusion, self.mirror = occlusion, mirror
        self.landmark_model = morphable_model
        self.register_buffer("mirror_68", MIRROR_68.clone(), persistent=False)

    @classmethod
    def for_evaluation(
        cls,
        image_size: int = 256,
        margin: float = 1.6,
        padding: Padding = "zeros",
        morphable_model: MorphableModel | None = None,
        alignment: Alignment = "box",
        standard_points: Tensor | None = None,
    ) -> Self:
        """Crop only, a little wider than in training, as PRN does at inference."""
        return cls(
            image_size, margin, 0.0, (1.0, 1.0), 0.0, 0.0, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0,
            padding, morphable_model, alignment=alignment, standard_points=standard_points,
        )  # fmt: skip

    @property
    def is_random(self) -> bool:
        """Whether any random number is used."""
        ranges = (self.size_jitter, self.scale, self.color)
        chances = (self.center_jitter, self.rotation, self.translation, self.occlusion, self.mirror)
        geometric = any(low != 1 or high != 1 for low, high in ranges) or any(chances)
        return geometric or self.photometric.is_random or self.texture_swap.probability > 0

    @torch.no_grad()
    def forward(self, batch: FaceBatch) -> FaceBatch:
        """Transform a batch; `image` may be uint8 (0 to 255) or float in [0,1].

        Raises:
            ValueError: the batch has views, no landmarks and nothing to make them from, or no
                random keys although the transform is random.
        """
        if batch.image.ndim != 4:
            raise ValueError(f"FaceTransform takes (B,3,H,W), found {tuple(batch.image.shape)}.")
        with fp32_region():
            landmarks = self._landmarks(batch)
            keys = self._keys(batch)
            mirrored = self._mirrored(keys)
            matrix = self.similarity(landmarks, keys, batch.image.shape[2:])
            size = (self.image_size, self.image_size)
            image = warp_image(batch.image, matrix, size, self.padding, antialias=True).float()
            if batch.image.dtype == torch.uint8:
                image = image / 255
            camera = None if batch.camera is None else batch.camera.warped(matrix)
            image = self._swapped(image, replace(batch, camera=camera), keys)
            image = image * self._between(keys, _COLOR, self.color, 3)[:, :, None, None]
            image, visible = occlude(image.clamp(0, 1), keys, self.occlusion)
            image = self.photometric(image, keys)
            skin_mask = batch.skin_mask
            if skin_mask is not None:
                skin_mask = warp_image(skin_mask.float(), matrix, size, antialias=True) * visible
            return replace(
                batch,
                image=image,
                landmarks=self._moved_landmarks(landmarks, matrix, mirrored),
                camera=camera,
                skin_mask=skin_mask,
                position_map=_moved_position_map(batch.position_map, matrix, mirrored),
            )

    def similarity(
        self, landmarks: Tensor | None, keys: Tensor, picture: Sequence[int] = ()
    ) -> Tensor:
        """Return (B,3,3): pixels of the picture to pixels of the result.

        Args:
            landmarks: (B,68,3) pixels of the picture; None for alignment='whole'.
            keys: (B,) random keys.
            picture: height and width, for alignment='whole'.
        """
        box = self._box(landmarks, keys, picture)
        reach = (-self.center_jitter, self.center_jitter)
        centre = box.centre + box.face_size[:, None] * self._between(keys, _CENTRE, reach, 2)
        side = box.size * self._between(keys, _SIZE, self.size_jitter)
        crop = box_to_crop(SquareBox(centre, side, box.face_size), self.image_size)
        angle = math.radians(self.rotation) * uniform(keys, _ROTATION, low=-1.0, high=1.0)
        reach = (-self.translation, self.translation)
        shift = self.image_size * self._between(keys, _SHIFT, reach, 2)
        middle = torch.full_like(shift, (self.image_size - 1) / 2)
        scale = self._between(keys, _SCALE, self.scale)
        matrix = similarity_matrix(scale, angle, shift, middle) @ crop
        mirror = mirror_matrix(self.image_size, matrix)
        return torch.where(self._mirrored(keys)[:, None, None], mirror @ matrix, matrix)

    def _box(self, landmarks: Tensor | None, keys: Tensor, picture: Sequence[int]) -> SquareBox:
        if landmarks is None or self.alignment == "whole":
            # Pixel centres: a picture of the result's size stays as it is.
            height, width = picture
            side = torch.full((len(keys),), max(height, width) - 1.0, device=keys.device)
            centre = side.new_tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(keys), 2)
            return SquareBox(centre, side, side)
        if self.alignment == "five_points" and self.standard_points is not None:
            standard = self.standard_points.to(landmarks)
            return five_point_box(five_points(landmarks[..., :2]), standard)
        low, high = landmarks[..., :2].amin(dim=1), landmarks[..., :2].amax(dim=1)
        face = (high - low).mean(dim=1)
        return SquareBox((low + high) / 2, face * self.margin, face)

    def _landmarks(self, batch: FaceBatch) -> Tensor | None:
        if batch.landmarks is not None:
            return batch.landmarks.float()
        model, camera, coefficients = self.landmark_model, batch.camera, batch.coefficients
        if self.alignment == "whole" and (camera is None or coefficients is None):
            return None
        if model is None or coefficients is None or not isinstance(camera, AffineCamera):
            raise ValueError(
                "FaceTransform needs `landmarks` to find the face, or `coefficients`, an affine "
                "`camera` and a morphable_model to make them from; pictures that are aligned "
                "already need none with alignment='whole'."
            )
        if model.mean.device != batch.image.device:
            self.to(batch.image.device)
        return project_landmarks(model, coefficients, camera)

    def _swapped(self, image: Tensor, batch: FaceBatch, keys: Tensor) -> Tensor:
        if self.texture_swap.probability == 0:
            return image
        model, camera, coefficients = self.landmark_model, batch.camera, batch.coefficients
        if model is None or coefficients is None or not isinstance(camera, AffineCamera):
            raise ValueError(
                "augmentation.texture_swap needs `coefficients` and an affine `camera` in the "
                "batch, and their morphable_model; set it to 0 for data without them."
            )
        if model.mean.device != image.device:
            self.to(image.device)
        return self.texture_swap(image, coefficients, camera, model, keys)

    def _keys(self, batch: FaceBatch) -> Tensor:
        if batch.random_key is not None:
            return batch.random_key
        if self.is_random:
            raise ValueError(
                "FaceTransform is random and needs `random_key` in the batch "
                "(lit_face.data.random.sample_keys makes them)."
            )
        return torch.zeros(len(batch), dtype=torch.int64, device=batch.image.device)

    def _mirrored(self, keys: Tensor) -> Tensor:
        return uniform(keys, _MIRROR) < self.mirror

    @staticmethod
    def _between(keys: Tensor, stream: int, bounds: Range, *shape: int) -> Tensor:
        return uniform(keys, stream, *shape, low=bounds[0], high=bounds[1])

    def _moved_landmarks(
        self, landmarks: Tensor | None, matrix: Tensor, mirrored: Tensor
    ) -> Tensor | None:
        if landmarks is None:
            return None
        moved = apply_similarity(matrix, landmarks)
        other = moved[:, self.mirror_68.to(moved.device)]
        return torch.where(mirrored[:, None, None], other, moved)


def _checked(alignment: Alignment) -> Alignment:
    if alignment not in get_args(Alignment):
        raise ValueError(
            f"alignment should be one of {', '.join(get_args(Alignment))}; found {alignment!r}."
        )
    return alignment


@torch.no_grad()
def _mean_face_points(model: MorphableModel | None) -> Tensor:
    if model is None:
        raise ValueError(
            "alignment='five_points' needs standard_points, or a morphable_model whose mean face "
            "has them."
        )
    return standard_points(five_points(model.landmarks(model.mean[None]))[0])


def _range(name: str, bounds: Range) -> Range:
    low, high = bounds
    if not 0 < low <= high:
        raise ValueError(f"{name} should be two positive factors, low first; found {bounds}.")
    return float(low), float(high)


def _moved_position_map(
    position_map: Tensor | None, matrix: Tensor, mirrored: Tensor
) -> Tensor | None:
    """Move the points in a map (B,3,S,S); a mirror also swaps the map's sides."""
    if position_map is None:
        return None
    points = position_map.float().flatten(2).mT
    moved = apply_similarity(matrix, points).mT.reshape(position_map.shape)
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
