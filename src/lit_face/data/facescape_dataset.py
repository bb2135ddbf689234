"""Samples of a processed FaceScape folder: photos, cameras and UV maps, in mm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_layout import FaceScapeFolder, MapKind, Part, Split
from lit_face.data.facescape_views import Photos, read_views
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.uv_template import core_window
from lit_face.io.images import read_image
from lit_face.types import FaceBatch

Array = NDArray[Any]

_MIB = 2**20


class FaceScapeViews(Dataset[dict[str, Any]]):
    """Views of faces with maps of their base meshes, and of the scan where there is one.

    A sample has `image` (N,3,H,W) uint8, `camera` (a dict of intrinsics, rotation and translation
    in mm), `uv_maps`, `scan` and `sample_id`, see `FaceBatch`. Photos are decoded once and kept
    while there is room; maps are read where they are mapped.

    Attributes:
        sample_ids: names in the order of the samples.
        map_size: side of the maps, texels.
        has_scans: whether every sample of the split has one.

    Args:
        folder: processed, with maps.
        split: 'train', 'val' (held out of 'train') or 'eval'.
        views: number of views, the first ones of select_dict.json; None for all.
        image_scale: of the photos' sides.
        uv_size: side of the maps, texels, checked; None takes what the files have.
        pixel_center: see `read_views`.
        needs_scans: refuse samples without a scan's displacement map.
        cache_mib: memory of decoded photos in each process.
        val_fraction: see `FaceScapeFolder.training_ids`.

    Raises:
        DatasetNotFoundError: missing files; names the command that makes them.
        ValueError: files that do not fit each other, by file and key.
    """

    def __init__(
        self,
        folder: FaceScapeFolder,
        split: Split | Part,
        views: int | None = None,
        image_scale: float = 1.0,
        uv_size: int | None = None,
        pixel_center: bool = True,
        needs_scans: bool = False,
        cache_mib: int = 512,
        val_fraction: float = 0.1,
    ) -> None:
        if not 0 < image_scale <= 4:
            raise ValueError(f"data.image_scale should be in (0, 4], found {image_scale}.")
        self.folder, self.split = folder, split
        self.image_scale, self.pixel_center, self.view_count = image_scale, pixel_center, views
        self.cache_bytes = cache_mib * _MIB
        self.sample_ids = (
            folder.ids(split) if split == "eval" else folder.training_ids(split, val_fraction)
        )
        if not self.sample_ids:
            raise ValueError(f"{folder.root / 'id.json'}: the split '{split}' is empty.")
        self.has_scans = all(folder.map_file("mv_map", s).is_file() for s in self.sample_ids)
        if needs_scans and not self.has_scans:
            absent = [s for s in self.sample_ids if not folder.map_file("mv_map", s).is_file()]
            raise DatasetNotFoundError(
                f"{folder.map_file('mv_map', absent[0])} is missing ({len(absent)} samples of "
                f"'{split}' have none): training needs the scans; {_maps_command(folder.root)}."
            )
        self.map_size = self._check_maps(uv_size)
        self.mask = core_mask(folder.mask_file, self.map_size)
        for sample in self.sample_ids:
            self.views(sample)
            folder.check_photos(sample)
            folder.scale(sample)
        self._photos: OrderedDict[str, Photos] = OrderedDict()

    def __len__(self) -> int:
        return len(self.sample_ids)

    def views(self, sample: str) -> list[int]:
        """Return the views of a sample that are used, in order."""
        found = self.folder.views(sample)
        count = len(found) if self.view_count is None else self.view_count
        if count > len(found) or count < 2:
            raise ValueError(
                f"{self.folder.root / 'select_dict.json'}: {sample} has {len(found)} views, but "
                f"data.views asks for {count} (2 or more)."
            )
        return found[:count]

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one sample.

        Raises:
            ValueError: a broken file, by name.
        """
        sample = self.sample_ids[item]
        photos, scale = self._read_photos(sample), self.folder.scale(sample)
        count = len(photos.images)
        position = self._map("pos_map", sample, (3,)) * np.float32(scale)
        visibility = self._map("visibility_map", sample, ())[:count]
        maps = {
            "position": _planes(position),
            "normal": _planes(self._map("norm_map", sample, (3,))),
            "mask": torch.from_numpy(self.mask * position.any(2))[None].float(),
            "visibility": torch.from_numpy(visibility.astype(np.float32)),
        }
        found: dict[str, Any] = {
            "image": torch.from_numpy(photos.images).permute(0, 3, 1, 2),
            "camera": {
                "intrinsics": torch.from_numpy(photos.K).float(),
                "rotation": torch.from_numpy(photos.Rt[:, :, :3].copy()).float(),
                "translation": torch.from_numpy(photos.Rt[:, :, 3] * scale).float(),
            },
            "uv_maps": maps,
            "sample_id": sample,
        }
        if self.has_scans:
            along = self._map("mv_map", sample, ()) * np.float32(scale)
            valid = self._map("valid_map", sample, ())
            found["scan"] = {
                "displacement": torch.from_numpy(along)[None],
                "valid": torch.from_numpy(valid.astype(np.float32))[None] * maps["mask"],
            }
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_photos": OrderedDict()}  # a worker decodes its own

    def _read_photos(self, sample: str) -> Photos:
        if sample in self._photos:
            self._photos.move_to_end(sample)
            return self._photos[sample]
        views = self.views(sample)
        photos = read_views(
            self.folder, sample, views, self.image_scale, pixel_center=self.pixel_center
        )
        self._photos[sample] = photos
        while sum(kept.images.nbytes for kept in self._photos.values()) > self.cache_bytes:
            self._photos.popitem(last=False)
        return photos

    def _map(self, kind: MapKind, sample: str, tail: tuple[int, ...]) -> Array:
        path = self.folder.map_file(kind, sample)
        found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        size = self.map_size
        expected = (size, size, *tail)
        if kind == "visibility_map":
            expected = (len(self.folder.views(sample)), size, size)
        if found.shape != expected:
            raise ValueError(
                f"{path}: should be {expected}, found {found.shape}: maps of two generations? "
                f"{_maps_command(self.folder.root)}."
            )
        return found

    def _check_maps(self, uv_size: int | None) -> int:
        """Return the side of the maps; every map has to be there, with that side."""
        path = self.folder.map_file("pos_map", self.sample_ids[0])
        if not path.is_file():
            raise DatasetNotFoundError(f"{path} is missing; {_maps_command(self.folder.root)}.")
        self.map_size = int(np.load(path, mmap_mode="r", allow_pickle=False).shape[0])
        if uv_size is not None and uv_size != self.map_size:
            raise ValueError(
                f"data.uv_size is {uv_size}, but {path} has {self.map_size} texels a side; "
                f"{_maps_command(self.folder.root)} --size {2 * uv_size}."
            )
        kinds: list[MapKind] = ["pos_map", "norm_map", "visibility_map"]
        kinds += ["mv_map", "valid_map"] if self.has_scans else []
        for sample in self.sample_ids:
            for kind in kinds:
                if not self.folder.map_file(kind, sample).is_file():
                    raise DatasetNotFoundError(
                        f"{self.folder.map_file(kind, sample)} is missing; "
                        f"{_maps_command(self.folder.root)}."
                    )
                self._map(kind, sample, (3,) if kind in ("pos_map", "norm_map") else ())
        return self.map_size


