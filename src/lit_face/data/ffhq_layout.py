"""Which of the layouts of FFHQ a folder has, and where its landmarks and masks lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.index import FileStats, scan_files
from lit_face.io.photos import SUFFIXES

METADATA_FILE = "ffhq-dataset-v2.json"
PICTURES = (*SUFFIXES, *(suffix.upper() for suffix in SUFFIXES))
TREES = ("images1024x1024", "thumbnails128x128")
FLAT_FOLDERS = (".", "images", "FFHQ", "ffhq256")
FIRST_VALIDATION = 60_000
_METADATA_SIDE = 1024  # where the metadata do not say otherwise
_WHERE = (
    "Get FFHQ from github.com/NVlabs/ffhq-dataset and set data.root to the folder that holds "
    "images1024x1024, or give any folder of photos (docs/data/ffhq.md)"
)


@dataclass(frozen=True)
class FFHQLayout:
    """What lies where.

    Attributes:
        root: of the dataset.
        folder: of the pictures, relative to the root.
        names: pictures relative to `folder`, sorted.
        is_tree: folders of a thousand numbered pictures, as NVlabs gives them.
        landmarks: name without suffix -> file.
        masks: likewise.
        metadata: the JSON, where it is there.
        stats: size and time of every file that counts.
    """

    root: Path
    folder: str
    names: list[str]
    is_tree: bool
    landmarks: Mapping[str, Path]
    masks: Mapping[str, Path]
    metadata: Path | None
    stats: FileStats


def find_layout(root: Path, landmarks: Path | None = None, masks: Path | None = None) -> FFHQLayout:
    """Look at a folder.

    Args:
        root: of the dataset.
        landmarks: further folder of `<picture>.npy`, used before the root's own.
        masks: further folder of `<picture>.npy` or `.png`.

    Raises:
        DatasetNotFoundError: no such folder, or no pictures where they should be.
    """
    if not root.is_dir():
        raise DatasetNotFoundError(f"FFHQ not found: no folder {root}. {_WHERE}.")
    folder, names, stats = _find_pictures(root)
    found_landmarks = _annotations(
        [root / "landmarks", root / folder, *([landmarks] if landmarks else [])], (".npy",), names
    )
    found_masks = _annotations(
        [root / "segmentation", root / f"{folder}_seg", *([masks] if masks else [])],
        (".npy", ".png"),
        names,
    )
    metadata = root / METADATA_FILE
    has_metadata = metadata.is_file()
    for file in [*found_landmarks.values(), *found_masks.values(), *([metadata] * has_metadata)]:
        stat = file.stat()
        stats[os.path.relpath(file, root)] = (stat.st_size, stat.st_mtime_ns)
    return FFHQLayout(
        root,
        folder,
        names,
        folder in TREES,
        found_landmarks,
        found_masks,
        metadata if has_metadata else None,
        stats,
    )


def without_suffix(name: str) -> str:
    """Return a relative name without its last suffix."""
    return name.removesuffix(PurePosixPath(name).suffix)


def read_metadata(path: Path) -> dict[str, tuple[str, list[list[float]], float]]:
    """Read the JSON: number -> category, 68 points, side of the picture they refer to.

    Raises:
        ValueError: not the JSON of FFHQ's second version; names the first entry that is wrong.
    """
    found = {}
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} should hold one object, '0' to '69999'; found a list.")
    for key, entry in content.items():
        try:
            picture = entry["image"]
            side = float(picture.get("pixel_size", [_METADATA_SIDE])[0])
            found[f"{int(key):05d}"] = (str(entry["category"]), picture["face_landmarks"], side)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path.name}: entry '{key}' has no category or no image.face_landmarks; version "
                "2 of the metadata (ffhq-dataset-v2.json) is needed."
            ) from error
    return found


def _find_pictures(root: Path) -> tuple[str, list[str], dict[str, tuple[int, int]]]:
    for tree in TREES:
        if (root / tree).is_dir():
            parts = sorted(p.name for p in (root / tree).iterdir() if p.is_dir())
            stats = scan_files(root, [f"{tree}/{part}" for part in parts], PICTURES)
            if stats:
                return tree, _relative(stats, tree), dict(stats)
    for folder in FLAT_FOLDERS:
        if (root / folder).is_dir():
            stats = scan_files(root, [folder], PICTURES)
            if stats:
                return folder, _relative(stats, folder), dict(stats)
    inside = [p.name for p in sorted(root.iterdir()) if p.is_dir()]
    hint = next((p for p in inside if any((root / p / tree).is_dir() for tree in TREES)), None)
    raise DatasetNotFoundError(
        f"FFHQ at {root}: no pictures. Expected {TREES[0]}/00000/00000.png, {TREES[1]}/00000/"
        f"00000.png, or photos in the folder itself or in "
        f"{', '.join(FLAT_FOLDERS[1:])}; folders found: {', '.join(inside[:10]) or 'none'}. "
        + (f"Did you mean {root / hint}?" if hint else f"{_WHERE}.")
    )


def _relative(stats: FileStats, folder: str) -> list[str]:
    prefix = "" if folder == "." else f"{folder}/"
    return sorted(name.removeprefix(prefix) for name in stats)


def _annotations(
    folders: Iterable[Path], suffixes: tuple[str, ...], names: list[str]
) -> dict[str, Path]:
    """Find the files of pictures by the same relative name, or by the last part of it."""
    wanted: dict[str, list[str]] = {}
    for key in map(without_suffix, names):
        wanted.setdefault(key, []).append(key)
        if "/" in key:
            wanted.setdefault(key.rpartition("/")[2], []).append(key)
    found: dict[str, Path] = {}
    for folder in folders:
        for parent, _, files in os.walk(folder) if folder.is_dir() else ():
            place = Path(parent).relative_to(folder).as_posix()
            prefix = "" if place == "." else f"{place}/"
            for file in files:
                if file.endswith(suffixes):
                    keys = wanted.get(prefix + without_suffix(file), ())
                    found |= {key: Path(parent, file) for key in keys}
    return found
