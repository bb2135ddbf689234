"""What every face finder returns, and how boxes are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]
# `box_of_five_points`, measured as it says: against the nose, below the middle, side of the box.
_ASIDE, _BELOW, _SIDE = -1.58, 0.089, 1.61


@dataclass(frozen=True, eq=False)
class Detection:
    """One face that a finder found.

    Attributes:
        box: left, top, right, bottom, pixels: the tight box of the 68 landmarks, as well as the
            finder can tell.
        confidence: in [0,1]; 1 where somebody else vouches for the box.
        landmarks: (68,2) iBUG order, pixels, where the finder has them.
        skin_mask: (H,W) uint8 of the picture, 255 = skin, where the finder has one.
        five_points: (5,2) pixels, eyes, nose and corners of the mouth (left before right as they
            lie in the picture), where the finder has only these, or no better ones to crop by.
    """

    box: tuple[float, float, float, float]
    confidence: float = 1.0
    landmarks: Points | None = None
    skin_mask: Picture | None = None
    five_points: Points | None = None

    @property
    def size(self) -> float:
        """Mean of width and height, pixels."""
        left, top, right, bottom = self.box
        return (right - left + bottom - top) / 2

    def scaled(self, factor: float) -> Detection:
        """Follow an enlargement of the picture; pixel centres are at whole numbers."""
        shift = (factor - 1) / 2
        left, top, right, bottom = (factor * edge + shift for edge in self.box)
        points = None if self.landmarks is None else factor * self.landmarks + shift
        five = None if self.five_points is None else factor * self.five_points + shift
        box = (left, top, right, bottom)
        return Detection(box, self.confidence, points, five_points=five)


class FaceFinder(Protocol):
    """Finds faces in a picture; `path` is the photo's file, for finders that read a list."""

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a picture (H,W,3) RGB, the largest first."""
        ...


class BoxRule(NamedTuple):
    """Turns a detector's own square into the landmarks' box: all in sides of that square.

    Attributes:
        x: from the square's centre to the box's centre, to the right.
        y: downwards.
        width: of the box.
        height: of the box.
    """

    x: float
    y: float
    width: float
    height: float

    def box(self, left: float, top: float, side: float) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of the landmarks' box of a detector's square."""
        x, y = left + (0.5 + self.x) * side, top + (0.5 + self.y) * side
        half_width, half_height = self.width * side / 2, self.height * side / 2
        return x - half_width, y - half_height, x + half_width, y + half_height


def box_of_landmarks(points: Points) -> tuple[float, float, float, float]:
    """Return the tight box of points (N,2), pixels."""
    left, top = points[:, :2].min(axis=0)
    right, bottom = points[:, :2].max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def box_of_five_points(points: Points) -> tuple[float, float, float, float]:
    """Estimate the box of the 68 landmarks from five points (5,2), pixels.

    A square, its side in proportion to the diagonal of the eyes' distance and that from eyes to
    mouth, which yaw and pitch shorten in turn. A nose to one side means that the rest of the face
    lies on the other one. On 640 procedural heads in the poses of FFHQ's miniature the side was
    2.9 % off on average, the centre 2.8 % of the side, and boxes shared 90 % (of their union) with
    the true ones.
    """
    eyes, mouth, nose = points[:2].mean(axis=0), points[3:].mean(axis=0), points[2]
    middle, down = (eyes + mouth) / 2, mouth - eyes
    length = float(np.hypot(*down))
    unit = float(np.hypot(length, np.hypot(*(points[1] - points[0]))))
    down = down / max(length, 1e-9)
    across = np.array([down[1], -down[0]])
    aside = float((nose - middle) @ across)
    x, y = middle + _ASIDE * aside * across + _BELOW * unit * down
    half = _SIDE * unit / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


def overlap(first: Detection, second: Detection) -> float:
    """Return the share of the smaller box that lies in the other one."""
    a, b = first.box, second.box
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0.0) * max(height, 0.0) / max(smaller, 1e-9)


def without_doubles(found: list[Detection], most: float = 0.5) -> list[Detection]:
    """Keep, of boxes that share more than `most` of the smaller one, the most confident."""
    kept: list[Detection] = []
    for candidate in sorted(found, key=lambda detection: -detection.confidence):
        if all(overlap(candidate, other) <= most for other in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda detection: -detection.size)
