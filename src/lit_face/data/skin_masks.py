"""Masks of the skin for photos that come without: from landmarks and colour, or by a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
# (picture (H,W,3) RGB, landmarks (68,2) pixels) -> (H,W), 255 = skin
SkinMasker = Callable[[NDArray[np.uint8], NDArray[np.float64]], Mask]

_EYES = (range(36, 42), range(42, 48))
_INNER_LIPS = range(60, 68)
# Lower eyelid to upper lip: cheeks and nose, where hair and beard are rarest.
_CHEEKS = ((1, 3, 31, 39, 36), (15, 13, 35, 42, 45), (27, 31, 33, 35))


class LandmarkSkinMasks:
    """The face's outline without eyes and mouth, where the colour is that of the cheeks.

    The outline is the hull of the landmarks, continued over the forehead. Inside, colours of the
    cheeks and nose give a normal distribution of chroma (CrCb) and a wide one of brightness; what
    lies too far from it (hair, glasses, hands of another colour, beard) is left out.

    Args:
        forehead: how far the outline goes above the brows, share of brow-to-chin height.
        tolerance: largest distance to the cheeks' colour, standard deviations.
        eye_margin: enlargement of the eyes' outlines.

    Raises:
        ValueError: see `__call__`.
    """

    def __init__(
        self, forehead: float = 0.4, tolerance: float = 5.0, eye_margin: float = 1.3
    ) -> None:
        self.forehead, self.tolerance, self.eye_margin = forehead, tolerance, eye_margin

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> Mask:
        """Return the mask (H,W) uint8, 255 = skin.

        Args:
            image: (H,W,3) RGB.
            landmarks: (68,2) pixels.

        Raises:
            ValueError: the cheeks lie outside of the picture.
        """
        shape = image.shape[:2]
        outline = _filled(shape, [cv2.convexHull(self._with_forehead(landmarks))])
        for eye in _EYES:
            centre = landmarks[list(eye)].mean(axis=0)
            ring = centre + self.eye_margin * (landmarks[list(eye)] - centre)
            outline &= ~_filled(shape, [ring])
        outline &= ~_filled(shape, [landmarks[list(_INNER_LIPS)]])
        cheeks = _filled(shape, [landmarks[list(part)] for part in _CHEEKS]) & outline
        if np.count_nonzero(cheeks) < 16:
            raise ValueError("the cheeks lie outside of the picture")
        size = float(np.ptp(landmarks[:, :2], axis=0).mean())
        near = _color_distance(image, cheeks > 0) < self.tolerance
        skin = outline * near.astype(np.uint8)
        width = max(3, round(size / 40) | 1)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        skin = np.asarray(cv2.morphologyEx(skin, cv2.MORPH_CLOSE, kernel), np.uint8)
        skin = np.asarray(cv2.morphologyEx(skin, cv2.MORPH_OPEN, kernel), np.uint8)
        return skin & outline

    def _with_forehead(self, landmarks: NDArray[np.float64]) -> NDArray[np.float32]:
        """Add the brows, moved away from the chin."""
        brows = landmarks[17:27]
        up = brows.mean(axis=0) - landmarks[8]
        middle = brows.mean(axis=0)
        raised = middle + 0.85 * (brows - middle) + self.forehead * up
        return np.concatenate([landmarks, raised]).astype(np.float32)


class SelfieSegmenter:
    """Skin of the face and body by mediapipe's multi-class selfie segmenter.

    The model is not part of the package: download `selfie_multiclass_256x256.tflite` from
    mediapipe's image segmenter page (Apache 2.0).

    Args:
        path: of the model.
        body: count the body's skin (neck, hands) too.

    Raises:
        ImportError: the package is not installed; says the pip line.
        FileNotFoundError: no such model.
    """

    FACE_SKIN, BODY_SKIN = 3, 2

    def __init__(self, path: str | Path, body: bool = False) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"No segmentation model {path}; download selfie_multiclass_256x256.tflite from "
                "mediapipe's image segmenter page, or use LandmarkSkinMasks."
            )
        try:
            import mediapipe
            from mediapipe.tasks import python as tasks
        except ImportError as error:
            raise ImportError(
                "SelfieSegmenter needs the package mediapipe: pip install 'lit_face[mediapipe]'."
            ) from error
        options = tasks.vision.ImageSegmenterOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(path)), output_category_mask=True
        )
        self._as_image: Any = lambda pixels: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=pixels
        )
        self._segmenter: Any = tasks.vision.ImageSegmenter.create_from_options(options)
        self._labels = [self.FACE_SKIN, *([self.BODY_SKIN] if body else [])]

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray[np.float64]) -> Mask:
        """Return the mask (H,W) uint8, 255 = skin; the landmarks are not used."""
        found = self._segmenter.segment(self._as_image(np.ascontiguousarray(image)))
        labels = found.category_mask.numpy_view()
        return np.isin(labels.reshape(image.shape[:2]), self._labels).astype(np.uint8) * 255


def _filled(shape: tuple[int, ...], polygons: list[Any]) -> Mask:
    """Draw filled polygons (N,2) pixels, with a sixteenth of a pixel."""
    canvas = np.zeros(shape[:2], np.uint8)
    for polygon in polygons:
        points = np.round(np.asarray(polygon, np.float64).reshape(-1, 1, 2) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, shift=4)
    return canvas


def _color_distance(image: NDArray[np.uint8], cheeks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return every pixel's distance (H,W) to the cheeks' colours, standard deviations.

    The median and a covariance of the nearer half, so that a shadow or a strand does not count.
    Light varies more over a face than over its cheeks: brightness weighs a third.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    color = cv2.cvtColor(smooth, cv2.COLOR_RGB2YCrCb).astype(np.float64)
    color[..., 0] /= 3
    sample = color[cheeks]
    middle = np.median(sample, axis=0)
    spread = np.abs(sample - middle).sum(axis=1)
    core = sample[spread <= np.median(spread)]
    covariance = 4 * np.cov((core - middle).T) + np.diag([9.0, 4.0, 4.0])
    offset = color - middle
    solved = offset @ np.linalg.inv(covariance)
    distance: NDArray[np.float64] = np.sqrt((solved * offset).sum(axis=-1))
    return distance
