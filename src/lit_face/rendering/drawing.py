"""Faces drawn over photographs: shaded meshes, landmarks, boxes."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

_LINE_STARTS = (0, 17, 22, 27, 31, 36, 42, 48, 60, 68)
_CLOSED = {36, 42, 48, 60}  # eyes, outer and inner lips


def to_pixels(images: Tensor) -> np.ndarray:
    """Turn (...,3,H,W) in [0,1] into uint8 (...,H,W,3)."""
    pixels = images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.movedim(-3, -1).cpu().numpy()


def mesh_overlay(
    image: Tensor, image_vertices: Tensor, faces: Tensor, opacity: float = 0.8
) -> Tensor:
    """Draw grey shaded meshes over images (B,3,H,W); the light comes from the viewer.

    Args:
        image: pictures in [0,1].
        image_vertices: (B,V,3) pixels of the pictures, smaller depth = nearer.
        faces: (F,3) int64.
        opacity: of the mesh.
    """
    vertices = image_vertices.float()
    face_index = rasterize(vertices, faces, (image.shape[2], image.shape[3]))
    fragments = fragments_of(vertices, faces, face_index)
    normals = fragments.to_image(fragments.interpolate(vertex_normals(vertices, faces)))
    facing = F.normalize(normals, dim=1)[:, 2:].abs()
    grey = 0.2 + 0.75 * facing**2
    blend = opacity * (face_index >= 0)[:, None].to(image.dtype)
    return image * (1 - blend) + grey * blend


def draw_landmarks(
    picture: np.ndarray,
    landmarks: np.ndarray,
    colour: tuple[int, int, int],
    radius: float | None = None,
) -> np.ndarray:
    """Draw 68 points (68,2|3), pixels, and the lines between them on a copy of (H,W,3) uint8.

    Args:
        picture: RGB.
        landmarks: NaN is drawn at 0.
        colour: RGB.
        radius: of the points, pixels; None is a 160th of the picture's height.
    """
    canvas = np.ascontiguousarray(picture).copy()
    points = np.round(np.nan_to_num(landmarks[:, :2]) * 16).astype(np.int32)
    for start, end in itertools.pairwise(_LINE_STARTS):
        cv2.polylines(canvas, [points[start:end]], start in _CLOSED, colour, 1, cv2.LINE_AA, 4)
    size = max(16, picture.shape[0] // 10) if radius is None else max(16, round(radius * 16))
    for x, y in points:
        cv2.circle(canvas, (int(x), int(y)), size, colour, -1, cv2.LINE_AA, 4)
    return canvas


def draw_mesh(
    picture: NDArray[np.uint8], points: Tensor, faces: Tensor, opacity: float = 0.6
) -> NDArray[Any]:
    """Draw one grey shaded mesh on a copy of (H,W,3) uint8, touching its own window only.

    Args:
        picture: RGB.
        points: (V,3) pixels of the picture, smaller depth = nearer.
        faces: (F,3) int64.
        opacity: of the mesh.
    """
    canvas = picture.copy()
    height, width = picture.shape[:2]
    low, high = points[:, :2].amin(0).floor(), points[:, :2].amax(0).ceil() + 1
    left, top = (int(v) for v in low.clamp(min=0))
    right, bottom = min(width, int(high[0])), min(height, int(high[1]))
    if right <= left or bottom <= top or not bool(points.isfinite().all()):
        return canvas
    window = torch.from_numpy(np.ascontiguousarray(canvas[top:bottom, left:right]))
    image = window.permute(2, 0, 1)[None].float() / 255
    moved = points - points.new_tensor([left, top, 0.0])
    canvas[top:bottom, left:right] = to_pixels(mesh_overlay(image, moved[None], faces, opacity))[0]
    return canvas
