"""OpenCV's cascades: frontal, profile and mirrored profile; nothing to download."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.inference.finders.base import (
    BoxRule,
    Detection,
    Picture,
    overlap,
    without_doubles,
)

TILT = 25.0  # degrees
_SMALLEST_SQUARE = 24  # pixels; the cascades were trained on 24 and 20


class _Cascade(NamedTuple):
    """A cascade file; where its squares lie around the landmarks; what its scores mean."""

    file: str
    mirrored: bool
    rule: BoxRule
    even_score: float  # as many true as false detections have it
    score_scale: float


# Measured on rendered faces by bench/face_finder.py, which prints these lines.
_CASCADES = (
    _Cascade("frontalface_default", False, BoxRule(0.0, 0.141, 0.822, 0.860), 0.91, 1.56),
    _Cascade("profileface", False, BoxRule(-0.033, 0.119, 0.633, 0.707), -1.09, 0.97),
    _Cascade("profileface", True, BoxRule(0.033, 0.119, 0.633, 0.707), -1.09, 0.97),
)


class CascadeFinder:
    """Viola and Jones (2001) as OpenCV 4 bundles it: quick, upright faces, some false alarms.

    Args:
        max_side: pictures are searched on a copy no larger than this, pixels.
        smallest: smallest face, as a share of the picture's longer side.
        min_confidence: weaker detections are dropped.
        speckle: detections below this share of the largest face's size are dropped, unless they
            are sure (0.95).
        neighbours: how many overlapping hits make a detection.
        second_look: where nothing is found, look for faces of half that size on a copy of twice
            that size, then on copies turned by 25 degrees either way.

    Raises:
        ImportError: OpenCV 5 or later, which has no cascades.
    """

    gives_landmarks = False

    def __init__(
        self,
        max_side: int = 640,
        smallest: float = 0.06,
        min_confidence: float = 0.5,
        speckle: float = 0.35,
        neighbours: int = 2,
        second_look: bool = True,
    ) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"OpenCV {cv2.__version__} has no cascades; pip install 'opencv-python<5', or use "
                "another finder (finder=mediapipe)."
            )
        self.max_side, self.smallest, self.neighbours = max_side, smallest, neighbours
        self.min_confidence, self.speckle = min_confidence, speckle
        self.second_look = second_look

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a picture (H,W,3) RGB, the largest first."""
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        found = self._look(grey, self.max_side, self.smallest)
        if not found and self.second_look:
            found = self._look(grey, 2 * self.max_side, self.smallest / 2)
        if not found and self.second_look:
            found = self._look(grey, self.max_side, self.smallest, tilted=True)
        largest = max((detection.size for detection in found), default=0.0)
        return [d for d in found if d.size >= self.speckle * largest or d.confidence >= 0.95]

    def _look(
        self, grey: NDArray[Any], max_side: int, smallest: float, *, tilted: bool = False
    ) -> list[Detection]:
        """Search a copy of at most `max_side` pixels; return boxes in pixels of the picture."""
        height, width = grey.shape
        shrink = min(1.0, max_side / max(height, width))
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        small: NDArray[np.uint8] = np.asarray(grey, np.uint8)
        least = max(_SMALLEST_SQUARE, round(smallest * max(small.shape)))
        if min(small.shape) < least:
            return []
        found = (self._tilted if tilted else self._search)(small, least)
        return [detection.scaled(width / small.shape[1]) for detection in found]

    def _search(self, grey: NDArray[np.uint8], least: int) -> list[Detection]:
        """Run all cascades and unite what they found."""
        found = []
        for cascade in _CASCADES:
            seen = np.ascontiguousarray(grey[:, ::-1]) if cascade.mirrored else grey
            for left, top, side, score in raw_squares(cascade.file, seen, least, self.neighbours):
                if cascade.mirrored:
                    left = grey.shape[1] - left - side
                # A square of `side` pixels from column `left` spans left - 0.5 to left + side - 0.5
                box = cascade.rule.box(left - 0.5, top - 0.5, side)
                sureness = (score - cascade.even_score) / cascade.score_scale
                found.append(Detection(box, 1 / (1 + math.exp(-max(-60.0, sureness)))))
        return [d for d in united(found) if d.confidence >= self.min_confidence]

    def _tilted(self, grey: NDArray[np.uint8], least: int) -> list[Detection]:
        """Search copies that are turned to either side; boxes are put upright around the centre."""
        height, width = grey.shape
        found = []
        for angle in (-TILT, TILT):
            turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
            turned = cv2.warpAffine(grey, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
            back = cv2.invertAffineTransform(turn)
            for detection in self._search(np.asarray(turned, np.uint8), least):
                left, top, right, bottom = detection.box
                x, y = back @ ((left + right) / 2, (top + bottom) / 2, 1.0)
                half_width, half_height = (right - left) / 2, (bottom - top) / 2
                box = (x - half_width, y - half_height, x + half_width, y + half_height)
                found.append(Detection(box, detection.confidence))
        return without_doubles(found)


def united(found: list[Detection]) -> list[Detection]:
    """Keep the surest of overlapping boxes, surer still where several agree in size and place."""
    agreed = []
    for detection in found:
        doubt = 1 - detection.confidence
        for other in found:
            near = other is not detection and overlap(detection, other) > 0.6
            if near and 0.6 < other.size / max(detection.size, 1e-6) < 1.7:
                doubt *= 1 - 0.5 * other.confidence
        agreed.append(Detection(detection.box, 1 - doubt))
    return without_doubles(agreed)


def raw_squares(
    name: str, grey: NDArray[np.uint8], least: int, neighbours: int
) -> list[tuple[float, float, float, float]]:
    """Run one cascade; return left, top, side (pixels) and score of what it found.

    Args:
        name: of OpenCV's file, between `haarcascade_` and `.xml`.
        grey: (H,W).
        least: smallest square, pixels.
        neighbours: overlapping hits that make a detection.
    """
    boxes, _, scores = _classifier(name).detectMultiScale3(
        grey,
        scaleFactor=1.1,
        minNeighbors=neighbours,
        minSize=(least, least),
        outputRejectLevels=True,
    )
    return [
        (float(left), float(top), float(side), float(score))
        for (left, top, side, _), score in zip(boxes, np.ravel(scores), strict=True)
    ]


_of_thread = threading.local()  # a classifier serves one thread at a time


def _classifier(name: str) -> cv2.CascadeClassifier:
    loaded: dict[str, cv2.CascadeClassifier] = _of_thread.__dict__
    if name not in loaded:
        file = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
        loaded[name] = cv2.CascadeClassifier(str(file))
        if loaded[name].empty():
            raise ImportError(f"{file} is missing; reinstall opencv-python (version 4).")
    return loaded[name]
