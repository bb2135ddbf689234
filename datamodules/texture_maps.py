"""Albedo maps of fitted photos, to learn their completion from."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from datamodules.base import FaceDataModule, Split
from lit_face.data.index import Verify
from lit_face.data.miniature_texture_maps import miniature_texture_maps
from lit_face.data.random import uniform
from lit_face.data.texture_maps import TextureMapsDataset
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

log = logging.getLogger("lit_face")

_MIRROR = 130  # stream of random numbers


class TextureMapsDataModule(FaceDataModule):
    """Maps (`image`) with what is known of them (`skin_mask`).

    Args:
        morphable_model: see `FaceDataModule`.
        seed: see `FaceDataModule`.
        root: folder of fits with `*uv.npz` at any depth; None for the built-in miniature.
        image_size: side of the maps, texels; larger ones are shrunk.
        batch_size: per device.
        workers: loader processes per device.
        miniature_maps: maps of the built-in miniature.
        min_confidence: texels seen at a smaller cosine to their normal count as unknown.
        val_fraction: share held out where the folder has no validation.txt.
        max_rejected: share of broken maps that is tolerated.
        verify: 'sample' or 'full'; maps are always read whole.
        mirror: probability of swapping the face's sides (u -> 1 - u) in training.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "skin_mask"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        image_size: int = 256,
        batch_size: int = 16,
        workers: int = 1,
        miniature_maps: int = 400,
        min_confidence: float = 0.3,
        val_fraction: float = 0.1,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        mirror: float = 0.5,
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, None)
        self.root, self.miniature_maps = root, miniature_maps
        self.min_confidence, self.val_fraction = min_confidence, val_fraction
        self.max_rejected, self.verify, self.mirror = max_rejected, verify, mirror

    def dataset(self, split: Split) -> TextureMapsDataset | None:
        """Build the train or val split."""
        if split == "test":
            return None
        return TextureMapsDataset(
            self._folder,
            split,
            size=self.image_size,
            min_confidence=self.min_confidence,
            val_fraction=self.val_fraction,
            max_rejected=self.max_rejected,
            verify=self.verify,
        )

    def prepare_data(self) -> None:
        """Check all files; without a root, write the miniature."""
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of texture maps, %d maps of "
                "procedural faces, in %s. For fits of photos set data.root "
                "(docs/texture_space.md).",
                self.miniature_maps,
                self._folder,
            )
        super().prepare_data()

    def transform(self, batch: FaceBatch, *, is_training: bool) -> FaceBatch:
        """Make colours float; in training, mirror some maps."""
        batch = replace(batch, image=batch.image.float() / 255)
        keys = batch.random_key
        if not is_training or keys is None:
            return batch
        swapped = (uniform(keys, _MIRROR) < self.mirror)[:, None, None, None]
        image = torch.where(swapped, batch.image.flip(-1), batch.image)
        mask = batch.skin_mask
        if mask is not None:
            mask = torch.where(swapped, mask.flip(-1), mask)
        return replace(batch, image=image, skin_mask=mask, scan=None)

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            return miniature_texture_maps(self.miniature_maps)
        return Path(self.root).expanduser()
