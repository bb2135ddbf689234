"""Pairs of facial texture and mesoscopic relief, to learn `method=displacement` from."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from datamodules.base import FaceDataModule, Split
from lit_face.data.facescape_detail_pairs import DetailOptions
from lit_face.data.facescape_details import FaceScapeDetails, Source
from lit_face.data.miniature_facescape import miniature_facescape
from lit_face.data.miniature_facescape_processed import processed_miniature
from lit_face.data.random import uniform
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

log = logging.getLogger("lit_face")

_MIRROR, _PLACE = 160, 161  # streams of random numbers
_TRIES = 8  # places that a crop is chosen from
_KNOWN = 0.5  # share of known texels that ends the search


class FaceScapeDetailsDataModule(FaceDataModule):
    """Textures (`image`), where their relief is known (`skin_mask`), and it (`scan`).

    Training takes crops, mirrored at random: the relief is along the normal, so it keeps its sign.
    Validation takes whole maps.

    Args:
        morphable_model: see `FaceDataModule`.
        seed: see `FaceDataModule`.
        root: processed FaceScape folder with maps and scans, or that of the TU models; None for
            the built-in miniature.
        source: 'scan' or 'tu', see `lit_face.data.facescape_details`.
        image_size: side of the maps, texels.
        crop: side of the crops in training, texels.
        crops: of each map, every time it is read.
        batch_size: maps per device; `crops` times as many pictures.
        workers: loader processes per device.
        sigma: of the smoothing that hides the relief, texels of the base maps; source 'scan'.
        limit: scan points further away are no relief, mm; source 'scan'.
        val_fraction: share of people held out.
        mirror: probability of mirroring a crop.
        miniature: 'default' (18 samples) or 'tiny' (3).
    """

    provides: ClassVar[frozenset[str]] = frozenset({"image", "skin_mask", "scan"})

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        root: str | None = None,
        source: Source = "scan",
        image_size: int = 512,
        crop: int = 256,
        crops: int = 4,
        batch_size: int = 2,
        workers: int = 1,
        sigma: float = 1.0,
        limit: float = 2.0,
        val_fraction: float = 0.1,
        mirror: float = 0.5,
        miniature: Literal["default", "tiny"] = "default",
    ) -> None:
        super().__init__(morphable_model, seed, image_size, batch_size, workers, None)
        if not 0 < crop <= image_size or crops < 1:
            raise ValueError(
                f"data.crop should be 1 to data.image_size={image_size} and data.crops 1 or more, "
                f"found {crop} and {crops}."
            )
        self.root, self.source, self.crop, self.crops = root, source, crop, crops
        self.options = DetailOptions(image_size, sigma, limit)
        self.val_fraction, self.mirror, self.miniature = val_fraction, mirror, miniature

    def dataset(self, split: Split) -> FaceScapeDetails | None:
        """Build the train or val split; pairs that are missing in the cache are made."""
        if split == "test":
            return None
        return FaceScapeDetails(
            self._folder, split, self.source, self.options, self.val_fraction
        )  # fmt: skip

    def prepare_data(self) -> None:
        """Make all pairs; without a root, the miniature first."""
        if self.root is None:
            log.info(
                "data.root is not set: this is the built-in miniature of FaceScape, in %s. For "
                "FaceScape set data.root (docs/data/facescape.md).",
                self._folder,
            )
        for split in ("train", "val"):
            self.dataset(split)

    def transform(self, batch: FaceBatch, *, is_training: bool) -> FaceBatch:
        """Make colours float; in training, cut crops."""
        batch = replace(batch, image=batch.image.float() / 255)
        keys, mask, scan = batch.random_key, batch.skin_mask, batch.scan
        if not is_training or keys is None or mask is None or scan is None:
            return batch
        maps = torch.cat([batch.image, mask.float(), scan["displacement"], scan["valid"]], dim=1)
        cut = torch.cat([self._crop(maps, keys, number) for number in range(self.crops)])
        return replace(
            batch, image=cut[:, :3], skin_mask=cut[:, 3:4],
            scan={"displacement": cut[:, 4:5], "valid": cut[:, 5:]},
            random_key=keys.repeat(self.crops), sample_id=batch.sample_id * self.crops,
        )  # fmt: skip

    def _crop(self, maps: Tensor, keys: Tensor, number: int) -> Tensor:
        """Cut one window of each map (B,C,T,T) where enough is known, the last channel."""
        room = maps.shape[-1] - self.crop
        places = uniform(keys, _PLACE + 2 * number, _TRIES, 2, high=room + 1).long()
        turned = uniform(keys, _MIRROR + 2 * number) < self.mirror
        rows = []
        for picture, tries, is_turned in zip(maps, places.tolist(), turned.tolist(), strict=True):
            windows = [
                picture[:, top : top + self.crop, left : left + self.crop] for top, left in tries
            ]
            known = torch.stack([window[-1].mean() for window in windows])
            enough = (known >= _KNOWN).nonzero()
            best = windows[int(enough[0]) if len(enough) else int(known.argmax())]
            rows.append(best.flip(-1) if is_turned else best)
        return torch.stack(rows)

    @cached_property
    def _folder(self) -> Path:
        if self.root is None:
            if self.source == "tu":
                return miniature_facescape(self.miniature) / "tu"
            return processed_miniature(self.miniature).root
        return Path(self.root).expanduser()
