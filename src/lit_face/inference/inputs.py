"""Which photos a run is about, and where the results of each go."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lit_face.io.photos import SUFFIXES, is_photo

# Files of the run itself lie beside the photos' folders.
RESERVED = ("summary.csv", "problems.csv", "config.yaml", "environment.json")
_MAGIC = "*?["


@dataclass(frozen=True)
class PhotoFile:
    """A photo of a run.

    Attributes:
        path: of the file.
        name: path below the input folder, with slashes; what tables call it.
        folder: where its results go, below the output folder.
    """

    path: Path
    name: str
    folder: str


def find_photos(given: str | Path, out: str | Path) -> list[PhotoFile]:
    """List the photos that `input=` means, sorted by name.

    Args:
        given: a file (of any suffix), a folder (searched with its subfolders; hidden ones and the
            output folder are left out), or a pattern with *, ? or [...] (** spans folders).
        out: the output folder.

    Raises:
        FileNotFoundError: there is nothing, or no photo among what there is.
    """
    text, place = str(given), Path(given)
    if place.is_file():
        root, paths = place.parent, [place]
    elif place.is_dir():
        root, paths = place, _walk(place, Path(out))
        if not paths:
            raise FileNotFoundError(
                f"input={text}: the folder has no photo in it ({', '.join(SUFFIXES)})."
            )
    elif any(sign in text for sign in _MAGIC):
        found = (Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207 (may be absolute)
        paths = [path for path in found if path.is_file() and is_photo(path)]
        root = _fixed_part(text)
        if not paths:
            raise FileNotFoundError(f"input={text}: no photo has such a name.")
    else:
        raise FileNotFoundError(f"input={text}: there is no such file or folder.")
    names = {path: PurePosixPath(*path.relative_to(root).parts) for path in paths}
    folders = result_folders(list(names.values()))
    photos = [PhotoFile(path, str(name), folders[name]) for path, name in names.items()]
    return sorted(photos, key=lambda photo: photo.name)


def result_folders(names: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Give every photo a folder of its own: its name without suffix, where that is enough.

    Photos that share it (a.jpg and a.png), or whose folder would hold another photo's (a.jpg and
    a/b.jpg), keep their suffix. Letter case and Unicode forms count as equal, because they are on
    some file systems.
    """
    taken = {_key(name) for name in RESERVED}
    for name in names:
        taken |= {_key(str(parent)) for parent in name.parents}
    shared = Counter(_key(str(name.with_suffix(""))) for name in names)
    folders = {}
    for name in sorted(names):
        candidate = str(name.with_suffix(""))
        if shared[_key(candidate)] > 1 or _key(candidate) in taken:
            candidate = str(name)
        number, free = 2, candidate
        while _key(free) in taken:
            free, number = f"{candidate}-{number}", number + 1
        taken.add(_key(free))
        folders[name] = free
    return folders


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _walk(root: Path, out: Path) -> list[Path]:
    skipped, paths = out.resolve(), []
    for folder, below, files in os.walk(root, onerror=_refuse):
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and (Path(folder) / name).resolve() != skipped
        )
        candidates = (Path(folder) / name for name in files if not name.startswith("."))
        paths += [path for path in candidates if is_photo(path)]
    return paths


def _refuse(error: OSError) -> None:
    """Stop at a folder that cannot be read, instead of leaving its photos out in silence."""
    raise error


def _fixed_part(pattern: str) -> Path:
    """Return the folder part of a pattern before its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in _MAGIC):
            break
        parts.append(part)
    return Path(*parts)
