"""FaceScape's displacement maps: 16 bits, 32768 is 0, the full range is 0.914 mm each way.

The canvas is the template's UV square, 4096 texels a side; the facial window is what the released
network predicts, the core is what the maps of a base mesh cover. All are texel-centred, row 0 on
top (v = 1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_write

RANGE_MM = 0.914  # displacement outwards of a full level
CANVAS = 4096  # texels
_ZERO = 32768
_WINDOW_TOP, _WINDOW_LEFT, _WINDOW_SIDE = 600, 1100, 1900  # of 4096
_CORE_TOP, _CORE_LEFT, _CORE_SIDE = 576, 1024, 2048
_WINDOW_STEP, _CORE_STEP = 1024, 64  # sides that the boxes divide

Box = tuple[slice, slice]


def facial_window(size: int = CANVAS) -> Box:
    """Return rows and columns of the facial window in a canvas.

    Raises:
        ValueError: a side in which the window does not start at a whole texel.
    """
    return _box(size, (_WINDOW_TOP, _WINDOW_LEFT, _WINDOW_SIDE), _WINDOW_STEP, "facial window")


def core_box(size: int = CANVAS) -> Box:
    """Return rows and columns of the core in a canvas; see `facial_window`."""
    return _box(size, (_CORE_TOP, _CORE_LEFT, _CORE_SIDE), _CORE_STEP, "core")


def encode_displacement(
    displacement_mm: NDArray[Any], range_mm: float = RANGE_MM
) -> NDArray[np.uint16]:
    """Return the nearest 16-bit levels of displacements in mm; larger ones are clipped."""
    levels = np.rint(np.asarray(displacement_mm, np.float64) / range_mm * _ZERO) + _ZERO
    return levels.clip(0, 65535).astype(np.uint16)


def decode_displacement(
    levels: NDArray[np.uint16], range_mm: float = RANGE_MM
) -> NDArray[np.float32]:
    """Return displacements in mm, positive outwards, of 16-bit levels.

    Args:
        levels: as in the file.
        range_mm: what a full level is. FaceScape's 0.914 mm hold for faces that were brought to 40
            mm between the inner corners of the eyes; for another distance, scale it.
    """
    return ((levels.astype(np.float32) - _ZERO) / _ZERO * range_mm).astype(np.float32)


def released_levels(output: NDArray[np.float32], side: int | None = None) -> NDArray[np.uint16]:
    """Quantise the network's output as the release does: resized first, then cut, not rounded.

    Args:
        output: (H,W) in [-1,1].
        side: of the result; None keeps the shape. Released: 1900, the facial window.
    """
    found = np.asarray(output, np.float32)
    if side is not None:
        found = cv2.resize(found, (side, side), interpolation=cv2.INTER_LINEAR)
    return ((found + 1) / 2 * 65535).clip(0, 65535).astype(np.uint16)


def on_canvas(levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Paste the facial window (1900,1900) into a canvas that is flat elsewhere.

    Raises:
        ValueError: another shape.
    """
    if levels.shape != (_WINDOW_SIDE, _WINDOW_SIDE):
        raise ValueError(
            f"the facial window should be ({_WINDOW_SIDE}, {_WINDOW_SIDE}), found {levels.shape}."
        )
    canvas = np.full((CANVAS, CANVAS), _ZERO, np.uint16)
    canvas[facial_window()] = levels
    return canvas


def read_displacement_map(path: str | Path, size: int | None = CANVAS) -> NDArray[np.float32]:
    """Read a displacement map.

    Args:
        path: PNG of one channel and 16 bits.
        size: expected side; None takes any square.

    Returns:
        (S,S) mm, positive outwards along the normal.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, 8 bits, several channels or another side; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No displacement map {path}.")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    levels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if levels is None:
        raise ValueError(f"{path}: not a picture that can be decoded; copy the file again.")
    if levels.dtype != np.uint16:
        raise ValueError(
            f"{path}: a displacement map has 16 bits, found {8 * levels.dtype.itemsize}; it was "
            "converted and has lost its relief. Copy the original PNG again."
        )
    if levels.ndim != 2:
        raise ValueError(f"{path}: expected one channel, found {levels.shape[2]}.")
    if levels.shape[0] != levels.shape[1] or size not in (None, len(levels)):
        expected = "a square" if size is None else f"({size}, {size})"
        raise ValueError(f"{path}: expected {expected} of texels, found {levels.shape}.")
    return decode_displacement(levels)


def write_displacement_map(path: str | Path, levels: NDArray[np.uint16]) -> None:
    """Write 16-bit levels (S,S) as PNG.

    Raises:
        ValueError: another dtype, shape or suffix.
        OSError: the disk is full.
    """
    path = Path(path)
    if levels.dtype != np.uint16 or levels.ndim != 2 or levels.shape[0] != levels.shape[1]:
        raise ValueError(f"{path}: expected uint16 (S,S), found {levels.dtype} {levels.shape}.")
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: displacement maps are .png, no other suffix keeps 16 bits.")
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), levels):
            raise OSError(f"{path}: OpenCV could not write the picture; is the disk full?")


def _box(size: int, place: tuple[int, int, int], step: int, name: str) -> Box:
    if size % step or size <= 0:
        raise ValueError(
            f"a canvas that is cut to the {name} should have a multiple of {step} texels a side, "
            f"found {size}."
        )
    top, left, side = (value * size // CANVAS for value in place)
    return slice(top, top + side), slice(left, left + side)
