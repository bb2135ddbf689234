"""CelebA as aligned crops with skin masks, to learn from without labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.data.index import Verify
from lit_face.data.miniature_celeba import miniature_celeba
from lit_face.data.transforms import Alignment, FaceTransform
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger("lit_face")


class CelebASkinDataModule(FaceDataModule):
    """Aligned crops with skin masks; landmarks and persons where the folder has them.

    Args:
        morphable_model: see `FaceDataModule`.
        seed: see `FaceDataModule`.
        root: folder with CelebA_Segment, or one that `lit_face.data.celeba_skin` has packed; None
            for the built-in miniature.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        picture_size: side of the pictures before the crop, pixels.
        miniature_images: pictures of the built-in miniature.
        val_fraction: share for validation where the dataset does not say.
        test_fraction: likewise.
        max_rejected: share of broken records that is tolerated.
        verify: 'sample' or 'full' decoding of the pictures before training.
        augmentation: see `FaceDataModule`.
        alignment: see `FaceDataModule`; the pictures are aligned already.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "skin_mask", "landmarks", "person"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        image_size: int = 224,
        batch_size: int = 16,
        workers: int = 1,
        picture_size: int = 224,
        miniature_images: int = 48,
        val_fraction: float = 0.02,
        test_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        augmentation: Callable[..., FaceTransform] | None = None,
        alignment: Alignment = "whole",
    ) -> None:
        super().__init__(
            morphable_model, seed, image_size, batch_size, workers, augmentation, alignment
        )
        self.root, self.picture_size = root, picture_size
        self.miniature_images = miniature_images
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.max_rejected, self.verify = max_rejected, verify

    def dataset(self, split: Split) -> CelebASkinDataset:
        """Build a split."""
        return CelebASkinDataset(
            self._folder,
            split,
            picture_size=self.picture_size,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            max_rejected=self.max_rejected,
            verify=self.verify,
        )

    def prepare_data(self) -> None:
        """Check all files; without a root, write the miniature."""
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of CelebA, %d procedural "
                "faces, in %s. For real photos set data.root (docs/data/celeba_skin.md).",
                self.miniature_images,
                self._folder,
            )
        super().prepare_data()

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            return miniature_celeba(self.miniature_images)
        return Path(self.root).expanduser()
