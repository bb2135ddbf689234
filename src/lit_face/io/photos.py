"""People's photos: any common format, bit depth and colour mode, as upright RGB of 8 bits.

Datasets use `lit_face.io.images`, whose pixels are those of the file as it is stored.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_face.io.images import truncation

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_ORIENTATION = 0x0112  # EXIF tag
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I", "F")  # modes of Pillow that are not of 8 bits


def is_photo(path: Path) -> bool:
    """Whether the name ends like a picture's, in any letter case."""
    return path.suffix.lower() in SUFFIXES


def read_photo(path: str | Path) -> NDArray[np.uint8]:
    """Read a photo as people see it.

    Colours: 16 bits are scaled to 8; grey gets three equal channels; palettes are looked up; what
    is transparent lies on white; CMYK is converted without its colour profile. The picture is
    turned as its EXIF orientation says.

    Args:
        path: JPEG, PNG, BMP, WebP, TIFF or any other format that Pillow or OpenCV decodes.

    Returns:
        (H,W,3) uint8, row 0 on top, channels red, green, blue.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty, truncated or no picture; the message names it.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(f"No image file {path}.") from error
    return decode_photo(data, str(path))


def decode_photo(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of a photo; `name` is what errors call it. See `read_photo`."""
    problem = truncation(data)
    if problem:
        raise ValueError(f"{name}: {problem}. Copy or download the file again.")
    try:
        pixels, orientation = _decode(data)
        return _turned(as_photo(pixels), orientation)
    except (OSError, ValueError, SyntaxError, cv2.error, Image.DecompressionBombError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise ValueError(
            f"{name}: not a picture that can be decoded ({len(data)} bytes, starts with "
            f"{data[:8]!r}; {reason}). Copy it again, or convert it to JPEG or PNG."
        ) from error


def as_photo(image: Any) -> NDArray[np.uint8]:
    """Turn an array or tensor into (H,W,3) uint8 RGB.

    Args:
        image: (H,W), (H,W,1), (H,W,3) or (H,W,4) array, or (3,H,W) or (1,H,W) tensor; uint8,
            uint16, bool, or float in [0,1]. A fourth channel is opacity: the picture lies on white.

    Raises:
        ValueError: another shape or dtype, no pixels, or floats outside [0,1] (0 to 255?).
    """
    if hasattr(image, "detach"):  # a tensor
        image = image.detach().cpu().numpy()
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ValueError(f"A photo should be (H,W,3), (H,W,4) or (H,W), found {array.shape}.")
    array = _eight_bits(array)
    if array.shape[2] == 4:
        array = _on_white(array)
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def _decode(data: bytes) -> tuple[NDArray[Any], int]:
    """Return the stored pixels, RGB order, and the EXIF orientation (1 = upright)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "large picture": the user asked for it
            header = Image.open(io.BytesIO(data))
            orientation = int(header.getexif().get(_ORIENTATION, 1) or 1)
            if header.format == "TIFF":
                orientation = 1  # both decoders turn these themselves
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, TypeError):
        header, orientation = None, 1
    # OpenCV reads 16 bits of colour, which Pillow cannot; Pillow knows palettes, CMYK and alpha.
    simple = header is None or header.mode in ("RGB", "L") or header.mode in _SIXTEEN_BIT
    if simple:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None:
            return _rgb_order(pixels), orientation
    if header is None:
        raise ValueError("no known picture format")
    if header.mode in _SIXTEEN_BIT:
        return np.asarray(header), orientation
    has_alpha = "A" in header.getbands() or "transparency" in header.info
    return np.asarray(header.convert("RGBA" if has_alpha else "RGB")), orientation


def _rgb_order(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, code))


def _eight_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(array, alpha=1 / 257), np.uint8).reshape(array.shape)
    if array.dtype == np.int32:  # Pillow's grey of 16 bits
        return _eight_bits(array.clip(0, 65535).astype(np.uint16))
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(np.nanmin(array)), float(np.nanmax(array))
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(
                f"float pictures should be in [0, 1], found [{low:.3g}, {high:.3g}]; divide by 255?"
            )
        return np.asarray(np.rint(np.nan_to_num(array).clip(0, 1) * 255), np.uint8)
    raise ValueError(f"a picture should be uint8, uint16 or float, found {array.dtype}.")


def _on_white(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if (array[:, :, 3] == 255).all():
        return np.asarray(array[:, :, :3])
    alpha = array[:, :, 3:].astype(np.uint16)
    mixed = array[:, :, :3] * alpha + 255 * (255 - alpha)
    opaque: NDArray[np.uint8] = ((mixed + 127) // 255).astype(np.uint8)
    return opaque


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a picture upright (EXIF 2.3, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
