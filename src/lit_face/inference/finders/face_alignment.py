"""The package face-alignment (Bulat and Tzimiropoulos 2017): 68 landmarks of each face."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lit_face.inference.finders.base import Detection, Picture, box_of_landmarks


class FaceAlignmentFinder:
    """Finds faces and their 68 landmarks with `face-alignment`; downloads its weights once.

    Args:
        detector: its face detector: 'sfd', 'blazeface' or 'dlib'.
        device: 'cpu', 'cuda' or 'mps'.
        max_side: pictures are searched on a copy no larger than this, pixels.
        min_confidence: faces whose box is less sure are dropped.

    Raises:
        ImportError: the package is not installed; says the pip line.
    """

    def __init__(
        self,
        detector: str = "sfd",
        device: str = "cpu",
        max_side: int = 1024,
        min_confidence: float = 0.5,
    ) -> None:
        try:
            import face_alignment
        except ImportError as error:
            raise ImportError(
                "finder=face_alignment needs the package face-alignment: "
                "pip install 'lit_face[face-alignment]'."
            ) from error
        self.max_side, self.min_confidence = max_side, min_confidence
        self._lock = threading.Lock()
        kind = face_alignment.LandmarksType
        self._aligner: Any = face_alignment.FaceAlignment(
            getattr(kind, "TWO_D", None) or kind._2D, device=device, face_detector=detector
        )

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a picture (H,W,3) RGB, the largest first."""
        height, width = image.shape[:2]
        shrink = min(1.0, self.max_side / max(height, width))
        small = image
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        with self._lock:  # its networks serve one thread at a time
            found = self._aligner.get_landmarks_from_image(small, return_bboxes=True)
        if found is None:
            return []
        points, _, boxes = found
        detections = []
        for landmarks, box in zip(points or [], boxes if boxes is not None else [], strict=False):
            confidence = float(np.clip(box[4], 0, 1)) if len(box) > 4 else 1.0
            array = np.asarray(landmarks, np.float64)[:, :2]
            if confidence >= self.min_confidence and np.isfinite(array).all():
                detections.append(Detection(box_of_landmarks(array), confidence, array))
        detections = [detection.scaled(width / small.shape[1]) for detection in detections]
        return sorted(detections, key=lambda detection: -detection.size)
