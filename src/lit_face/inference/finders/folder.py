"""Landmarks and skin masks that somebody else has made, a file a photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lit_face.data.ffhq_records import read_mask, read_points
from lit_face.data.five_point_files import read_points_file
from lit_face.inference.finders.base import (
    Detection,
    Picture,
    box_of_five_points,
    box_of_landmarks,
)

_MASKS = (".png", ".npy")


class FolderFinder:
    """Reads the face of `NAME.jpg` from `NAME.npy` in a folder of landmarks, one face a photo.

    Landmarks are arrays (68,2) or (68,3), iBUG order, in pixels of the photo's file. Where there is
    no array, `NAME.txt` has five lines 'x y': left eye, right eye, nose, left and right corner of
    the mouth, as they lie in the picture; the box is estimated from them (`box_of_five_points`).
    Masks are `NAME.png` or `NAME.npy`, not 0 where there is skin, of the photo's proportions.
    Photos without a file of landmarks have no face.

    Args:
        landmarks: folder; photos in folders below the input have their files in such folders here.
        masks: folder of skin masks; without it there are none.

    Raises:
        FileNotFoundError: a folder that is not there.
    """

    def __init__(self, landmarks: str, masks: str | None = None) -> None:
        for name, folder in (("landmarks", landmarks), ("masks", masks)):
            if folder is not None and not Path(folder).is_dir():
                raise FileNotFoundError(f"finder.{name}={folder}: there is no such folder.")
        self.landmarks = Path(landmarks)
        self.masks = None if masks is None else Path(masks)

    @property
    def sources(self) -> list[Path]:
        """What faces are read from."""
        return [folder for folder in (self.landmarks, self.masks) if folder is not None]

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the face of a photo.

        Raises:
            ValueError: no path is given, the landmarks are none, or the mask is missing or does
                not fit.
        """
        if path is None:
            raise ValueError("finder=folder needs photos that are files, to look up their names.")
        file = _of_photo(self.landmarks, path, (".npy", ".txt"))
        if file is None:
            return []
        height, width = image.shape[:2]
        if file.suffix == ".txt":
            five = read_points_file(file)
            found = Detection(box_of_five_points(five), five_points=five)
        else:
            points = read_points(file, None, 1.0, (width, height))
            found = Detection(box_of_landmarks(points), landmarks=points)
        if self.masks is not None:
            found = replace(found, skin_mask=self._mask(self.masks, path, (height, width)))
        return [found]

    @staticmethod
    def _mask(folder: Path, path: Path, size: tuple[int, int]) -> Picture:
        file = _of_photo(folder, path, _MASKS)
        if file is None:
            raise ValueError(f"{folder} has no {path.stem}.png and no {path.stem}.npy")
        return np.ascontiguousarray(read_mask(file, size))


def _of_photo(folder: Path, photo: Path, suffixes: tuple[str, ...]) -> Path | None:
    """Find a photo's file by the longest part of its path that the folder has."""
    parts = photo.absolute().with_suffix("").parts[1:]
    for start in range(len(parts)):
        for suffix in suffixes:
            file = folder.joinpath(*parts[start:-1], parts[-1] + suffix)
            if file.is_file():
                return file
    return None
