"""Read and check one picture's files: its size, landmarks and skin mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_face.io.images import read_image
from lit_face.io.photos import read_photo

MASK_AREA = (0.03, 0.9)  # share of the picture
_BOX = (-1.0, 2.0)  # landmarks lie in this multiple of the picture
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


def read_picture(path: Path, is_stored: bool) -> NDArray[np.uint8]:
    """Read a picture (H,W,3).

    Args:
        path: of the picture.
        is_stored: take the pixels as they are stored, as FFHQ's annotations do; otherwise as
            people see the photo (orientation, transparency, 16 bits).
    """
    return read_image(path) if is_stored else read_photo(path)


def picture_size(path: Path, decode: bool, is_stored: bool) -> tuple[int, int]:
    """Return width and height, pixels, from the header.

    Args:
        path: of the picture.
        decode: decode all of it; otherwise only look whether it ends as its format should.
        is_stored: see `read_picture`.

    Raises:
        FileNotFoundError, ValueError: what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path.name}")
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = not is_stored and picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path.name}: not a picture that can be read") from error
    if decode or not _ends_well(path):
        read_picture(path, is_stored)
    return (height, width) if turned else (width, height)


def read_points(
    file: Path | None, listed: Any, factor: float, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return 68 points (68,2) in pixels of the picture.

    Args:
        file: an array (68,2|3) in pixels of the picture, or transposed; used where it is there.
        listed: the points of the metadata, else.
        factor: from the metadata's pixels to those of the picture.
        size: width and height of the picture.

    Raises:
        FileNotFoundError, ValueError: what is wrong.
    """
    if file is not None:
        points = np.asarray(_load(file), np.float64)
        if points.size == 0:
            raise ValueError(f"{file.name}: no face was found in the picture")
    elif listed is not None:
        points = (np.asarray(listed, np.float64) + 0.5) * factor - 0.5
    else:
        raise FileNotFoundError("no landmarks, neither a file nor in the metadata")
    if points.ndim == 2 and points.shape[0] in (2, 3) and points.shape[1] == 68:
        points = points.T
    if points.shape not in ((68, 2), (68, 3)):
        raise ValueError(f"landmarks should be (68,2), found {points.shape}")
    points = points[:, :2]
    if not np.isfinite(points).all():
        raise ValueError("landmarks should be finite, found NaN or infinity")
    if np.ptp(points, axis=0).min() < 1:
        raise ValueError("landmarks: all points lie on one line")
    low, high = _BOX[0] * max(size), _BOX[1] * max(size)
    if points.min() < low or points.max() > high:
        raise ValueError(
            f"landmarks should lie in [{low:g}, {high:g}], found [{points.min():.4g}, "
            f"{points.max():.4g}]: they look like those of a larger picture than this of "
            f"{size[0]} x {size[1]} pixels"
        )
    return points


def read_mask(file: Path, size: tuple[int, int], check: bool = False) -> NDArray[np.uint8]:
    """Read a segmentation, 0 where there is no skin, as (H,W) uint8: 255 = skin.

    Args:
        file: .npy of numbers (H,W), or a picture; of any size in the picture's proportions.
        size: height and width of the picture.
        check: refuse masks that cover too little or too much (`MASK_AREA`).

    Raises:
        ValueError: what is wrong.
    """
    if file.suffix == ".npy":
        labels: NDArray[Any] = _load(file)
    else:
        labels = np.asarray(read_image(file).max(axis=2))
    if labels.ndim != 2 or labels.size == 0:
        raise ValueError(f"segmentation {file.name} should be (H,W), found {labels.shape}")
    height, width = labels.shape
    if abs(width * size[0] - height * size[1]) > 0.02 * width * size[0]:
        raise ValueError(
            f"segmentation {file.name} has {width} x {height} pixels, the picture {size[1]} x "
            f"{size[0]}: other proportions"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"segmentation {file.name} holds NaN or infinity")
    skin: NDArray[np.uint8] = (labels != 0).astype(np.uint8) * np.uint8(255)
    if check and not MASK_AREA[0] <= (share := float(skin.mean()) / 255) <= MASK_AREA[1]:
        raise ValueError(
            f"skin covers {100 * share:.1f} % of the picture, expected {100 * MASK_AREA[0]:g} to "
            f"{100 * MASK_AREA[1]:g} %"
        )
    if labels.shape != size:
        how = cv2.INTER_AREA if size[0] < height else cv2.INTER_LINEAR
        skin = np.asarray(cv2.resize(skin, size[::-1], interpolation=how), np.uint8)
    return skin


def _load(file: Path) -> NDArray[Any]:
    """Load an array of numbers; ValueError whatever is wrong with the file."""
    try:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file.name}: not an array that can be read ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{file.name} should hold an array of numbers")
    return array


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(path.stat().st_size - len(_PNG_END), 0))
        end = file.read()
    if start.startswith(_PNG_START):
        return end == _PNG_END
    return start.startswith(_JPEG_START) and end.endswith(_JPEG_END)
