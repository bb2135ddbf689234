"""Unlimited, perfectly labelled faces rendered on the training device."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.synthetic import SyntheticFaces, SyntheticRenderer
from lit_face.data.transforms import FaceTransform
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch


class SyntheticDataModule(FaceDataModule):
    """Faces of any morphable model; every training epoch shows new ones.

    Args:
        morphable_model: what the faces are drawn from.
        seed: see `FaceDataModule`.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device; there is nothing to load, so none is best.
        train_size: faces in an epoch.
        val_size: faces of the validation and of the test split, always the same ones.
        renderer: `SyntheticRenderer` with its ranges chosen, still without the model.
        augmentation: see `FaceDataModule`.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"image", "landmarks", "coefficients", "camera", "skin_mask"}
    )

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        renderer: Callable[..., SyntheticRenderer],
        image_size: int = 256,
        batch_size: int = 16,
        workers: int = 0,
        train_size: int = 10_000,
        val_size: int = 64,
        augmentation: Callable[..., FaceTransform] | None = None,
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, augmentation)
        self.renderer = renderer(morphable_model=morphable_model)
        self.sizes = {"train": train_size, "val": val_size, "test": val_size}

    def dataset(self, split: Split) -> SyntheticFaces:
        """Name the faces of a split."""
        return SyntheticFaces(self.sizes[split])

    def transform(self, batch: FaceBatch, *, is_training: bool) -> FaceBatch:
        """Render the batch, then crop and augment it."""
        rendered: FaceBatch = self.renderer(batch)
        return super().transform(rendered, is_training=is_training)
