"""FFHQ and plain folders of photos: pictures with 68 landmarks and a mask of the skin.

Source: Karras, Laine & Aila (CVPR 2019), "A style-based generator architecture for generative
adversarial networks"; the files are those of github.com/NVlabs/ffhq-dataset.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.ffhq_layout import (
    FIRST_VALIDATION,
    FFHQLayout,
    find_layout,
    read_metadata,
    without_suffix,
)
from lit_face.data.ffhq_records import picture_size, read_mask, read_picture, read_points
from lit_face.data.index import Record, Verify, packed_index

_DTYPE = np.dtype([("points", "<f4", (68, 2)), ("size", "<i4", (2,)), ("held_out", "i1")])
_UNKNOWN = -1
_CROP = 2.4  # side of a plain photo's crop over the size of the landmarks' box


class FFHQDataset(Dataset[dict[str, Any]]):
    """Faces without 3D labels.

    A sample has `image` (3,S,S) uint8, `landmarks` (68,3) in its pixels with z = 0, `skin_mask`
    (1,S,S) uint8, 1 = skin, and `sample_id`. Aligned pictures (FFHQ's trees; folders whose
    pictures are all squares of one size) are shown whole, shrunk to `picture_size` where they are
    larger; of other photos a square about the face.

    The split is FFHQ's `category`; without the JSON the pictures from 60000 on; where neither
    says, a hash of the name.

    Args:
        root: folder of the dataset.
        split: 'train', 'val' or 'all'.
        picture_size: side of the samples' pictures, pixels.
        landmarks: folder of `<picture>.npy` for a root without landmarks, see
            `lit_face.data.ffhq_preparation`.
        masks: folder of `<picture>.npy` or `.png` for a root without `segmentation`.
        val_fraction: share held out where the dataset does not say.
        max_rejected: accepted fraction of broken records.
        verify: 'sample' decodes some pictures while the index is built, 'full' all of them.
        cache_folder: where the index goes.

    Attributes:
        sample_ids: names of the pictures in the order of the samples.
        is_aligned: see above.

    Raises:
        DatasetNotFoundError: no pictures, no landmarks or no masks.
        ValueError: too many broken records.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "all"] = "train",
        picture_size: int = 512,
        landmarks: str | Path | None = None,
        masks: str | Path | None = None,
        val_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
    ) -> None:
        if split not in ("train", "val", "all"):
            raise ValueError(f"split should be 'train', 'val' or 'all', found {split!r}.")
        self.root, self.picture_size = Path(root).expanduser(), picture_size
        self.layout = find_layout(
            self.root, Path(landmarks) if landmarks else None, Path(masks) if masks else None
        )
        _check_annotations(self.layout)
        self.index = packed_index(
            "FFHQ", self.root, self.layout.names, self.layout.stats, _DTYPE,
            _RecordReader(self.layout), max_rejected=max_rejected, verify=verify,
            cache_folder=cache_folder,
        )  # fmt: skip
        sizes = self.index.rows["size"]
        same_squares = bool((sizes == sizes[0, 0]).all()) if len(sizes) else False
        self.is_aligned = self.layout.is_tree or same_squares
        self._rows = np.arange(len(self.index))
        if split != "all":
            held_out = _held_out(self.index.rows, self.index.names(), val_fraction)
            self._rows = np.flatnonzero(held_out == (split == "val"))
        names = self.index.names()
        self.sample_ids = [names[row] for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one face.

        Raises:
            ValueError: the picture is truncated or changed its size; names the file.
        """
        name, row = self.sample_ids[item], self.index.rows[self._rows[item]]
        path = self.root / self.layout.folder / name
        image = read_picture(path, self.layout.is_tree)
        height, width = image.shape[:2]
        if (width, height) != tuple(row["size"]):
            raise ValueError(
                f"{path}: {width} x {height} pixels, but {row['size'][0]} x {row['size'][1]} when "
                "it was first read. Start again, so that the index is built anew."
            )
        mask = read_mask(self.layout.masks[without_suffix(name)], (height, width))
        box = self._box(row["points"], width)
        size = min(self.picture_size, width) if self.is_aligned else self.picture_size
        factor = size / box[2]
        points = (row["points"] - box[:2] + 0.5) * factor - 0.5
        return {
            "image": torch.from_numpy(_cut(image, box, size)).permute(2, 0, 1),
            "landmarks": torch.from_numpy(np.pad(points, ((0, 0), (0, 1))).astype(np.float32)),
            "skin_mask": torch.from_numpy((_cut(mask, box, size) > 127).astype(np.uint8))[None],
            "sample_id": name,
        }

    def _box(self, points: NDArray[np.float32], width: int) -> NDArray[np.int64]:
        """Return left, top and side of what is shown of a picture, whole pixels."""
        if self.is_aligned:
            return np.array([0, 0, width])
        low, high = points.min(axis=0), points.max(axis=0)
        side = max(int(_CROP * (high - low).mean()), 2)
        left, top = np.round((low + high) / 2 - side / 2).astype(np.int64)
        return np.array([left, top, side])


class _RecordReader:
    """Reads and checks one picture's annotations; the JSON is read when first needed."""

    def __init__(self, layout: FFHQLayout) -> None:
        self.layout = layout

    @cached_property
    def metadata(self) -> dict[str, tuple[str, list[list[float]], float]]:
        return {} if self.layout.metadata is None else read_metadata(self.layout.metadata)

    def __call__(self, name: str, decode: bool) -> Record:
        """Return the record of a picture; ValueError or FileNotFoundError reject it."""
        layout, key = self.layout, without_suffix(name)
        path = layout.root / layout.folder / name
        width, height = picture_size(path, decode, layout.is_tree)
        if layout.is_tree and width != height:
            raise ValueError(f"{name} should be a square, found {width} x {height} pixels")
        category, listed, side = self.metadata.get(key.rpartition("/")[2], ("", None, 1.0))
        points = read_points(layout.landmarks.get(key), listed, width / side, (width, height))
        if layout.is_tree and points.max() < 0.4 * width:
            guess = 2 ** round(float(np.log2(points.max() / 0.85)))
            raise ValueError(
                f"landmarks look like {guess}-pixel ones, the picture has {width} pixels"
            )
        mask_file = layout.masks.get(key)
        if mask_file is None:
            raise FileNotFoundError(f"no segmentation of {name}")
        read_mask(mask_file, (height, width), check=True)
        held_out = _UNKNOWN
        if category:
            held_out = int(category == "validation")
        elif layout.is_tree and key.rpartition("/")[2].isdigit():
            held_out = int(int(key.rpartition("/")[2]) >= FIRST_VALIDATION)
        return {"points": points, "size": (width, height), "held_out": held_out}


def _check_annotations(layout: FFHQLayout) -> None:
    root = layout.root
    if not layout.landmarks and layout.metadata is None:
        raise DatasetNotFoundError(
            f"FFHQ at {root}: {len(layout.names)} pictures but no landmarks. Expected "
            "ffhq-dataset-v2.json or landmarks/<picture>.npy (68,2); or let them be found: "
            "+finder@data.landmarker=face_alignment (docs/data/ffhq.md)."
        )
    if not layout.masks:
        raise DatasetNotFoundError(
            f"FFHQ at {root}: {len(layout.names)} pictures but no skin masks. Expected "
            "segmentation/<picture>.npy or .png, 0 where there is no skin; or let them be made: "
            "data.masker (docs/data/ffhq.md)."
        )


def _held_out(rows: NDArray[Any], names: list[str], fraction: float) -> NDArray[np.bool_]:
    """Say which records validate: as the dataset says, else by hash; never none, never all.

    Raises:
        ValueError: fewer than two pictures, or a fraction outside (0, 1).
    """
    known: NDArray[np.bool_] = rows["held_out"] == 1
    if known.any() and not known.all():
        return known
    if not 0 < fraction < 1:
        raise ValueError(f"val_fraction should lie between 0 and 1, found {fraction}.")
    if len(names) < 2:
        raise ValueError(f"FFHQ: {len(names)} usable pictures cannot be split in two.")
    place = np.array(
        [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names],
        dtype=np.float64,
    ) / 2.0**64  # fmt: skip
    chosen: NDArray[np.bool_] = place < fraction
    chosen[place.argmin()], chosen[place.argmax()] = True, False
    return chosen


def _cut(image: NDArray[np.uint8], box: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Show a square of a picture (H,W[,3]), black outside of it, `size` pixels wide."""
    left, top, side = (int(value) for value in box)
    height, width = image.shape[:2]
    rows = slice(max(top, 0), max(min(top + side, height), 0))
    columns = slice(max(left, 0), max(min(left + side, width), 0))
    part = image[rows, columns]
    if part.shape[:2] != (side, side):
        whole = np.zeros((side, side, *image.shape[2:]), np.uint8)
        place = (rows.start - top, columns.start - left)
        whole[place[0] : place[0] + part.shape[0], place[1] : place[1] + part.shape[1]] = part
        part = whole
    if side == size:
        return np.ascontiguousarray(part)
    how = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (size, size), interpolation=how), np.uint8)
