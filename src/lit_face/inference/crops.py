"""Boxes to square crops, and results back to pixels of the photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.five_points import five_point_box
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import warp_image
from lit_face.geometry.similarity2d import apply_similarity, box_of_points, box_to_crop
from lit_face.rendering.visibility import vertex_visibility
from lit_face.types import Reconstruction

VISIBILITY_SIZE = 256  # pixels of the z-buffer that decides what is seen


def crop_matrices(boxes: Tensor, margin: float, crop_size: int) -> Tensor:
    """Return (N,3,3): pixels of the photo to pixels of the crop around each box.

    Args:
        boxes: (N,4) left, top, right, bottom of the landmarks.
        margin: side of the crop over the mean of the box's width and height.
        crop_size: pixels.
    """
    box = box_of_points(boxes.view(-1, 2, 2), margin)
    return box_to_crop(box._replace(size=box.size.clamp(min=1.0)), crop_size)


def five_point_matrices(points: Tensor, standard: Tensor, crop_size: int) -> Tensor:
    """Return (N,3,3): pixels of the photo to pixels of Deep3D's crop.

    Args:
        points: (N,5,2) pixels of the photo.
        standard: (5,3) decimetres, see `lit_face.geometry.five_points`.
        crop_size: pixels.
    """
    return box_to_crop(five_point_box(points, standard.to(points)), crop_size)


def cut_out(photo: NDArray[np.uint8], matrix: Tensor, crop_size: int) -> Tensor:
    """Read one crop (1,3,S,S) in [0,1]; outside of the photo it is black.

    Only the pixels of the crop are touched. Where they are many more than the crop has, means of
    2 x 2, 4 x 4, ... are read, as in training (`warp_image` with antialias).

    Args:
        photo: (H,W,3) RGB.
        matrix: (3,3) pixels of the photo to pixels of the crop, axis-aligned.
        crop_size: S.
    """
    scale = float(matrix[0, 0])
    factor = 2 ** max(0, round(-math.log2(scale)))
    low = -matrix[:2, 2] / scale
    side = crop_size / scale
    window, origin = window_of(photo, (float(low[0]), float(low[1])), side, factor)
    if window.size == 0:
        return torch.zeros(1, 3, crop_size, crop_size)
    image = torch.from_numpy(window).permute(2, 0, 1)[None]
    inner = _of_window(matrix[None], origin, factor)
    return warp_image(image, inner, (crop_size, crop_size)) / 255


def cut_out_mask(mask: NDArray[np.uint8], matrix: Tensor, crop_size: int) -> Tensor:
    """Read one crop (1,1,S,S) in [0,1] of a mask (H,W), 0 outside; see `cut_out`."""
    return cut_out(np.repeat(mask[..., None], 3, axis=2), matrix, crop_size)[:, :1]


def window_of(
    photo: NDArray[np.uint8], low: tuple[float, float], side: float, factor: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Cut a square with some room out of a photo and shrink it by a whole factor.

    Returns:
        The window, empty where the square lies outside of the photo, and the photo's pixel (x, y)
        where it starts.
    """
    height, width = photo.shape[:2]
    room = 2 * factor
    # From a multiple of the factor, so that the same pixels are averaged as in the whole picture.
    left, top = (max(0, math.floor(edge) - room) // factor * factor for edge in low)
    right = min(width, math.ceil(low[0] + side) + room)
    bottom = min(height, math.ceil(low[1] + side) + room)
    if right <= left or bottom <= top:
        return photo[:0, :0], (0, 0)
    window = photo[top:bottom, left:right]
    if factor > 1:
        rows, columns = -(-window.shape[0] // factor), -(-window.shape[1] // factor)
        spare = (rows * factor - window.shape[0], columns * factor - window.shape[1])
        window = np.pad(window, ((0, spare[0]), (0, spare[1]), (0, 0)), mode="edge")
        window = cv2.resize(window, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(window), (left, top)


def window_points(points: Tensor, origin: tuple[int, int], factor: int) -> Tensor:
    """Move points (...,2) from pixels of the photo to pixels of a window of it."""
    return (points - points.new_tensor(origin) - (factor - 1) / 2) / factor


def _of_window(matrix: Tensor, origin: tuple[int, int], factor: int) -> Tensor:
    """Return the matrix that maps pixels of the window to what `matrix` maps the photo to."""
    shift = [start + (factor - 1) / 2 for start in origin]
    lift = matrix.new_tensor([[factor, 0, shift[0]], [0, factor, shift[1]], [0, 0, 1]])
    return matrix @ lift


@fp32_region()
def to_photo(reconstruction: Reconstruction, matrices: Tensor) -> Reconstruction:
    """Move a batch from pixels of its crops to pixels of its photos.

    Args:
        reconstruction: in pixels of the crops.
        matrices: (B,3,3) photo to crop.
    """
    back = torch.linalg.inv(matrices.double()).to(reconstruction.image_vertices)
    camera = reconstruction.camera
    return replace(
        reconstruction,
        image_vertices=apply_similarity(back, reconstruction.image_vertices),
        landmarks=apply_similarity(back, reconstruction.landmarks),
        camera=None if camera is None else camera.warped(back),
    )


@fp32_region()
def visibility_in_photos(
    image_vertices: Tensor, faces: Tensor, sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """Tell for each vertex (B,V) whether its photo shows it: 1 or 0.

    Every face is put into a frame of 256 pixels, so that the time does not depend on the photo.

    Args:
        image_vertices: (B,V,3) pixels of the photos, smaller depth = nearer.
        faces: (F,3) int64.
        sizes: height and width of each photo.
    """
    low = image_vertices.amin(1, keepdim=True)
    high = image_vertices.amax(1, keepdim=True)
    extent = (high - low)[..., :2].amax(-1, keepdim=True).clamp(min=1e-6)
    framed = (image_vertices - low) * ((VISIBILITY_SIZE - 1) / extent)
    seen = vertex_visibility(framed, faces, (VISIBILITY_SIZE, VISIBILITY_SIZE))
    limits = image_vertices.new_tensor([(width, height) for height, width in sizes])[:, None] - 0.5
    x_y = image_vertices[..., :2]
    return seen * ((x_y >= -0.5) & (x_y <= limits)).all(-1)
