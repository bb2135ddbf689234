"""AFLW2000-3D to validate and test on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.aflw2000 import AFLW2000Dataset
from lit_face.data.miniature_aflw2000 import miniature_aflw2000
from lit_face.morphable_models.base import MorphableModel


class AFLW2000DataModule(FaceDataModule):
    """AFLW2000-3D: the same images for validation and test, none for training.

    Args:
        morphable_model: the BFM of the annotations.
        seed: see `FaceDataModule`.
        root: folder with image00002.jpg and so on; None for the built-in miniature.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        pixel_origin: see `lit_face.data.fit_parameters.pose_cameras`.
        max_rejected: share of broken records that is tolerated.
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
        max_rejected: float = 0.01,
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, None)
        self.root, self.pixel_origin, self.max_rejected = root, pixel_origin, max_rejected

    def dataset(self, split: Split) -> AFLW2000Dataset | None:
        """Build the dataset for validation or test."""
        if split == "train":
            raise ValueError(
                "AFLW2000-3D is for evaluation only; train on data=w300lp or data=synthetic."
            )
        return AFLW2000Dataset(
            miniature_aflw2000() if self.root is None else Path(self.root),
            morphable_model=self.morphable_model,
            pixel_origin=self.pixel_origin,
            max_rejected=self.max_rejected,
        )
