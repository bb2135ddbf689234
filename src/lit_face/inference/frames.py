"""Frames of a video file, or of a folder that a camera wrote them to, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.io.photos import is_photo, read_photo

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
DEFAULT_RATE = 25.0  # frames a second of a folder
_LIKELY_RATES = (0.1, 1000.0)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: its number from 0, its time in seconds, and its picture (H,W,3) RGB uint8."""

    number: int
    time: float
    picture: NDArray[np.uint8]


@dataclass(eq=False)
class Frames:
    """Iterates over frames; `problems` grows while it does.

    Attributes:
        path: of the video, or of the folder.
        rate: frames a second.
        expected: frames that there should be; 0 where a video does not say.
        problems: one line each: frames that cannot be read, a video that ends early.
    """

    path: Path
    rate: float
    expected: int
    problems: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        return self._folder() if self.path.is_dir() else self._video()

    def _video(self) -> Iterator[Frame]:
        capture = _opened(self.path)
        number = 0
        try:
            while True:
                there, picture = capture.read()
                if not there:
                    break
                yield Frame(number, number / self.rate, _rgb(picture))
                number += 1
        finally:
            capture.release()
        if number == 0:
            raise ValueError(f"{self.path}: no frame can be decoded; copy the file again.")
        # Containers round: some announce a frame or two that are not there.
        if number < self.expected - max(2, 0.01 * self.expected):
            self.problems.append(
                f"{self.path.name}: ends after {number} of {self.expected} frames; the file is "
                "truncated or damaged"
            )

    def _folder(self) -> Iterator[Frame]:
        size = None
        for number, path in enumerate(_sorted_photos(self.path)):
            try:
                picture = read_photo(path)
            except (OSError, ValueError) as error:
                self.problems.append(str(error))
                continue
            size = size or picture.shape
            if picture.shape != size:
                self.problems.append(
                    f"{path.name}: {picture.shape[1]} x {picture.shape[0]} pixels, the first frame "
                    f"has {size[1]} x {size[0]}; left out"
                )
                continue
            yield Frame(number, number / self.rate, picture)


def is_video(path: str | Path) -> bool:
    """Whether the name ends like a video's, in any letter case."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def open_frames(path: str | Path, rate: float | None = None) -> Frames:
    """Open a video file or a folder of numbered frames.

    Args:
        path: a file that OpenCV decodes, or a folder of photos, taken in the order of the numbers
            in their names (frame2 before frame10).
        rate: frames a second; none takes the video's own, and 25 for a folder.

    Raises:
        FileNotFoundError: nothing there, or no photo in the folder.
        ValueError: the file cannot be decoded at all, or an impossible rate.
    """
    path = Path(path)
    if rate is not None and not _LIKELY_RATES[0] <= rate <= _LIKELY_RATES[1]:
        raise ValueError(f"fps should be between 0.1 and 1000 frames a second, found {rate}.")
    if path.is_dir():
        count = len(_sorted_photos(path))
        if not count:
            raise FileNotFoundError(f"{path}: the folder has no photo in it.")
        return Frames(path, rate or DEFAULT_RATE, count)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such video or folder.")
    capture = _opened(path)
    own, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if not _LIKELY_RATES[0] <= own <= _LIKELY_RATES[1]:
        own = DEFAULT_RATE
    return Frames(path, rate or own, max(count, 0))


def _opened(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ValueError(
            f"{path}: not a video that can be decoded ({path.stat().st_size} bytes): truncated, or "
            "of another format. Copy it again, or convert it to MP4 (H.264) or to a folder of "
            "photos."
        )
    return capture


def _rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.ndim == 2:
        return np.ascontiguousarray(np.repeat(picture[..., None], 3, axis=2))
    return np.ascontiguousarray(picture[..., ::-1])


def _sorted_photos(folder: Path) -> list[Path]:
    photos = (p for p in folder.iterdir() if is_photo(p) and not p.name.startswith("."))
    return sorted(photos, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
