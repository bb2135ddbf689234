"""FFHQ, or any folder of photos, to learn from without labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_preparation import Landmarker, Prepared, prepare, prepared_folders
from lit_face.data.index import Verify
from lit_face.data.miniature_ffhq import miniature_ffhq
from lit_face.data.skin_masks import SkinMasker
from lit_face.data.transforms import Alignment, FaceTransform
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger("lit_face")


class FFHQDataModule(FaceDataModule):
    """Photos with 68 landmarks and skin masks, no 3D labels.

    Args:
        morphable_model: see `FaceDataModule`.
        seed: see `FaceDataModule`.
        root: folder with images1024x1024 (or thumbnails128x128), or of photos; None for the
            built-in miniature.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        picture_size: side of the pictures before the crop, pixels; larger ones are shrunk while
            loading.
        miniature_images: pictures of the built-in miniature.
        val_fraction: share held out where the dataset does not say.
        max_rejected: share of broken records that is tolerated.
        verify: 'sample' or 'full' decoding of the pictures before training.
        landmarker: finds the landmarks of photos that have none (`conf/finder`, one that gives 68
            points).
        masker: makes the masks of photos that have none.
        augmentation: see `FaceDataModule`.
        alignment: see `FaceDataModule`.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "skin_mask"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        image_size: int = 256,
        batch_size: int = 16,
        workers: int = 1,
        picture_size: int = 512,
        miniature_images: int = 32,
        val_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        landmarker: Landmarker | None = None,
        masker: SkinMasker | None = None,
        augmentation: Callable[..., FaceTransform] | None = None,
        alignment: Alignment = "box",
    ) -> None:
        super().__init__(
            morphable_model, seed, image_size, batch_size, workers, augmentation, alignment
        )
        self.root, self.picture_size = root, picture_size
        self.miniature_images = miniature_images
        self.val_fraction, self.max_rejected, self.verify = val_fraction, max_rejected, verify
        self.landmarker, self.masker = landmarker, masker

    def dataset(self, split: Split) -> FFHQDataset | None:
        """Build the train or val split."""
        if split == "test":
            return None
        prepared = self._prepared if self.root is not None else None
        return FFHQDataset(
            self._folder,
            split,
            picture_size=self.picture_size,
            landmarks=prepared.landmarks if prepared else None,
            masks=prepared.masks if prepared else None,
            val_fraction=self.val_fraction,
            max_rejected=self.max_rejected,
            verify=self.verify,
        )

    def prepare_data(self) -> None:
        """Find missing landmarks and masks, check all files; without a root, write the miniature.

        Raises:
            TypeError: the landmarker gives boxes without landmarks.
        """
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of FFHQ, %d procedural "
                "faces, in %s. For real photos set data.root (docs/data/ffhq.md).",
                self.miniature_images,
                self._folder,
            )
        elif self.landmarker is not None or self.masker is not None:
            prepare(self._folder, self._prepared, self.landmarker, self.masker)
        super().prepare_data()

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            return miniature_ffhq(self.miniature_images)
        return Path(self.root).expanduser()

    @property
    def _prepared(self) -> Prepared:
        return prepared_folders(self._folder, self.landmarker, self.masker)
