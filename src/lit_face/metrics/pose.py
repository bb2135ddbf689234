"""Head pose errors in 3DDFA's angles."""

from __future__ import annotations

import numpy as np

LIMIT_DEG = 99.0  # images with a larger true angle are excluded by the usual protocol


def angle_errors_deg(predicted_deg: np.ndarray, true_deg: np.ndarray) -> np.ndarray:
    """Absolute differences of (N,3) angles, wrapped to [0, 180] degrees."""
    difference = np.abs(np.asarray(predicted_deg, np.float64) - np.asarray(true_deg, np.float64))
    difference = difference % 360.0
    wrapped: np.ndarray = np.minimum(difference, 360.0 - difference)
    return wrapped


def within_protocol(true_deg: np.ndarray) -> np.ndarray:
    """Say for which (N,3) true angles the head pose protocol counts the image: all within 99."""
    counted: np.ndarray = (np.abs(true_deg) <= LIMIT_DEG).all(axis=1)
    return counted
