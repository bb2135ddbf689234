"""Annotations of a dataset, read and checked once, then one memory-mapped table.

Reading 60,000 small MATLAB files an epoch is not a loader. The first use of a dataset reads them
all, rejects the broken ones with a reason, and packs the rest into one array on disk; later uses
map that array. A fingerprint of the files (relative paths, sizes, times) decides whether it is
still true.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_folder, cache_root
from lit_face.io.images import read_image

log = logging.getLogger(__name__)

Verify = Literal["sample", "full"]
Record = Mapping[str, Any]
FileStats = Mapping[str, tuple[int, int]]  # relative path -> size, modification time in ns
FORMAT_VERSION = 1
_SAMPLED_IMAGES = 256
_THREADS = 8  # reading is dominated by waiting for the disk
_REASONS_SHOWN = 5


class PackedIndex:
    """A table of records on disk, mapped when first used, in each process by itself.

    Attributes:
        folder: where it lies, with `rejected.csv` beside it.
        rejected: (name, reason) of every record that was left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: NDArray[Any] | None = None
        with (folder / "rejected.csv").open(newline="", encoding="utf-8") as file:
            self.rejected = [(row["name"], row["reason"]) for row in csv.DictReader(file)]

    @property
    def rows(self) -> NDArray[Any]:
        """The structured array (N,); fields `name` (bytes), `position` and the dataset's own."""
        if self._rows is None:
            self._rows = np.load(self.folder / "records.npy", mmap_mode="r", allow_pickle=False)
        return self._rows

    def __len__(self) -> int:
        return len(self.rows)

    def names(self) -> list[str]:
        """Names of the records in order."""
        return [name.decode() for name in self.rows["name"]]

    def __getstate__(self) -> dict[str, Any]:
        # A data loader's worker gets the path and maps the file itself.
        return {**self.__dict__, "_rows": None}


def scan_files(root: Path, folders: Iterable[str], suffixes: tuple[str, ...]) -> FileStats:
    """List files of the given suffixes directly in `folders` of `root`, with sizes and times."""
    found: dict[str, tuple[int, int]] = {}
    for folder in folders:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffixes) and entry.is_file():
                    stat = entry.stat()
                    name = entry.name if folder == "." else f"{folder}/{entry.name}"
                    found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def fingerprint(files: FileStats, options: Mapping[str, Any]) -> str:
    """Digest of what is on disk and of how it is read."""
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, dict(options)], sort_keys=True).encode())
    for name in sorted(files):
        digest.update(f"{name}\0{files[name][0]}\0{files[name][1]}\n".encode())
    return digest.hexdigest()[:20]


def packed_index(
    title: str,
    root: Path,
    names: Sequence[str],
    files: FileStats,
    dtype: np.dtype[Any],
    read: Callable[[str, bool], Record],
    *,
    max_rejected: float = 0.01,
    verify: Verify = "sample",
    cache_folder: str | Path | None = None,
) -> PackedIndex:
    """Open the index of a dataset, building it if it is missing or out of date.

    Several processes may call this at once; each builds in a folder of its own and the first one
    to finish provides the index.

    Args:
        title: the dataset's name, for messages and the folder.
        root: the dataset's folder.
        names: record names in the order of the table; `position` is the place in this list.
        files: every file the records are read from (`scan_files`).
        dtype: structured type of one record, without `name` and `position`.
        read: (name, decode image?) -> values of `dtype`; ValueError or FileNotFoundError rejects
            the record with that reason.
        max_rejected: accepted fraction of rejected records.
        verify: "sample" decodes up to 256 evenly spaced images, "full" all of them.
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        ValueError: more than `max_rejected` of the records are rejected; lists the first reasons.
    """
    if verify not in ("sample", "full"):
        raise ValueError(f"verify should be 'sample' or 'full', found {verify!r}.")
    options = {"root": str(root.resolve()), "verify": verify, "dtype": str(dtype.descr)}
    home = cache_root(cache_folder) / "index" / f"{title.lower()}-{_short(options, names)}"
    folder = home / fingerprint(files, options)
    if not folder.is_dir():
        log.info("%s: reading %d records of %s once", title, len(names), root)
        _build(folder, names, dtype, read, verify)
        for stale in home.iterdir():
            if stale != folder and not stale.name.startswith("."):
                shutil.rmtree(stale, ignore_errors=True)
    index = PackedIndex(folder)
    _check_rejected(title, root, index, len(names), max_rejected)
    return index


def check_image(path: Path, decode: bool, size: tuple[int, int] | None = None) -> None:
    """Check that an image is there and whole.

    Args:
        path: the image.
        decode: decode all of it; otherwise only look whether a JPEG ends with its end marker.
        size: expected (H, W), checked when decoding.

    Raises:
        FileNotFoundError, ValueError: what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no image {path.name}")
    with path.open("rb") as file:
        is_jpeg = file.read(2) == b"\xff\xd8"
        file.seek(max(path.stat().st_size - 2, 0))
        suspicious = not is_jpeg or file.read(2) != b"\xff\xd9"
    if decode or suspicious:
        found = read_image(path).shape[:2]
        if size is not None and found != size:
            raise ValueError(f"{path.name} should be {size} pixels (height, width), found {found}")


def _short(options: Mapping[str, Any], names: Sequence[str]) -> str:
    """Which index of this dataset it is: other subsets or options must not replace each other."""
    folders = sorted({name.rpartition("/")[0] for name in names})
    return hashlib.sha256(json.dumps([dict(options), folders]).encode()).hexdigest()[:12]


def _build(
    folder: Path,
    names: Sequence[str],
    dtype: np.dtype[Any],
    read: Callable[[str, bool], Record],
    verify: Verify,
) -> None:
    length = max((len(name.encode()) for name in names), default=1)
    full_dtype = np.dtype([("name", f"S{length}"), ("position", "<i4"), *dtype.descr])
    rows = np.zeros(len(names), full_dtype)
    stride = 1 if verify == "full" else max(1, len(names) // _SAMPLED_IMAGES)

    def fill(position: int) -> str | None:
        name = names[position]
        try:
            record = read(name, position % stride == 0)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        row = rows[position]
        row["name"], row["position"] = name.encode(), position
        for field, value in record.items():
            row[field] = value
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        reasons = list(pool.map(fill, range(len(names))))
    kept = rows[[reason is None for reason in reasons]]
    with atomic_folder(folder) as temporary:
        np.save(temporary / "records.npy", kept, allow_pickle=False)
        with (temporary / "rejected.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "reason"])
            writer.writerows((n, r) for n, r in zip(names, reasons, strict=True) if r is not None)
        counts = {"kept": len(kept), "found": len(names), "verify": verify}
        (temporary / "counts.json").write_text(json.dumps(counts) + "\n", encoding="utf-8")


def _check_rejected(
    title: str, root: Path, index: PackedIndex, total: int, max_rejected: float
) -> None:
    count = len(index.rejected)
    listing = index.folder / "rejected.csv"
    if count > max_rejected * total:
        shown = index.rejected[:_REASONS_SHOWN]
        reasons = "".join(f"\n- {name}: {reason}" for name, reason in shown)
        more = f"\n- and {count - len(shown)} more" if count > len(shown) else ""
        raise ValueError(
            f"{title} at {root}: {count} of {total} records are unusable, more than "
            f"max_rejected={max_rejected:g} allows:{reasons}{more}\n"
            f"All are listed in {listing}. Download the dataset again or raise max_rejected."
        )
    if count:
        log.warning("%s: %d of %d records left out, see %s", title, count, total, listing)
