"""Landmarks and skin masks for pictures that come without, found once and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lit_face.data.ffhq_layout import FFHQLayout, find_layout, read_metadata, without_suffix
from lit_face.data.ffhq_records import read_picture, read_points
from lit_face.data.skin_masks import SkinMasker
from lit_face.io.files import atomic_write, cache_root
from lit_face.io.images import write_image

log = logging.getLogger("lit_face")


class FoundFace(Protocol):
    """A face that a finder found."""

    @property
    def landmarks(self) -> NDArray[np.float64] | None:
        """(68,2) pixels, or None from finders of boxes."""


# (picture (H,W,3) RGB, its file) -> faces, the largest first: `lit_face.inference.finders`
Landmarker = Callable[[NDArray[np.uint8], Path], Sequence[FoundFace]]
_REPORT_EVERY = 500


@dataclass(frozen=True)
class Prepared:
    """Folders for `FFHQDataset`: `landmarks` and `masks`."""

    landmarks: Path
    masks: Path


def prepared_folders(
    root: Path,
    landmarker: Landmarker | None,
    masker: SkinMasker | None,
    cache_folder: str | Path | None = None,
) -> Prepared:
    """Return where the annotations of a root are kept; another finder has another folder.

    Args:
        root: of the pictures.
        landmarker: finds the landmarks.
        masker: makes the masks.
        cache_folder: see `lit_face.io.files.cache_root`.
    """
    home = cache_root(cache_folder) / "prepared"
    facts = [str(root.expanduser().resolve()), _facts(landmarker), _facts(masker)]
    return Prepared(home / f"landmarks-{_digest(*facts[:2])}", home / f"masks-{_digest(*facts)}")


def prepare(
    root: Path, folders: Prepared, landmarker: Landmarker | None, masker: SkinMasker | None
) -> None:
    """Find what is missing; interrupted, it goes on at the next call.

    What a picture has in its own dataset is left alone. A picture without a face gets empty
    files, and `FFHQDataset` rejects it by name.

    Args:
        root: of the dataset; nothing is written there.
        folders: take the files.
        landmarker: finds 68 points; None leaves pictures without.
        masker: makes masks; None leaves pictures without.

    Raises:
        TypeError: the landmarker gives boxes without landmarks.
    """
    layout = find_layout(root)
    lacks_landmarks = len(layout.landmarks) < len(layout.names)
    listed = read_metadata(layout.metadata) if layout.metadata and lacks_landmarks else {}
    todo = [name for name in layout.names if _lacks(layout, name, landmarker, masker, listed)]
    if not todo:
        return
    log.info("%s: annotating %d pictures once, into %s", root, len(todo), folders.masks.parent)
    for done, name in enumerate(todo, start=1):
        _annotate(layout, name, folders, landmarker, masker, listed)
        if done % _REPORT_EVERY == 0:
            log.info("%d of %d pictures annotated", done, len(todo))


def _annotate(
    layout: FFHQLayout,
    name: str,
    folders: Prepared,
    landmarker: Landmarker | None,
    masker: SkinMasker | None,
    listed: dict[str, Any],
) -> None:
    key, path = without_suffix(name), layout.root / layout.folder / name
    points_file, mask_file = folders.landmarks / f"{key}.npy", folders.masks / f"{key}.png"
    if _is_newer(mask_file, path) and (key in layout.landmarks or _is_newer(points_file, path)):
        return
    try:
        image = read_picture(path, layout.is_tree)
        points = _points(layout, name, image, points_file, landmarker, listed)
    except ValueError as error:
        log.warning("%s: %s", name, error)
        return
    nowhere_to_look = points is None and landmarker is None
    if masker is None or key in layout.masks or nowhere_to_look:
        return
    mask = np.zeros(image.shape[:2], np.uint8)
    if points is not None:
        try:
            mask = masker(image, points)
        except ValueError as error:
            log.warning("%s: %s", name, error)
    write_image(mask_file, mask)


def _points(
    layout: FFHQLayout,
    name: str,
    image: NDArray[np.uint8],
    file: Path,
    landmarker: Landmarker | None,
    listed: dict[str, Any],
) -> NDArray[np.float64] | None:
    """Return the dataset's points, those found before, or those found now; None without a face."""
    key, (height, width) = without_suffix(name), image.shape[:2]
    _, points, side = listed.get(key.rpartition("/")[2], ("", None, 1.0))
    known = layout.landmarks.get(key)
    if known is not None or points is not None:
        return read_points(known, points, width / side, (width, height))
    if landmarker is None:
        return None
    path = layout.root / layout.folder / name
    if not _is_newer(file, path):
        found = _largest_face(landmarker, image, path)
        with atomic_write(file) as temporary:
            np.save(temporary, np.zeros((0, 2)) if found is None else np.asarray(found))
    stored = np.load(file, allow_pickle=False)
    return stored if stored.size else None


def _largest_face(
    landmarker: Landmarker, image: NDArray[np.uint8], path: Path
) -> NDArray[np.float64] | None:
    found = landmarker(image, path)
    if not found:
        return None
    points = found[0].landmarks
    if points is None:
        raise TypeError(
            f"landmarker: {type(landmarker).__name__} finds boxes without landmarks; use one that "
            "gives 68 points (+finder@data.landmarker=face_alignment, or file)."
        )
    return points


def _facts(part: object) -> str:
    """Name a finder or masker and its plain options."""
    options = {} if part is None else vars(part)
    kinds = (int, float, str, Path)
    plain = {name: str(value) for name, value in options.items() if isinstance(value, kinds)}
    return f"{type(part).__name__}{sorted(plain.items())}"


def _lacks(
    layout: FFHQLayout,
    name: str,
    landmarker: Landmarker | None,
    masker: SkinMasker | None,
    listed: dict[str, Any],
) -> bool:
    key = without_suffix(name)
    has_points = key in layout.landmarks or key.rpartition("/")[2] in listed
    lacks_mask = masker is not None and key not in layout.masks
    return (landmarker is not None and not has_points) or lacks_mask


def _is_newer(file: Path, picture: Path) -> bool:
    return file.is_file() and file.stat().st_mtime_ns >= picture.stat().st_mtime_ns


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
