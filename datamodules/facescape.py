"""FaceScape's multi-view photos with UV maps of base meshes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.base import FaceDataModule, Split
from lit_face.data.facescape_dataset import FaceScapeViews, collate_views
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.miniature_facescape_processed import UV_SIZE, processed_miniature
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

log = logging.getLogger("lit_face")


class FaceScapeDataModule(FaceDataModule):
    """Views of a face (`image` (B,N,3,H,W)), cameras and maps in mm, and the scan's displacement.

    Of the split 'train' some people are held out for validation; 'eval' is the test split.

    Args:
        morphable_model: see `FaceDataModule`; not used.
        seed: see `FaceDataModule`.
        root: processed folder with maps (`python -m lit_face.data.facescape`); None for the
            built-in miniature.
        batch_size: samples per device.
        workers: loader processes per device.
        views: of each sample, the first ones of select_dict.json; None for all.
        image_scale: of the photos' sides (the reference's if_image_downsample_scale).
        uv_size: side of the maps, texels; None for what the folder has, the miniature's 128.
        pixel_center: whether intrinsics follow pixels' centres; the reference's do not.
        miniature: 'default' (18 samples) or 'tiny' (3).
        cache_mib: memory of decoded photos, in each process.
        val_fraction: share of the training people held out, one at least.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "camera", "uv_maps", "scan"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        batch_size: int = 1,
        workers: int = 1,
        views: int | None = None,
        image_scale: float = 1.0,
        uv_size: int | None = None,
        pixel_center: bool = True,
        miniature: Literal["default", "tiny"] = "default",
        cache_mib: int = 512,
        val_fraction: float = 0.1,
    ) -> None:
        super().__init__(morphable_model, seed, 0, batch_size, workers, None)
        if root is None and miniature not in UV_SIZE:
            raise ValueError(f"data.miniature should be 'default' or 'tiny', found {miniature!r}.")
        self.root, self.views, self.image_scale = root, views, image_scale
        self.uv_size, self.pixel_center = uv_size, pixel_center
        self.miniature, self.cache_mib = miniature, cache_mib
        self.val_fraction = val_fraction
        self._folder: FaceScapeFolder | None = None

    @staticmethod
    def collate(samples: Sequence[Mapping[str, Any]]) -> FaceBatch:
        """Stack samples into a batch."""
        return collate_views(samples)

    def dataset(self, split: Split) -> FaceScapeViews:
        """Build a split."""
        return FaceScapeViews(
            self.folder,
            "eval" if split == "test" else split,
            self.views,
            self.image_scale,
            self.uv_size,
            self.pixel_center,
            needs_scans=split == "train",
            cache_mib=self.cache_mib,
            val_fraction=self.val_fraction,
        )

    def prepare_data(self) -> None:
        """Check all files; without a root, make the miniature."""
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of FaceScape, procedural "
                "faces, in %s. For real photos set data.root (docs/data/facescape.md).",
                self.folder.root,
            )
        super().prepare_data()

    def transform(self, batch: FaceBatch, *, is_training: bool) -> FaceBatch:
        """Make colours float."""
        return replace(batch, image=batch.image.float() / 255)

    @property
    def folder(self) -> FaceScapeFolder:
        """The processed folder; the miniature is made when first asked for."""
        if self._folder is None:
            if self.root is None:
                self._folder = processed_miniature(self.miniature, self.uv_size)
            else:
                self._folder = FaceScapeFolder(Path(self.root).expanduser())
        return self._folder
