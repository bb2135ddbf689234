"""Faces without files: pictures with perfect labels, rendered on the training device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lit_face.data.photographs.camera import sample_poses
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import normal, uniform
from lit_face.geometry.precision import fp32_region
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

# One stream a purpose (see lit_face.data.random).
_COEFFICIENTS = {"identity": 200, "expression": 201, "albedo": 202}
_BANK_ROW = {"expression": 203, "albedo": 204}
_BANK_NOISE = 0.1  # standard deviations
_LARGEST = 3.0

Range = tuple[float, float]


class SyntheticFaces(Dataset[dict[str, Any]]):
    """A dataset that yields names only; `SyntheticRenderer` makes the faces of a whole batch.

    Which face a name means follows from the batch's `random_key`: keys that change with the epoch
    give new faces every epoch.

    Args:
        size: number of faces an epoch.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"SyntheticFaces needs a size of at least 1, found {size}.")
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Return a sample with an empty picture (3,0,0) and its name."""
        if not 0 <= item < self.size:
            raise IndexError(f"SyntheticFaces has {self.size} faces, asked for number {item}.")
        return {
            "image": torch.empty(3, 0, 0, dtype=torch.uint8),
            "sample_id": f"synthetic_{item:07d}",
        }


class SyntheticRenderer(nn.Module):
    """Fills a batch of names with faces: image, landmarks, coefficients, camera and skin mask.

    Works with any morphable model; the procedural head also gets hair and clothes. Pictures are
    larger than a face, as photographs are: crop them with `FaceTransform`.

    Args:
        morphable_model: what the faces are drawn from.
        picture_size: side of the pictures, pixels.
        expression: factor of the expression coefficients, 1 draws the model's own population.
        yaw: range in degrees.
        pitch: range in degrees.
        roll: range in degrees.
        face_size: range of the larger side of the landmarks' box, share of the picture.
        occlusion: share of pictures with something in front of the face.
    """

    def __init__(
        self,
        morphable_model: MorphableModel,
        picture_size: int = 320,
        expression: float = 1.0,
        yaw: Range = (-80.0, 80.0),
        pitch: Range = (-25.0, 25.0),
        roll: Range = (-25.0, 25.0),
        face_size: Range = (0.40, 0.62),
        occlusion: float = 0.15,
    ) -> None:
        super().__init__()
        self.morphable_model = morphable_model
        self.picture_size, self.expression = picture_size, expression
        self.yaw, self.pitch, self.roll, self.face_size = yaw, pitch, roll, face_size
        self.occlusion = occlusion

    @property
    def options(self) -> dict[str, Any]:
        """What the pictures depend on beside the model and the keys."""
        names = (
            "picture_size", "expression", "yaw", "pitch", "roll", "face_size", "occlusion",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def sample_coefficients(self, keys: Tensor) -> dict[str, Tensor]:
        """Draw coefficients (B,K) by name, at most three standard deviations.

        Normal; or, where the model knows its people (the procedural head's banks of expressions
        and albedos), one of them at random with a little noise.
        """
        model = self.morphable_model
        sizes = {
            "identity": model.identity_size,
            "expression": model.expression_size,
            "albedo": model.albedo_size,
        }
        found = {}
        for name, size in sizes.items():
            values = normal(keys, _COEFFICIENTS[name], size)
            bank = getattr(model, f"{name}_bank", None)
            if bank is not None and name != "identity":
                row = (uniform(keys, _BANK_ROW[name]) * len(bank)).long().clamp(max=len(bank) - 1)
                values = bank[row] + _BANK_NOISE * values
            found[name] = values.clamp(-_LARGEST, _LARGEST)
        found["expression"] = found["expression"] * self.expression
        return found

    @torch.no_grad()
    def forward(self, batch: FaceBatch) -> FaceBatch:
        """Render the faces that the batch's `random_key` means, on the keys' device.

        Raises:
            ValueError: the batch has no random keys.
        """
        keys = batch.random_key
        if keys is None:
            raise ValueError(
                "SyntheticRenderer needs `random_key` in the batch "
                "(lit_face.data.random.sample_keys makes them)."
            )
        model, size = self.morphable_model, (self.picture_size, self.picture_size)
        if model.mean.device != keys.device:
            self.to(keys.device)
        with fp32_region():
            coefficients = self.sample_coefficients(keys)
            vertices = model(coefficients["identity"], coefficients["expression"])
            points = model.landmarks(vertices)
            camera = sample_poses(
                keys, points, size, self.yaw, self.pitch, self.roll, self.face_size
            )
            found = render_photographs(
                model, coefficients, camera, keys, size, occlusion=self.occlusion
            )
            return replace(
                batch,
                image=found.image,
                landmarks=camera.project(points),
                coefficients=coefficients,
                camera=camera,
                skin_mask=found.skin_mask,
            )
