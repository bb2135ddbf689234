"""OpenCV's cascades: frontal, profile and mirrored profile; nothing to download."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.inference.finders.base import BoxRule, Detection, Picture, without_doubles


class _Cascade(NamedTuple):
    """A cascade file; where its squares lie around the landmarks; what its scores mean."""

    file: str
    mirrored: bool
    rule: BoxRule
    even_score: float  # as many true as false detections have it
    score_scale: float


# Measured on rendered faces by bench/face_finder.py, which prints these lines.
_CASCADES = (
    _Cascade("frontalface_default", False, BoxRule(0.0, 0.143, 0.814, 0.836), 1.5, 1.0),
    _Cascade("profileface", False, BoxRule(-0.031, 0.124, 0.638, 0.703), 0.3, 0.5),
    _Cascade("profileface", True, BoxRule(0.031, 0.124, 0.638, 0.703), 0.3, 0.5),
)


class CascadeFinder:
    """Viola and Jones (2001) as OpenCV 4 bundles it: quick, upright faces, some false alarms.

    Args:
        max_side: pictures are searched on a copy no larger than this, pixels.
        smallest: smallest face, as a share of the picture's longer side.
        min_confidence: weaker detections are dropped.
        speckle: detections below this share of the largest face's size are dropped, unless they
            are sure (0.9).
        neighbours: how many overlapping hits make a detection.

    Raises:
        ImportError: OpenCV 5 or later, which has no cascades.
    """

    def __init__(
        self,
        max_side: int = 640,
        smallest: float = 0.06,
        min_confidence: float = 0.3,
        speckle: float = 0.35,
        neighbours: int = 3,
    ) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"OpenCV {cv2.__version__} has no cascades; pip install 'opencv-python<5', or use "
                "another finder (finder=mediapipe)."
            )
        self.max_side, self.smallest, self.neighbours = max_side, smallest, neighbours
        self.min_confidence, self.speckle = min_confidence, speckle
        self._of_thread = threading.local()  # a classifier serves one thread at a time

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a picture (H,W,3) RGB, the largest first."""
        height, width = image.shape[:2]
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        shrink = min(1.0, self.max_side / max(height, width))
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        least = max(20, round(self.smallest * max(grey.shape)))
        if min(grey.shape) < least:
            return []
        found = [
            detection
            for cascade in _CASCADES
            for detection in self._run(cascade, grey, least)
            if detection.confidence >= self.min_confidence
        ]
        kept = without_doubles(found)
        largest = max((detection.size for detection in kept), default=0.0)
        kept = [d for d in kept if d.size >= self.speckle * largest or d.confidence >= 0.9]
        return [detection.scaled(width / grey.shape[1]) for detection in kept]

    def _run(self, cascade: _Cascade, grey: NDArray[np.uint8], least: int) -> list[Detection]:
        searched = np.ascontiguousarray(grey[:, ::-1]) if cascade.mirrored else grey
        boxes, _, scores = self._classifier(cascade.file).detectMultiScale3(
            searched,
            scaleFactor=1.1,
            minNeighbors=self.neighbours,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        detections = []
        for (left, top, side, _), score in zip(boxes, np.ravel(scores), strict=True):
            if cascade.mirrored:
                left = grey.shape[1] - left - side
            # A square of `side` pixels from column `left` spans left - 0.5 to left + side - 0.5.
            box = cascade.rule.box(float(left) - 0.5, float(top) - 0.5, float(side))
            sureness = (float(score) - cascade.even_score) / cascade.score_scale
            detections.append(Detection(box, 1 / (1 + math.exp(-max(-60.0, sureness)))))
        return detections

    def _classifier(self, name: str) -> cv2.CascadeClassifier:
        loaded: dict[str, cv2.CascadeClassifier] = self._of_thread.__dict__
        if name not in loaded:
            file = Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"
            loaded[name] = cv2.CascadeClassifier(str(file))
            if loaded[name].empty():
                raise ImportError(f"{file} is missing; reinstall opencv-python (version 4).")
        return loaded[name]
