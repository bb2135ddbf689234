"""Where the files of CelebA and of its RGBA set lie, and CelebA's lists of people and splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.index import FileStats, scan_files

SEGMENT, LANDMARKS = "CelebA_Segment", "CelebA_Landmarks"
ALIGNED = "img_align_celeba"
IDENTITY_FILE, PARTITION_FILE = "identity_CelebA.txt", "list_eval_partition.txt"
POINTS_FILE = "list_landmarks_align_celeba.txt"
SPLITS = ("train", "val", "test")  # as list_eval_partition.txt numbers them
_WHERE = (
    "Expected CelebA_Segment/<name>.png, aligned crops whose alpha is the skin mask, or a folder "
    "that 'python -m lit_face.data.celeba_skin pack' or 'import' has written "
    "(docs/data/celeba_skin.md)"
)


@dataclass(frozen=True)
class CelebALayout:
    """What lies where.

    Attributes:
        root: folder that holds CelebA_Segment.
        names: pictures in it, sorted.
        has_landmarks: whether there is a folder CelebA_Landmarks.
        person: stem of the picture -> number, None without identity_CelebA.txt.
        split: stem -> place in `SPLITS`, None without list_eval_partition.txt.
        stats: size and time of every file that counts.
    """

    root: Path
    names: list[str]
    has_landmarks: bool
    person: Mapping[str, int] | None
    split: Mapping[str, int] | None
    stats: FileStats


def find_root(root: Path, wanted: str) -> Path | None:
    """Find the folder that holds `wanted`: this one, the one above, or one inside."""
    if not root.is_dir():
        raise DatasetNotFoundError(f"celeba_skin not found: no folder {root}. {_WHERE}.")
    inside = sorted(path for path in root.iterdir() if path.is_dir())
    above = [root.parent] if root.name == wanted else []
    return next((p for p in [root, *above, *inside] if (p / wanted).exists()), None)


def find_layout(root: Path) -> CelebALayout:
    """Look at a folder.

    Raises:
        DatasetNotFoundError: no such folder, or no pictures where they should be.
        ValueError: a list that is none; names the file and the line.
    """
    found = find_root(root, SEGMENT)
    if found is None:
        raise DatasetNotFoundError(f"celeba_skin at {root}: {_inside(root)} {_WHERE}.")
    stats = dict(scan_files(found, [SEGMENT], (".png",)))
    if not stats:
        raise DatasetNotFoundError(f"celeba_skin: no .png in {found / SEGMENT}. {_WHERE}.")
    names = sorted(name.rpartition("/")[2] for name in stats)
    has_landmarks = (found / LANDMARKS).is_dir()
    if has_landmarks:
        stats |= scan_files(found, [LANDMARKS], (".npy",))
    for name in (IDENTITY_FILE, PARTITION_FILE):
        if (found / name).is_file():
            stat = (found / name).stat()
            stats[name] = (stat.st_size, stat.st_mtime_ns)
    person, split = read_lists(found)
    return CelebALayout(found, names, has_landmarks, person, split, stats)


def read_lists(folder: Path) -> tuple[Mapping[str, int] | None, Mapping[str, int] | None]:
    """Read who is on which picture and its split, both by stem; None for a list that is absent."""
    person = split = None
    if (folder / IDENTITY_FILE).is_file():
        person = _numbers(folder / IDENTITY_FILE)
    if (folder / PARTITION_FILE).is_file():
        split = _numbers(folder / PARTITION_FILE)
        wrong = next((name for name, number in split.items() if number not in (0, 1, 2)), None)
        if wrong is not None:
            raise ValueError(
                f"{folder / PARTITION_FILE}: '{wrong}' has the split {split[wrong]}; expected 0 "
                "(train), 1 (val) or 2 (test)."
            )
    return person, split


def _numbers(file: Path) -> dict[str, int]:
    found = {}
    for place, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, number = line.split()
            found[PurePosixPath(name).stem] = int(number)
        except ValueError as error:
            raise ValueError(
                f"{file}, line {place}: expected '000001.jpg 2880', found '{line[:80]}'."
            ) from error
    return found


def _inside(root: Path) -> str:
    if find_root(root, ALIGNED) is not None:
        return (
            f"this is CelebA itself ({ALIGNED}), whose pictures are not crops that a network "
            "takes; make those by 'python -m lit_face.data.celeba_skin crop'."
        )
    names = sorted(path.name for path in root.iterdir())
    shown = f"found {', '.join(names[:8])}" if names else "the folder is empty"
    return f"no folder {SEGMENT}; {shown}."
