"""Photos, five points and skin masks into the aligned RGBA crops of the mesh GCN refiner."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.celeba_layout import IDENTITY_FILE, LANDMARKS, PARTITION_FILE, SEGMENT
from lit_face.data.celeba_packed import report
from lit_face.data.celeba_records import check_alpha, checked_landmarks
from lit_face.data.ffhq_records import read_mask, read_points
from lit_face.data.five_point_files import read_points_file, read_points_list
from lit_face.data.skin_masks import LandmarkSkinMasks, SelfieSegmenter
from lit_face.geometry.five_points import (
    DEEP3D_SIZE,
    FloatArray,
    align_five_points,
    five_points,
    standard_points,
)
from lit_face.io.files import atomic_write
from lit_face.io.images import write_rgba
from lit_face.io.photos import SUFFIXES, read_photo
from lit_face.morphable_models.procedural import procedural_head

log = logging.getLogger("lit_face")

REJECTED_FILE = "rejected.csv"
_NO_MASKS = (
    "Where do the skin masks come from? Give one of --masks FOLDER (NAME.png or .npy, not 0 where "
    "there is skin), --landmarks FOLDER (NAME.npy, 68 points: masks from points and colour) or "
    "--selfie FILE (mediapipe's segmenter)."
)

# (photo, its file) -> mask (H,W), 255 = skin; ValueError or FileNotFoundError where there is none
Masker = Callable[[NDArray[np.uint8], Path], NDArray[np.uint8]]


@dataclass(frozen=True)
class CropSources:
    """Where masks and 68 landmarks come from; one of the three gives the masks, in this order.

    Attributes:
        masks: folder of NAME.png or NAME.npy, not 0 where there is skin, of the photo's
            proportions.
        selfie: file of mediapipe's segmenter, see `SelfieSegmenter`.
        landmarks: folder of NAME.npy, (68,2) pixels of the photo; the crops get them too.
    """

    masks: Path | None = None
    selfie: Path | None = None
    landmarks: Path | None = None

    def masker(self) -> Masker:
        """Return what makes masks.

        Raises:
            ValueError: none of the three is given.
        """
        if self.masks is not None:
            folder = self.masks
            return lambda photo, file: read_mask(_file_of(folder, file), photo.shape[:2])
        if self.selfie is not None:
            segmenter = SelfieSegmenter(self.selfie)
            return lambda photo, file: segmenter(photo, np.zeros((68, 2)))
        if self.landmarks is not None:
            from_points = LandmarkSkinMasks()
            return lambda photo, file: from_points(photo, self.points(photo, file))
        raise ValueError(_NO_MASKS)

    def points(self, photo: NDArray[np.uint8], file: Path) -> NDArray[np.float64]:
        """Read the 68 landmarks of a photo, (68,2) pixels of it."""
        height, width = photo.shape[:2]
        name = file.with_suffix(".npy").name
        found = (self.landmarks or Path()) / name
        if not found.is_file():
            raise FileNotFoundError(f"no landmarks {name}")
        return read_points(found, None, 1.0, (width, height))


def crop(
    photos: Path,
    points: Path,
    out: Path,
    sources: CropSources,
    standard: FloatArray | None = None,
    max_rejected: float = 0.01,
) -> int:
    """Cut faces out as Deep3D does, with the skin mask as alpha, into CelebA_Segment.

    Crops that are there already are kept, so that an interrupted run goes on. CelebA's lists of
    people and splits are copied from the folder above the photos. What cannot be used is listed in
    rejected.csv.

    Args:
        photos: folder of pictures.
        points: CelebA's list_landmarks_align_celeba.txt, or a folder of NAME.txt with five lines
            'x y': eyes, nose, corners of the mouth, left before right as they lie in the picture.
        out: folder to write.
        sources: of masks and landmarks.
        standard: (5,3) decimetres, see `align_five_points`; those of the built-in mean face where
            they are not given.
        max_rejected: accepted fraction of photos that cannot be used.

    Returns:
        How many crops there are.

    Raises:
        ValueError: no photos, no masks, or too many of them rejected.
    """
    masker = sources.masker()
    files = sorted(f for f in photos.glob("*") if f.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{photos}: no pictures ({', '.join(SUFFIXES)}).")
    listed = read_points_list(points) if points.is_file() else None
    standard = _built_in_points() if standard is None else standard
    rejected = []
    for done, file in enumerate(files, 1):
        target = out / SEGMENT / f"{file.stem}.png"
        if not target.is_file():
            try:
                _crop_one(file, target, _points_of(file, points, listed), standard, masker, sources)
            except (ValueError, FileNotFoundError) as error:
                rejected.append((file.name, str(error)))
        report(done, len(files), 1)
    _list_rejected(out / REJECTED_FILE, rejected)
    if len(rejected) > max_rejected * len(files):
        shown = "".join(f"\n- {name}: {reason}" for name, reason in rejected[:5])
        raise ValueError(
            f"{photos}: {len(rejected)} of {len(files)} photos cannot be used, more than "
            f"max_rejected={max_rejected:g} allows:{shown}\nAll are listed in "
            f"{out / REJECTED_FILE}."
        )
    for name in (IDENTITY_FILE, PARTITION_FILE):
        if (photos.parent / name).is_file() and not (out / name).exists():
            shutil.copyfile(photos.parent / name, out / name)
    return len(files) - len(rejected)


def _crop_one(
    file: Path,
    target: Path,
    points: FloatArray,
    standard: FloatArray,
    masker: Masker,
    sources: CropSources,
) -> None:
    photo = read_photo(file)
    found = align_five_points(photo, points, standard)
    size = (DEEP3D_SIZE, DEEP3D_SIZE)
    moved = cv2.warpAffine(masker(photo, file), found.matrix[:2], size, flags=cv2.INTER_LINEAR)
    alpha = np.where(np.asarray(moved) > 127, np.uint8(255), np.uint8(0))
    pixels = np.concatenate([found.image, alpha[..., None]], axis=2)
    check_alpha(pixels, file.name)
    if sources.landmarks is not None:
        matrix, landmarks = found.matrix, sources.points(photo, file)
        landmarks = checked_landmarks(landmarks @ matrix[:2, :2].T + matrix[:2, 2], file.name)
        with atomic_write(target.parent.parent / LANDMARKS / f"{file.stem}.npy") as temporary:
            np.rint(landmarks).astype("<i4").tofile(temporary)
    write_rgba(target, pixels)


def _points_of(file: Path, points: Path, listed: Mapping[str, FloatArray] | None) -> FloatArray:
    if listed is not None:
        if file.stem not in listed:
            raise ValueError(f"{file.name} is not in {points.name}")
        return listed[file.stem]
    single = points / f"{file.stem}.txt"
    if not single.is_file():
        raise FileNotFoundError(f"no points {single.name}")
    return read_points_file(single)


def _file_of(folder: Path, photo: Path) -> Path:
    for suffix in (".png", ".npy"):
        if (folder / f"{photo.stem}{suffix}").is_file():
            return folder / f"{photo.stem}{suffix}"
    raise FileNotFoundError(f"no mask {photo.stem}.png and no {photo.stem}.npy")


@torch.no_grad()
def _built_in_points() -> FloatArray:
    head = procedural_head()
    return standard_points(five_points(head.landmarks(head.mean[None]))[0]).double().numpy()


def _list_rejected(file: Path, rejected: list[tuple[str, str]]) -> None:
    with atomic_write(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("name", "reason"), *rejected])
