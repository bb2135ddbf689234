"""A photo with its faces drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.inference.face import Face
from lit_face.inference.outputs.export import Export
from lit_face.io.images import write_image
from lit_face.rendering.drawing import draw_landmarks, draw_mesh

LARGEST = 1600  # pixels; larger photos are drawn on a smaller copy
_POINTS, _BOX = (64, 220, 96), (255, 190, 40)  # RGB


def draw_overlay(
    photo: NDArray[np.uint8], faces: Sequence[Face], largest: int = LARGEST
) -> NDArray[np.uint8]:
    """Draw meshes, landmarks and boxes of faces on a photo (H,W,3) uint8.

    Args:
        photo: RGB.
        faces: of this photo; those far away first, so that near ones cover them.
        largest: longer side of the result at most, pixels.
    """
    height, width = photo.shape[:2]
    shrink = min(1.0, largest / max(height, width))
    canvas = photo
    if shrink < 1:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        canvas = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        shrink = size[0] / width
    line = max(1, round(max(canvas.shape) / 800))
    for face in sorted(faces, key=lambda one: one.box[3] - one.box[1]):
        points = face.reconstruction.image_vertices[0] * shrink
        points[:, :2] += (shrink - 1) / 2
        canvas = draw_mesh(canvas, points, face.reconstruction.faces)
        landmarks = face.landmarks[:, :2] * shrink + (shrink - 1) / 2
        radius = max(1.0, float(np.ptp(landmarks, axis=0).mean()) / 100)
        canvas = draw_landmarks(canvas, landmarks, _POINTS, radius)
        left, top, right, bottom = (round(float(np.clip(e * shrink, -1e4, 1e4))) for e in face.box)
        cv2.rectangle(canvas, (left, top), (right, bottom), _BOX, line, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def write_overlay(exports: Sequence[Export], folder: Path) -> None:
    """Write overlay.jpg with all faces of a photo."""
    picture = draw_overlay(exports[0].photo, [export.face for export in exports])
    write_image(folder / "overlay.jpg", picture)
