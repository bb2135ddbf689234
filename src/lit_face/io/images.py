"""Image files in and out: RGB uint8 arrays, by OpenCV."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_write

# OpenCV 4.11 and later decode to RGB themselves.
_COLOR = getattr(cv2, "IMREAD_COLOR_RGB", cv2.IMREAD_COLOR)
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
# In entropy-coded data a marker is 0xFF followed by anything but 0x00, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def read_image(path: str | Path, exif: bool = False) -> NDArray[np.uint8]:
    """Read a picture as RGB.

    Args:
        path: JPEG, PNG or any other format OpenCV decodes; 16-bit pictures become 8-bit, alpha is
            dropped, grey ones get three equal channels.
        exif: turn the picture as its EXIF orientation says. Off by default: annotations of
            datasets refer to the pixels as stored.

    Returns:
        (H,W,3) uint8, row 0 on top, channels red, green, blue.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or no picture; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No image file {path}.")
    return decode_image(path.read_bytes(), str(path), exif)


def decode_image(data: bytes, name: str, exif: bool = False) -> NDArray[np.uint8]:
    """Decode the bytes of an image file; `name` is what errors call it. See `read_image`."""
    # OpenCV fills the missing part of a truncated picture with grey and says nothing.
    problem = truncation(data)
    if problem:
        raise ValueError(f"{name}: {problem}. Copy or download the file again.")
    flags = _COLOR if exif else _COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(
            f"{name}: not a picture that can be decoded ({len(data)} bytes, starts with "
            f"{data[:8]!r}). Copy or download the file again, or convert it to JPEG or PNG."
        )
    if _COLOR == cv2.IMREAD_COLOR:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return np.asarray(image, dtype=np.uint8)


def write_image(path: str | Path, array: NDArray[np.uint8], quality: int = 92) -> None:
    """Write an RGB (H,W,3) or grey (H,W) uint8 picture; the suffix chooses the format.

    Args:
        path: target; parents are created, an existing file is replaced at once.
        array: row 0 on top.
        quality: JPEG quality, 0 to 100; other formats ignore it.

    Raises:
        ValueError: another dtype or shape, or a suffix without encoder.
    """
    path = Path(path)
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] == (3,)):
        raise ValueError(
            f"{path}: an image should be uint8 (H,W,3) or (H,W), found {array.dtype} {array.shape}."
        )
    pixels = array if array.ndim == 2 else cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    if not cv2.haveImageWriter(f"image{path.suffix}"):
        raise ValueError(f"{path}: no encoder for '{path.suffix}' files; use .jpg or .png.")
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if is_jpeg else []
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels, options):
            raise OSError(f"{path}: OpenCV could not write the picture; is the disk full?")


def read_rgba(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture with transparency, (H,W,4) uint8, pixels as stored; see `read_image`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded, or has no alpha; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No image file {path}.")
    data = path.read_bytes()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if image is None:
        raise ValueError(
            f"{path}: not a picture that can be decoded ({len(data)} bytes). Copy or download the "
            "file again."
        )
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
        raise ValueError(f"{path}: expected four channels of 8 bits, found {_layout_of(image)}.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), dtype=np.uint8)


def write_rgba(path: str | Path, array: NDArray[np.uint8]) -> None:
    """Write a picture with transparency, (H,W,4) uint8, as PNG; see `write_image`."""
    path = Path(path)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 4:
        raise ValueError(
            f"{path}: an image should be uint8 (H,W,4), found {array.dtype} {array.shape}."
        )
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(array, cv2.COLOR_RGBA2BGRA)):
            raise OSError(f"{path}: OpenCV could not write the picture; is the disk full?")


def write_linear_png(path: str | Path, array: NDArray[np.float32]) -> None:
    """Write linear values (H,W,3) or (H,W) in [0,1] as a PNG of 16 bits; 1 is 65535."""
    path = Path(path)
    levels = np.rint(array.clip(0, 1) * 65535).astype(np.uint16)
    pixels = levels if levels.ndim == 2 else levels[..., ::-1]
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels):
            raise OSError(f"{path}: OpenCV could not write the picture; is the disk full?")


def write_exr(path: str | Path, array: NDArray[np.float32]) -> None:
    """Write linear RGB (H,W,3) as OpenEXR, float32.

    Raises:
        OSError: this OpenCV was built without OpenEXR, or the disk is full.
    """
    path = Path(path)
    os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # read at the first use
    pixels = np.ascontiguousarray(array[..., ::-1], dtype=np.float32)
    with atomic_write(path) as temporary:
        try:
            is_written = cv2.imwrite(str(temporary), pixels)
        except cv2.error:
            is_written = False
        if not is_written:
            raise OSError(
                f"{path}: OpenCV could not write OpenEXR. Set OPENCV_IO_ENABLE_OPENEXR=1, install "
                "opencv-python from PyPI, or leave 'light' out of outputs."
            )


def truncation(data: bytes) -> str | None:
    """Say what is missing at the end of a JPEG, or None; other decoders report it themselves."""
    if not data:
        return "empty file"
    if data.startswith(_JPEG_START) and not _jpeg_is_complete(data):
        return f"truncated JPEG, no end-of-image marker in {len(data)} bytes"
    return None


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the main picture of a JPEG ends properly (ITU-T T.81, annex B).

    Walks the segments, because an embedded thumbnail has an end marker of its own and because
    cameras append data after the end.
    """
    if data.endswith(_JPEG_END):
        return True
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _JPEG_END[1]:
            return True
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _JPEG_SCAN:
            found = _MARKER.search(data, position)
            if found is None:
                return False
            position = found.start()
    return data[position : position + 2] == _JPEG_END


def _layout_of(image: NDArray[Any]) -> str:
    channels = 1 if image.ndim == 2 else image.shape[2]
    return f"{channels} of {8 * image.dtype.itemsize}"
