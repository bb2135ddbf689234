"""CelebA as aligned crops whose alpha is the skin mask: what the mesh GCN refiner learns from.

Source: Lin, Yuan, Shao & Zhou (CVPR 2020), "Towards high-fidelity 3D face reconstruction from
in-the-wild images using graph convolutional networks"; the pictures are those of Liu et al. (ICCV
2015). `python -m lit_face.data.celeba_skin` makes, packs and imports such data.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lit_face.data.celeba_layout import SPLITS, find_root
from lit_face.data.celeba_packed import RECORDS_FILE, PackedPictures
from lit_face.data.celeba_pictures import Pictures
from lit_face.data.celeba_records import UNKNOWN, resized, scaled_points
from lit_face.data.index import Verify

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test", "all"]


class CelebASkinDataset(Dataset[dict[str, Any]]):
    """Aligned faces with skin masks.

    A sample has `image` (3,S,S) uint8, `skin_mask` (1,S,S) uint8, 1 = skin, `sample_id`, and, where
    the folder has them, `landmarks` (68,3) in its pixels with z = 0 and `person`.

    The split is CelebA's (list_eval_partition.txt). Without that list a hash decides: of the person
    where persons are known, else of the name. A list or folder of landmarks that is there should
    have every picture; one that is not in it is left out.

    Args:
        root: folder with CelebA_Segment, or one that `pack` or `import` has written; or the folder
            that holds it.
        split: 'train', 'val', 'test' or 'all'.
        picture_size: side of the samples' pictures, pixels.
        val_fraction: share for validation where the dataset does not say.
        test_fraction: likewise.
        max_rejected: accepted fraction of broken records.
        verify: 'sample' decodes some pictures while the index is built, 'full' all of them.
        cache_folder: where the index goes.

    Attributes:
        sample_ids: names of the pictures in the order of the samples.
        person: (N,) numbers of the persons in that order, None where they are not known.

    Raises:
        DatasetNotFoundError: no pictures.
        ValueError: too many broken records, or pictures that cannot be split.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        picture_size: int = 224,
        val_fraction: float = 0.02,
        test_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split should be one of {get_args(Split)}, found {split!r}.")
        self.picture_size = picture_size
        self.pictures = open_pictures(Path(root).expanduser(), max_rejected, verify, cache_folder)
        rows = self.pictures.rows
        self._rows = np.arange(len(rows))
        if split != "all":
            wanted = SPLITS.index(split)
            found = splits_of(rows, self.pictures.name, val_fraction, test_fraction)
            self._rows = np.flatnonzero(found == wanted)
        self.sample_ids = [name.decode() for name in rows["name"][self._rows]]
        self.person: NDArray[np.int64] | None = None
        if self.pictures.has_person:
            self.person = np.asarray(rows["person"][self._rows], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def rgba(self, item: int) -> NDArray[np.uint8]:
        """Read picture and mask of a sample (S,S,4); the mask is 0 or 255."""
        return resized(self.pictures.read(int(self._rows[item])), self.picture_size)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one face.

        Raises:
            ValueError: the picture is truncated or has changed; names the file.
        """
        pixels = torch.from_numpy(self.rgba(item)).permute(2, 0, 1)
        sample: dict[str, Any] = {
            "image": pixels[:3],
            "skin_mask": (pixels[3:] > 0).to(torch.uint8),
            "sample_id": self.sample_ids[item],
        }
        if self.pictures.has_landmarks:
            points = scaled_points(
                self.pictures.rows["points"][self._rows[item]], self.picture_size
            )
            sample["landmarks"] = torch.from_numpy(np.pad(points, ((0, 0), (0, 1))))
        if self.person is not None:
            sample["person"] = torch.tensor(int(self.person[item]))
        return sample


def open_pictures(
    root: Path,
    max_rejected: float = 0.01,
    verify: Verify = "sample",
    cache_folder: str | Path | None = None,
) -> Pictures | PackedPictures:
    """Open a folder of PNG files or a packed one; see `CelebASkinDataset`."""
    packed = find_root(root, RECORDS_FILE)
    if packed is not None:
        return PackedPictures(packed)
    return Pictures(root, max_rejected, verify, cache_folder)


def splits_of(
    rows: NDArray[Any], name: str, val_fraction: float, test_fraction: float
) -> NDArray[np.int64]:
    """Return the split (N,) of every record, a place in `SPLITS`; none of them is empty.

    Args:
        rows: records with `name`, `person` and `split`.
        name: of the dataset, for messages.
        val_fraction: see `CelebASkinDataset`.
        test_fraction: likewise.

    Raises:
        ValueError: fewer than three persons (or pictures), or fractions that leave no training.
    """
    known = np.asarray(rows["split"], np.int64)
    if len(known) and (known != UNKNOWN).all():
        _warn_of_shared_people(rows, name)
        return known
    if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            "val_fraction and test_fraction should be above 0 and leave something to train on, "
            f"found {val_fraction} and {test_fraction}."
        )
    has_person = bool((rows["person"] != UNKNOWN).all())
    keys = [str(p) for p in rows["person"].tolist()] if has_person else _stems(rows["name"])
    names, of_row = np.unique(keys, return_inverse=True)
    if len(names) < 3:
        what = "persons" if has_person else "pictures"
        raise ValueError(f"{name}: {len(names)} {what} cannot be split into train, val and test.")
    digests = [hashlib.sha256(key.encode()).digest()[:8] for key in names.tolist()]
    place = np.array([int.from_bytes(digest, "big") for digest in digests], np.float64) / 2.0**64
    split = np.zeros(len(names), np.int64)
    split[place < val_fraction] = SPLITS.index("val")
    split[place >= 1 - test_fraction] = SPLITS.index("test")
    order = place.argsort()
    split[order[0]], split[order[-1]] = SPLITS.index("val"), SPLITS.index("test")
    split[order[len(order) // 2]] = SPLITS.index("train")
    return split[of_row]


def _stems(names: NDArray[Any]) -> list[str]:
    return [name.decode().rpartition(".")[0] or name.decode() for name in names.tolist()]


def _warn_of_shared_people(rows: NDArray[Any], name: str) -> None:
    if (rows["person"] == UNKNOWN).any():
        return
    trained = np.unique(rows["person"][rows["split"] == 0])
    held_out = np.unique(rows["person"][rows["split"] != 0])
    both = np.intersect1d(trained, held_out)
    if len(both):
        log.warning(
            "%s: %d persons are in training and in another split, the first is %d: what is "
            "measured on held-out pictures is not about new persons.",
            name, len(both), both[0],
        )  # fmt: skip


if __name__ == "__main__":
    from lit_face.data.celeba_commands import main

    sys.exit(main())
