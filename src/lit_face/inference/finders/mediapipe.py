"""Google's mediapipe: BlazeFace, quick and good at faces from the side."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.inference.finders.base import BoxRule, Detection, Picture, without_doubles

# Medians over 240 rendered faces (mediapipe 0.10.21; bench/face_finder.py): near and far model.
_RULES = (BoxRule(0.0, 0.025, 0.900, 0.995), BoxRule(0.0, 0.055, 0.900, 1.000))


class MediaPipeFinder:
    """Finds faces with `mediapipe`, whose models come inside the package up to 0.10.21.

    Args:
        min_confidence: weaker detections are dropped.
        far: take the model for faces up to 5 m away instead of 2 m (`model_selection`): smaller
            faces, fewer profiles.

    Raises:
        ImportError: the package is not installed, or is one without the models; says the pip line.
    """

    def __init__(self, min_confidence: float = 0.5, far: bool = False) -> None:
        line = "pip install 'lit_face[mediapipe]'"
        try:
            import mediapipe
        except ImportError as error:
            raise ImportError(f"finder=mediapipe needs the package mediapipe: {line}.") from error
        if not hasattr(mediapipe, "solutions"):
            raise ImportError(
                f"mediapipe {getattr(mediapipe, '__version__', '')} comes without its face models: "
                f"{line} takes one that has them."
            )
        self._rule = _RULES[far]
        self._lock = threading.Lock()
        self._detector: Any = mediapipe.solutions.face_detection.FaceDetection(
            model_selection=int(far), min_detection_confidence=min_confidence
        )

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a picture (H,W,3) RGB, the largest first."""
        height, width = image.shape[:2]
        with self._lock:  # its graph serves one thread at a time
            found = self._detector.process(np.ascontiguousarray(image)).detections or []
        detections = []
        for face in found:
            frame = face.location_data.relative_bounding_box
            wide, high = frame.width * width, frame.height * height
            side = (wide + high) / 2
            if side < 1:
                continue
            left = frame.xmin * width + (wide - side) / 2 - 0.5
            top = frame.ymin * height + (high - side) / 2 - 0.5
            confidence = float(np.clip(face.score[0], 0, 1))
            detections.append(Detection(self._rule.box(left, top, side), confidence))
        return without_doubles(detections)
