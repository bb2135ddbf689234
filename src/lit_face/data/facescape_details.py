"""Pairs of texture and relief as a dataset: made once, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from lit_face.data.facescape_detail_pairs import (
    DetailOptions,
    DetailPair,
    read_pair,
    scan_inputs,
    scan_pair,
    toolkit_files,
    toolkit_pair,
    toolkit_samples,
    write_pair,
)
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.io.files import cache_root

log = logging.getLogger("lit_face")

Source = Literal["scan", "tu"]
FORMAT_VERSION = 1


class FaceScapeDetails(Dataset[dict[str, Any]]):
    """Textures with the relief that belongs to them.

    A sample has `image` (3,T,T) uint8, `skin_mask` (1,T,T) uint8 (1 = known), `scan` with
    `displacement` (1,T,T) mm and `valid` (1,T,T), and `sample_id`.

    Args:
        root: a processed folder with maps and scans, or, for source 'tu', that of the TU models.
        split: 'train' or 'val', a share of the people; of a processed folder its split 'train'.
        source: 'scan' or 'tu'.
        options: how pairs are made.
        val_fraction: share of the people held out, one at least.
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        DatasetNotFoundError: files are missing.
        ValueError: an unknown source, or a split without samples.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val"],
        source: Source = "scan",
        options: DetailOptions | None = None,
        val_fraction: float = 0.1,
        cache_folder: str | Path | None = None,
    ) -> None:
        self.root, self.source = Path(root).expanduser(), source
        self.options = options or DetailOptions()
        if source == "scan":
            self.sample_ids = FaceScapeFolder(self.root).training_ids(split, val_fraction)
        elif source == "tu":
            self.sample_ids = _toolkit_split(self.root, split, val_fraction)
        else:
            raise ValueError(f"data.source should be 'scan' or 'tu', found {source!r}.")
        if not self.sample_ids:
            raise ValueError(f"{self.root} has no samples to {split} on.")
        self.files = self._made(cache_root(cache_folder) / "facescape_details", split)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one pair."""
        pair = read_pair(self.files[item])
        valid = torch.from_numpy(pair.valid)[None]
        return {
            "image": torch.from_numpy(pair.texture).permute(2, 0, 1),
            "skin_mask": valid.to(torch.uint8),
            "scan": {
                "displacement": torch.from_numpy(pair.displacement)[None],
                "valid": valid.float(),
            },
            "sample_id": self.sample_ids[item],
        }

    def _made(self, cache: Path, split: str) -> list[Path]:
        """Make the pairs that are not in the cache; return the files of all."""
        files = []
        for sample in self.sample_ids:
            name = f"{sample.replace('/', '-')}-{self._fingerprint(sample)}.npz"
            files.append(cache / name)
        missing = [row for row, file in enumerate(files) if not file.is_file()]
        for number, row in enumerate(missing, 1):
            log.info(
                "Making pair %d of %d to %s on: %s (once)",
                number, len(missing), split, self.sample_ids[row],
            )  # fmt: skip
            write_pair(files[row], self._pair(self.sample_ids[row]))
        return files

    def _pair(self, sample: str) -> DetailPair:
        if self.source == "tu":
            return toolkit_pair(self.root, sample, self.options)
        return scan_pair(FaceScapeFolder(self.root), sample, self.options)

    def _fingerprint(self, sample: str) -> str:
        """Return a digest of all that a pair depends on: files, scale and options."""
        if self.source == "tu":
            facts: list[Any] = _stats(toolkit_files(self.root, sample))
        else:
            folder = FaceScapeFolder(self.root)
            facts = [folder.scale(sample), *_stats(scan_inputs(folder, sample))]
        content = [FORMAT_VERSION, self.source, asdict(self.options), facts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _stats(files: Iterable[Path]) -> list[Any]:
    rows: list[Any] = []
    for file in files:
        stat = file.stat() if file.is_file() else None
        rows.append([str(file), stat and stat.st_size, stat and stat.st_mtime_ns])
    return rows


def _toolkit_split(root: Path, split: str, fraction: float) -> list[str]:
    """Choose samples by a hash of the person; at least one person is held out, and one is not."""
    samples = toolkit_samples(root)
    people = sorted({sample.split("/")[0] for sample in samples})
    if len(people) < 2 or not 0 < fraction < 1:
        raise ValueError(
            f"{root}: {len(people)} person(s) cannot be split by data.val_fraction={fraction}."
        )
    place = np.array([int(hashlib.sha256(name.encode()).hexdigest()[:13], 16) for name in people])
    held_out = place < fraction * 16**13
    held_out[place.argmin()], held_out[place.argmax()] = True, False
    chosen = {name for name, is_out in zip(people, held_out, strict=True) if is_out}
    return [sample for sample in samples if (sample.split("/")[0] in chosen) == (split == "val")]
