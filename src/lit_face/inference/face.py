"""One face of a photo: what `FaceModel.reconstruct` returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.types import Reconstruction

SMALL_BOX = 48.0  # pixels: less than half of what the usual networks see of a face
EXTREME_ANGLES = (40.0, 70.0, 60.0)  # pitch, yaw, roll, degrees
MANY_OUTSIDE = 0.02  # share of all points beyond the picture's edge


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of its photo.

    Attributes:
        box: left, top, right, bottom: the landmarks' box as the finder had it.
        confidence: of the finder, in [0,1].
        reconstruction: a batch of one, on the CPU, with visibility and camera.
        angles: pitch, yaw, roll in degrees (`lit_face.geometry.rotations`): positive pitch looks
            up, positive yaw turns the nose to the image's left, positive roll leans the head to
            the image's right.
        photo_size: height and width.
        warnings: what may have gone wrong, one sentence each.
        fit: errors by name where the face was refined: `photo_l1_before` and `_after` (linear
            light, of flame_fit sRGB values), `landmarks_px_before` and `_after` (pixels of the
            crop), and what else the method measures.
        trace: losses by name, a number a step, where the method keeps them.
        skin_mask: (H,W) uint8 of the photo, 255 = skin, where the finder has one.
    """

    box: tuple[float, float, float, float]
    confidence: float
    reconstruction: Reconstruction
    angles: tuple[float, float, float]
    photo_size: tuple[int, int]
    warnings: list[str] = field(default_factory=list)
    fit: dict[str, float] = field(default_factory=dict)
    trace: dict[str, list[float]] = field(default_factory=dict)
    skin_mask: NDArray[np.uint8] | None = None

    @cached_property
    def visibility_share(self) -> float:
        """Share of the vertices that are seen."""
        visibility = self.reconstruction.visibility
        return float("nan") if visibility is None else float(visibility.mean())

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """The 68 landmarks (68,3): x, y in pixels of the photo, depth (smaller = nearer)."""
        return self.reconstruction.landmarks[0].numpy()

    @property
    def points(self) -> NDArray[np.float32]:
        """All vertices (V,3), in the frame of the landmarks."""
        return self.reconstruction.image_vertices[0].numpy()

    @cached_property
    def landmark_visibility(self) -> NDArray[np.float32]:
        """(68,) visibility of the vertex that is closest to each landmark."""
        reconstruction = self.reconstruction
        if reconstruction.visibility is None:
            return np.full(68, np.nan, np.float32)
        distance = torch.cdist(reconstruction.landmarks[0], reconstruction.image_vertices[0])
        return reconstruction.visibility[0][distance.argmin(1)].numpy()


def one_of(batch: Reconstruction, row: int) -> Reconstruction:
    """Take one face out of a batch; topology is shared, not copied."""

    def take(tensor: Tensor) -> Tensor:
        return tensor[row : row + 1]

    return replace(batch.map(take), faces=batch.faces, uv=batch.uv, transfer=batch.transfer)


def warnings_of(
    box: tuple[float, float, float, float],
    angles: tuple[float, float, float],
    landmarks: Tensor,
    points: Tensor,
    photo_size: tuple[int, int],
) -> list[str]:
    """Say what makes a result doubtful.

    Args:
        box: left, top, right, bottom, pixels.
        angles: pitch, yaw, roll, degrees.
        landmarks: (68,3) pixels.
        points: (V,3) pixels.
        photo_size: height and width.
    """
    found = []
    left, top, right, bottom = box
    side = (right - left + bottom - top) / 2
    if side < SMALL_BOX:
        found.append(f"box too small ({side:.0f} pixels; {SMALL_BOX:.0f} or more are needed)")
    for name, angle, most in zip(("pitch", "yaw", "roll"), angles, EXTREME_ANGLES, strict=True):
        if abs(angle) > most:
            found.append(f"extreme pose ({name} {angle:.0f} degrees)")
    lost = int(_outside(landmarks, photo_size).sum())
    if lost:
        found.append(f"face cut off ({lost} of {len(landmarks)} landmarks outside the picture)")
    share = float(_outside(points, photo_size).float().mean())
    if share > MANY_OUTSIDE:
        found.append(f"points outside the picture ({share:.0%})")
    return found


def _outside(points: Tensor, photo_size: tuple[int, int]) -> Tensor:
    height, width = photo_size
    x, y = points[:, 0], points[:, 1]
    return (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
