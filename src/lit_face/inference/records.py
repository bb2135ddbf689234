"""What is known about photos that are done, and the tables of a run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_face.inference.face import Face
from lit_face.io.files import atomic_folder, atomic_write

RECORD = "record.json"
FORMAT = 1
_FIT = tuple(
    f"{name}_{moment}"
    for name in ("photo_l1", "landmarks_px", "nme", "psnr")
    for moment in ("before", "after")
)
COLUMNS = (
    *("photo", "face", "folder", "left", "top", "right", "bottom", "confidence"),
    *("visibility_share", "pitch_deg", "yaw_deg", "roll_deg", "warnings"),
    *_FIT,
)


@dataclass(frozen=True)
class Problem:
    """Why a photo has no result; one line."""

    photo: str
    message: str


def digest(data: bytes) -> str:
    """Return the fingerprint of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_settings(settings: Mapping[str, Any]) -> str:
    """Return the fingerprint of everything that changes results."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, default=str)
    return digest(text.encode())


def digest_of_path(path: Path) -> str:
    """Return the fingerprint of a file, or of all files of a folder."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest("\n".join(f"{f.relative_to(path)} {digest_of_path(f)}" for f in files).encode())


def readable(name: str) -> str:
    """Return a file's name as text of one line, whatever bytes are in it."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rows_of(name: str, folder: str, faces: Sequence[Face], places: Sequence[str]) -> list[Any]:
    """Return the summary's rows of a photo's faces."""
    rows = []
    for number, (face, place) in enumerate(zip(faces, places, strict=True), 1):
        numbers = [round(float(edge), 2) for edge in face.box]
        angles = [round(float(angle), 2) for angle in face.angles]
        where = readable(f"{folder}/{place}" if place else folder)
        values = [readable(name), number, where, *numbers, round(face.confidence, 4)]
        values += [round(face.visibility_share, 4), *angles, "; ".join(face.warnings)]
        values += [round(face.fit[name], 5) if name in face.fit else "" for name in _FIT]
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def finished_rows(folder: Path, fingerprint: str, settings: str) -> list[Any] | None:
    """Return the rows of a photo that is done, or None where it is to be done (again)."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = record["fingerprint"] == fingerprint and record["settings"] == settings
        if same and all((folder / name).is_file() for name in record["files"]):
            return list(record["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, cut or foreign: done again
    return None


def write_record(folder: Path, fingerprint: str, settings: str, rows: Sequence[Any]) -> None:
    """Write down that a photo is done; the last file in its folder."""
    files = sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )
    record = {"fingerprint": fingerprint, "settings": settings, "files": files, "rows": rows}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


class result_folder:
    """Yield a temporary folder that replaces a photo's results when the block succeeds.

    Raises:
        FileExistsError: something is there that no run has written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._atomic = atomic_folder(target)

    def __enter__(self) -> Path:
        return self._atomic.__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                remove_results(self.target)
        except OSError as refused:
            self._atomic.__exit__(type(refused), refused, refused.__traceback__)
            raise
        self._atomic.__exit__(*error)


def remove_results(target: Path) -> None:
    """Remove a photo's folder of an earlier run.

    Raises:
        FileExistsError: something is there that no run has written.
    """
    if not os.path.lexists(target):
        return
    if not (target / RECORD).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(
            f"{target} is in the way: it was not written by reconstruct.py. Move it, or choose "
            "another out=FOLDER."
        )
    (target / RECORD).unlink(missing_ok=True)  # from here on it counts as not done
    shutil.rmtree(target)


def write_summary(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write summary.csv: a line a face."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write problems.csv: a line a photo that has no result."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("photo", "problem"))
        writer.writerows((problem.photo, problem.message) for problem in problems)
