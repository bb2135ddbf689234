"""300W-LP to train on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.index import Verify
from lit_face.data.miniature_w300lp import miniature_w300lp
from lit_face.data.transforms import FaceTransform
from lit_face.data.w300lp import W300LPDataset
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger("lit_face")


class W300LPDataModule(FaceDataModule):
    """300W-LP; whole photographs are held out for validation.

    Args:
        morphable_model: the BFM of the annotations.
        seed: see `FaceDataModule`.
        root: folder with AFW, HELEN, IBUG and LFPW; None for the built-in miniature.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        pixel_origin: see `lit_face.data.fit_parameters.pose_cameras`.
        include_flips: read the _Flip folders too.
        val_fraction: share of the photographs held out.
        max_rejected: share of broken records that is tolerated.
        verify: 'sample' or 'full' decoding of the images before training.
        augmentation: see `FaceDataModule`.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "coefficients", "camera"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        image_size: int = 256,
        batch_size: int = 16,
        workers: int = 1,
        pixel_origin: str = "zero_based",
        include_flips: bool = False,
        val_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        augmentation: Callable[..., FaceTransform] | None = None,
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, augmentation)
        self.root = root
        self.pixel_origin, self.include_flips = pixel_origin, include_flips
        self.val_fraction, self.max_rejected, self.verify = val_fraction, max_rejected, verify

    def dataset(self, split: Split) -> W300LPDataset | None:
        """Build the train or val split."""
        if split == "test":
            return None
        return W300LPDataset(
            self._folder(),
            split,
            morphable_model=self.morphable_model,
            pixel_origin=self.pixel_origin,
            include_flips=self.include_flips,
            val_fraction=self.val_fraction,
            max_rejected=self.max_rejected,
            verify=self.verify,
        )

    def prepare_data(self) -> None:
        """Check all files and build the index; without a root, write the miniature."""
        super().prepare_data()
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of 300W-LP, in %s. For the "
                "real photographs set data.root and morphable_model.root.",
                self._folder(),
            )

    def _folder(self) -> Path:
        return miniature_w300lp() if self.root is None else Path(self.root)
