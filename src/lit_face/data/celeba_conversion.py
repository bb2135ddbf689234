"""Other forms of the RGBA set into the memory-mapped one: PNG files, the reference's floats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lit_face.data.celeba_layout import read_lists
from lit_face.data.celeba_packed import check_absent, packed_folder, record_table, report
from lit_face.data.celeba_records import DTYPE
from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.geometry.five_points import DEEP3D_SIZE

RECORD_SHAPE = (DEEP3D_SIZE, DEEP3D_SIZE, 4)
RECORD_BYTES = 4 * DEEP3D_SIZE * DEEP3D_SIZE * 4
_THREADS = 4
_CHUNK = 64
_CHECKED = 100  # records, for NaN and the range, before anything is written
_SLACK = 1e-3  # of the range


def pack(root: Path, out: Path, size: int = 224, max_rejected: float = 0.01) -> int:
    """Write a folder of PNG files as one file; every picture is checked.

    Args:
        root: see `CelebASkinDataset`.
        out: folder to write.
        size: side of the pictures, pixels.
        max_rejected: accepted fraction of broken pictures, which are left out.

    Returns:
        How many pictures were written.
    """
    check_absent(out)
    dataset = CelebASkinDataset(root, "all", size, max_rejected=max_rejected, verify="full")
    pictures = dataset.pictures
    rows = record_table([name.decode() for name in pictures.rows["name"].tolist()])
    for field in DTYPE.names or ():
        rows[field] = pictures.rows[field]
    known = {"landmarks": pictures.has_landmarks, "person": pictures.has_person}
    with packed_folder(out, rows, size, **known) as images, ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(rows), _CHUNK):
            items = range(start, min(start + _CHUNK, len(rows)))
            for item, picture in zip(items, pool.map(dataset.rgba, items), strict=True):
                images[item] = picture
            report(items[-1] + 1, len(rows), _CHUNK)
    return len(rows)


def import_packed(
    file: Path, out: Path, names: Path | None = None, lists: Path | None = None
) -> int:
    """Convert the reference's CelebA_RGBA.bin, a few records at a time.

    The file is float32 without a header, (N,224,224,4) in C order, RGB in [-1,1] and alpha in
    [0,1].

    Args:
        file: to read.
        out: folder to write.
        names: list of the pictures in the file's order, a name a line (image_train.txt).
        lists: folder with CelebA's identity_CelebA.txt or list_eval_partition.txt.

    Returns:
        How many pictures were written.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or as many names; says what was found.
    """
    check_absent(out)
    records = _open(file)
    _check_some(file, records)
    rows = record_table(_names(names, len(records), file))
    person, split = read_lists(lists) if lists is not None else (None, None)
    stems = [PurePosixPath(name.decode()).stem for name in rows["name"].tolist()]
    for field, listed in (("person", person), ("split", split)):
        if listed is not None:
            absent = next((stem for stem in stems if stem not in listed), None)
            if absent is not None:
                raise ValueError(f"{lists}: the list of {field} has no '{absent}'; see --names.")
            rows[field] = [listed[stem] for stem in stems]
    known = {"landmarks": False, "person": person is not None}
    with packed_folder(out, rows, DEEP3D_SIZE, **known) as images:
        for start in range(0, len(rows), _CHUNK):
            part = np.asarray(records[start : start + _CHUNK])
            _check_range(file, part, start)
            images[start : start + len(part)] = _as_bytes(part)
            report(start + len(part), len(rows), _CHUNK)
    return len(rows)


def _open(file: Path) -> NDArray[np.float32]:
    if not file.is_file():
        raise FileNotFoundError(f"No file {file}.")
    size = file.stat().st_size
    count, rest = divmod(size, RECORD_BYTES)
    if rest or not count:
        raise ValueError(
            f"{file}: {size} bytes are {count} pictures of {RECORD_BYTES} bytes and {rest} bytes "
            "more. Expected float32 (N,224,224,4) without a header; copy the file again."
        )
    return np.memmap(file, dtype="<f4", mode="r", shape=(count, *RECORD_SHAPE))


def _check_some(file: Path, records: NDArray[np.float32]) -> None:
    """Look at some records all over the file before hours are spent on it."""
    count = min(_CHECKED, len(records))
    for item in np.random.default_rng(0).choice(len(records), count, replace=False).tolist():
        _check_range(file, np.asarray(records[item : item + 1]), item)


def _check_range(file: Path, part: NDArray[np.float32], start: int) -> None:
    flat = part.reshape(len(part), -1, 4)
    finite = np.isfinite(flat).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"{file}: record {start + int(finite.argmin())} holds NaN or infinity.")
    color, alpha = flat[..., :3], flat[..., 3]
    for name, values, low in (("RGB", color, -1.0), ("alpha", alpha, 0.0)):
        found = float(values.min()), float(values.max())
        if found[0] < low - _SLACK or found[1] > 1 + _SLACK:
            raise ValueError(
                f"{file}: {name} should lie in [{low:g}, 1], found [{found[0]:.4g}, "
                f"{found[1]:.4g}] in the records {start} to {start + len(part) - 1}."
            )


def _as_bytes(part: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.empty(part.shape, np.float32)
    levels[..., :3] = (part[..., :3] + 1) * 127.5
    levels[..., 3] = np.where(part[..., 3] > 0.5, 255, 0)
    return np.asarray(np.rint(levels.clip(0, 255)), np.uint8)


def _names(file: Path | None, count: int, records: Path) -> list[str]:
    if file is None:
        return [f"{number:06d}.png" for number in range(count)]
    lines = file.read_text(encoding="utf-8").splitlines()
    found = [PurePosixPath(line.split()[0]).name for line in lines if line.strip()]
    if len(found) != count:
        raise ValueError(
            f"{file} names {len(found)} pictures, {records} holds {count}. The reference leaves "
            "pictures out that it cannot read, and then the list is of no use: leave --names out."
        )
    if len(set(found)) != count:
        raise ValueError(f"{file}: a name stands there twice.")
    return found
