"""Photos and cameras of one FaceScape sample as the multi-view methods take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.io.images import read_image

Array = NDArray[Any]


class Photos(NamedTuple):
    """Photos of one size with their cameras.

    Attributes:
        images: (N,H,W,3) uint8 RGB, wide ones; high ones were transposed.
        K: (N,3,3) float64, pixels of `images`.
        Rt: (N,3,4) float64, as in the files.
    """

    images: NDArray[np.uint8]
    K: NDArray[np.float64]
    Rt: NDArray[np.float64]


def read_views(
    folder: FaceScapeFolder,
    sample: str,
    views: Sequence[int],
    scale: float = 1.0,
    *,
    pixel_center: bool = True,
) -> Photos:
    """Read the photos of some views of a sample and bring them to one size.

    Args:
        folder: processed.
        sample: its name.
        views: in this order.
        scale: of the photos' sides.
        pixel_center: whether intrinsics follow the centres of pixels; the reference's do not.

    Raises:
        DatasetNotFoundError: a missing file.
        ValueError: photos of another size than params.json says, or of several sizes.
    """
    cameras = folder.cameras(sample, views)
    images: list[Array] = []
    intrinsics: list[Array] = []
    for row, view in enumerate(views):
        path = folder.image_file(sample, view)
        photo = read_image(path)
        expected = int(cameras.heights[row]), int(cameras.widths[row])
        if photo.shape[:2] != expected:
            raise ValueError(
                f"{path}: {photo.shape[0]} x {photo.shape[1]} pixels (height x width), but "
                f"'{view}_height' and '{view}_width' in {folder.params_file(sample)} say "
                f"{expected[0]} x {expected[1]}."
            )
        image, K = scaled(photo, cameras.K[row], scale, pixel_center=pixel_center)
        image, K = lying(image, K)
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{path}: {image.shape[:2]} pixels where view {views[0]} has "
                f"{images[0].shape[:2]}; photos of one sample should have one size (or be turned)."
            )
        images.append(image)
        intrinsics.append(K)
    return Photos(np.stack(images), np.stack(intrinsics), cameras.Rt)


def scaled(
    image: Array, K: Array, scale: float, *, pixel_center: bool = True
) -> tuple[Array, Array]:
    """Resize a photo (H,W,3) by a factor, and its intrinsics (3,3) with it.

    The centre of the first pixel is (0, 0), so x becomes s (x + 0.5) - 0.5. The reference scales K
    alone and shrinks by plain bilinear interpolation (`pixel_center` false).
    """
    height, width = image.shape[:2]
    round_side = round if pixel_center else int
    size = max(1, round_side(width * scale)), max(1, round_side(height * scale))
    if size == (width, height):
        return image, K
    shrinks = pixel_center and scale < 1
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, size, interpolation=mode))
    if not pixel_center:
        return small, np.diag([scale, scale, 1.0]) @ K
    across, down = size[0] / width, size[1] / height
    matrix = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    return small, matrix @ K


def lying(image: Array, K: Array) -> tuple[Array, Array]:
    """Transpose a photo that is higher than wide, rows 0 and 1 of its intrinsics with it."""
    if image.shape[0] <= image.shape[1]:
        return image, K
    return np.ascontiguousarray(image.transpose(1, 0, 2)), K[[1, 0, 2]]
