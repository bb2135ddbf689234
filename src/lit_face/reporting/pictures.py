"""Pictures of reconstructions: points and meshes over the photographs, contact sheets."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.types import FaceBatch, Reconstruction

TRUE_COLOUR, PREDICTED_COLOUR = (64, 220, 96), (255, 72, 72)  # RGB
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
    picture: np.ndarray, landmarks: np.ndarray, colour: tuple[int, int, int]
) -> np.ndarray:
    """Draw 68 points (68,2|3), pixels, and the lines between them on a copy of (H,W,3) uint8."""
    canvas = np.ascontiguousarray(picture).copy()
    points = np.round(np.nan_to_num(landmarks[:, :2]) * 16).astype(np.int32)
    for start, end in itertools.pairwise(_LINE_STARTS):
        cv2.polylines(canvas, [points[start:end]], start in _CLOSED, colour, 1, cv2.LINE_AA, 4)
    radius = max(16, picture.shape[0] // 10)
    for x, y in points:
        cv2.circle(canvas, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA, 4)
    return canvas


def comparison(
    batch: FaceBatch, reconstruction: Reconstruction, smallest: int = 192
) -> list[np.ndarray]:
    """For each face: image, points (true green, predicted red) and mesh, side by side.

    Args:
        batch: crops and, where there are any, true landmarks.
        reconstruction: of the batch.
        smallest: pictures below this side, pixels, are enlarged by a whole factor.
    """
    zoom = max(1, -(-smallest // batch.image.shape[-1]))
    image = F.interpolate(batch.image.float(), scale_factor=zoom, mode="bicubic").clamp(0, 1)
    pixels = to_pixels(image)
    meshes = to_pixels(
        mesh_overlay(image, _zoomed(reconstruction.image_vertices, zoom), reconstruction.faces)
    )
    predicted = _zoomed(reconstruction.landmarks, zoom).cpu().numpy()
    rows = []
    for row, (picture, mesh) in enumerate(zip(pixels, meshes, strict=True)):
        points = picture
        if batch.landmarks is not None:
            true = _zoomed(batch.landmarks[row], zoom).cpu().numpy()
            points = draw_landmarks(points, true, TRUE_COLOUR)
        points = draw_landmarks(points, predicted[row], PREDICTED_COLOUR)
        rows.append(np.concatenate([picture, points, mesh], axis=1))
    return rows


def _zoomed(points: Tensor, zoom: int) -> Tensor:
    """Follow an enlargement by a whole factor: (...,3) pixels, the first pixel's centre at 0."""
    moved = points.float() * zoom
    moved[..., :2] += (zoom - 1) / 2
    return moved


def panel(batch: FaceBatch, reconstruction: Reconstruction, faces: int) -> np.ndarray:
    """Stack the comparisons of the first `faces` faces into one picture (H,W,3) uint8."""
    count = min(faces, len(batch))
    first = batch.map(lambda tensor: tensor[:count])
    kept = Reconstruction(
        image_vertices=reconstruction.image_vertices[:count],
        vertices=reconstruction.vertices[:count],
        faces=reconstruction.faces,
        uv=reconstruction.uv,
        landmarks=reconstruction.landmarks[:count],
    )
    return contact_sheet(comparison(first, kept), columns=2)


def contact_sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Tile equally sized uint8 pictures (H,W,3) row by row; missing tiles stay white."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = picture
    return sheet
