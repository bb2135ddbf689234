"""Cameras, photos and JSON files of FaceScape's folders, raw or processed, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_face.data.errors import DatasetNotFoundError

_ROTATION_TOLERANCE = 1e-3
_MIDDLE = (0.3, 0.7)  # where the principal point may be, share of the photo


class ViewCameras(NamedTuple):
    """Cameras of some views, OpenCV axes.

    Attributes:
        K: (N,3,3) float64 pixels, the centre of the first pixel at (0, 0).
        Rt: (N,3,4) float64 world to camera, units of structure from motion.
        heights: (N,) int64 pixels.
        widths: (N,) int64 pixels.
    """

    K: NDArray[np.float64]
    Rt: NDArray[np.float64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


def read_cameras(params: Mapping[str, Any], views: Sequence[int], path: Path) -> ViewCameras:
    """Take cameras out of the content of a params.json, raw or processed.

    Args:
        params: its content.
        views: in this order.
        path: for messages.

    Raises:
        ValueError: a missing key, a wrong shape, a value that is not finite, no rotation, or a
            principal point far from the middle (intrinsics of another image size).
    """
    if not len(views):
        raise ValueError(f"{path}: no views were asked for.")
    K = np.stack([view_array(params, view, "K", (3, 3), path) for view in views])
    Rt = np.stack([view_array(params, view, "Rt", (3, 4), path) for view in views])
    sizes = [[_pixels(params, view, key, path) for key in ("height", "width")] for view in views]
    for row, view in enumerate(views):
        _check_intrinsics(K[row], sizes[row], f"{path}: '{view}_K'")
        rotation = Rt[row, :, :3]
        off = np.abs(rotation @ rotation.T - np.eye(3)).max()
        if abs(np.linalg.det(rotation) - 1) > _ROTATION_TOLERANCE or off > _ROTATION_TOLERANCE:
            raise ValueError(
                f"{path}: '{view}_Rt' is no rotation and translation "
                f"(det {np.linalg.det(rotation):.4f}, R Rt differs from 1 by {off:.4f})."
            )
    heights, widths = np.array(sizes, np.int64).T
    return ViewCameras(K, Rt, heights, widths)


def view_array(
    params: Mapping[str, Any], view: int, key: str, shape: tuple[int, ...], path: Path
) -> NDArray[np.float64]:
    """Return the finite numbers at `<view>_<key>`; of more (4 x 4), the leading part."""
    name = f"{view}_{key}"
    if name not in params:
        raise ValueError(f"{path}: no key '{name}': view {view} has no camera.")
    try:
        value = np.asarray(params[name], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: '{name}' should be {shape} numbers ({error}).") from error
    if value.shape == (4, 4):
        value = value[: shape[0], : shape[-1]]
    if value.shape != shape:
        raise ValueError(f"{path}: '{name}' should be {shape} numbers, found {value.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{path}: '{name}' has values that are not finite.")
    return value


def lens_distortion(params: Mapping[str, Any], view: int, path: Path) -> NDArray[np.float64]:
    """Return k1 k2 p1 p2 k3 of a view's lens; zeros without such a key (undistorted photos)."""
    if f"{view}_distortion" not in params:
        return np.zeros(5)
    return view_array(params, view, "distortion", (5,), path)


def check_photo_size(photo: Path, view: int, height: int, width: int) -> None:
    """Check by its header that a photo is there and has the size that params.json says.

    Raises:
        DatasetNotFoundError: no such photo.
        ValueError: no picture, or of another size.
    """
    if not photo.is_file():
        raise DatasetNotFoundError(f"{photo}: view {view} has no photo.")
    try:
        with Image.open(photo) as header:
            found = header.size[::-1]
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{photo}: not a picture that can be read ({error}).") from error
    if found != (height, width):
        turned = " (transposed: was it turned by its EXIF?)" if found == (width, height) else ""
        raise ValueError(
            f"{photo}: {found[0]} x {found[1]} pixels (height x width), but '{view}_height' and "
            f"'{view}_width' in params.json say {height} x {width}{turned}."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object; unchanged files are parsed once.

    Raises:
        DatasetNotFoundError: no such file.
        ValueError: broken, or no object.
    """
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise DatasetNotFoundError(
            f"{path} is missing; see docs/data/facescape.md for what a folder holds."
        ) from error
    return _parsed(path, stamp)


@lru_cache(maxsize=64)
def _parsed(path: Path, stamp: int) -> dict[str, Any]:
    del stamp  # a changed file is another entry
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: broken JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: should hold an object, found {type(content).__name__}.")
    return content


def _check_intrinsics(K: NDArray[np.float64], size: Sequence[int], where: str) -> None:
    height, width = size
    share = K[0, 2] / width, K[1, 2] / height
    if not all(_MIDDLE[0] <= value <= _MIDDLE[1] for value in share):
        raise ValueError(
            f"{where} has its principal point at ({K[0, 2]:.1f}, {K[1, 2]:.1f}) of a photo "
            f"{width} pixels wide and {height} high: intrinsics of another image size?"
        )
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[2] - (0, 0, 1)).max() > 1e-6:
        raise ValueError(f"{where} is no pinhole camera: {K.tolist()}.")


def _pixels(params: Mapping[str, Any], view: int, key: str, path: Path) -> int:
    name = f"{view}_{key}"
    if name not in params:
        raise ValueError(f"{path}: no key '{name}': view {view} has no camera.")
    value = params[name]
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 2 or value % 1:
        raise ValueError(f"{path}: '{name}' should be a number of pixels, found {value!r}.")
    return int(value)