def core_mask(path: Path, size: int) -> NDArray[np.bool_]:
    """Read the mask of the face (512 texels) and cut its core out: (S,S), row 0 at the top.

    Raises:
        DatasetNotFoundError: no such file.
        ValueError: not square, or empty.
    """
    if not path.is_file():
        raise DatasetNotFoundError(
            f"{path}: no UV mask of the face; take FaceScape's facial_mask (512 pixels)."
        )
    mask = read_image(path)[..., 0]
    if mask.shape[0] != mask.shape[1]:
        raise ValueError(f"{path}: the mask should be square, found {mask.shape}.")
    core = np.ascontiguousarray(mask[core_window(len(mask))]) > 0
    small = cv2.resize(core.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    if not (small > 0.99).any():
        raise ValueError(f"{path}: the mask is empty in the core window.")
    return np.asarray(small > 0.99)


def collate_views(samples: Sequence[Mapping[str, Any]]) -> FaceBatch:
    """Stack samples into a batch; the photos stay uint8.

    Raises:
        ValueError: samples whose photos or numbers of views differ.
    """
    shapes = {tuple(sample["image"].shape) for sample in samples}
    if len(shapes) != 1:
        raise ValueError(
            f"The samples {', '.join(s['sample_id'] for s in samples)} have photos of the shapes "
            f"{sorted(shapes)}; set data.batch_size=1, or preprocess them to one size."
        )

    def stacked(name: str) -> dict[str, Tensor]:
        return {key: torch.stack([s[name][key] for s in samples]) for key in samples[0][name]}

    return FaceBatch(
        image=torch.stack([sample["image"] for sample in samples]),
        camera=PerspectiveCamera(**stacked("camera")),
        uv_maps=stacked("uv_maps"),
        scan=stacked("scan") if "scan" in samples[0] else None,
        sample_id=[sample["sample_id"] for sample in samples],
        random_key=torch.stack([s["random_key"] for s in samples])
        if "random_key" in samples[0]
        else None,
    )


def _planes(image: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))


def _maps_command(root: Path) -> str:
    return f"make them by 'python -m lit_face.data.facescape maps {root}'"
