"""Synthetic faces that are rendered once and read afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

from datamodules.base import FaceDataModule, Split
from lit_face.data.rendered import RenderedFaces, render_faces, rendered_folder
from lit_face.data.synthetic import SyntheticRenderer
from lit_face.data.transforms import FaceTransform
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger("lit_face")


class RenderedDataModule(FaceDataModule):
    """Faces of any morphable model in files: what to use where rendering is slower than training.

    Args:
        morphable_model: what the faces are drawn from.
        seed: see `FaceDataModule`.
        renderer: `SyntheticRenderer` with its ranges chosen, still without the model.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        train_size: faces to train on.
        val_size: further faces to validate on.
        faces_seed: of the faces, so that runs with other seeds share the files.
        augmentation: see `FaceDataModule`.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "coefficients", "camera"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        renderer: Callable[..., SyntheticRenderer],
        image_size: int = 256,
        batch_size: int = 16,
        workers: int = 1,
        train_size: int = 10_000,
        val_size: int = 256,
        faces_seed: int = 7,
        augmentation: Callable[..., FaceTransform] | None = None,
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, augmentation)
        self.renderer = renderer(morphable_model=morphable_model)
        self.train_size, self.val_size, self.faces_seed = train_size, val_size, faces_seed
        self.folder = rendered_folder(self.renderer, faces_seed)

    def prepare_data(self) -> None:
        """Render the faces that are not there yet."""
        size = self.val_size + self.train_size

        def report(done: int, total: int) -> None:
            log.info("Rendered %d of %d faces into %s", done, total, self.folder)

        render_faces(self.renderer, self.folder, size, self.faces_seed, report)

    def dataset(self, split: Split) -> RenderedFaces:
        """Open a split: the first faces are for validation, so that more can be rendered later."""
        if split == "train":
            return RenderedFaces(self.folder, self.train_size, start=self.val_size)
        return RenderedFaces(self.folder, self.val_size)
