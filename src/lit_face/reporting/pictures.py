"""Pictures of reconstructions: points and meshes over the photographs, contact sheets."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from lit_face.rendering.drawing import draw_landmarks, mesh_overlay, to_pixels
from lit_face.types import FaceBatch, Reconstruction

TRUE_COLOUR, PREDICTED_COLOUR = (64, 220, 96), (255, 72, 72)  # RGB


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
