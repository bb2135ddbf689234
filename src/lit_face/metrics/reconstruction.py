"""Reconstruction error: mean point distance after alignment over the outer interocular distance."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_LEFT_EYE, _RIGHT_EYE = 45, 36  # outer corners, iBUG order


def interocular(landmarks: np.ndarray) -> float:
    """Return the 3D distance between the outer eye corners (points 36 and 45) of (68,3)."""
    return float(np.linalg.norm(landmarks[_RIGHT_EYE] - landmarks[_LEFT_EYE]))


def corresponding_error(
    predicted: np.ndarray, true: np.ndarray, interocular_distance: float
) -> float:
    """Error with known correspondences, as SADRNet executes PRN's metric.

    The similarity's scale is the ratio of the summed distances to the first point, its rotation
    the SVD's without a reflection test, its translation the centroids'.

    Args:
        predicted: (N,3) points, same unit as `true`.
        true: (N,3) the corresponding points.
        interocular_distance: of the truth, same unit.

    Returns:
        A fraction of the interocular distance; NaN where the prediction is not finite.
    """
    if not np.isfinite(predicted).all():
        return float("nan")
    predicted, true = predicted.astype(np.float64), true.astype(np.float64)
    spread = np.linalg.norm(predicted - predicted[0], axis=1).sum()
    if spread == 0:
        return float("nan")
    predicted = predicted * (np.linalg.norm(true - true[0], axis=1).sum() / spread)
    centred, true_centred = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    u, _, vt = np.linalg.svd(centred.T @ true_centred)
    aligned = centred @ (u @ vt)
    return float(np.linalg.norm(aligned - true_centred, axis=1).mean() / interocular_distance)


def icp_error(
    predicted: np.ndarray,
    true: np.ndarray,
    interocular_distance: float,
    rounds: int = 50,
    tolerance: float = 1e-4,
) -> float:
    """Error after rigid ICP, point to point, of the prediction to the truth.

    Starts from the centroids, estimates no scale (both are in pixels of one image), stops when the
    mean distance changes by less than `tolerance` of itself.

    Args:
        predicted: (N,3) points, same unit as `true`.
        true: (M,3) points.
        interocular_distance: of the truth, same unit.
        rounds: upper bound of rounds.
        tolerance: relative change that ends the search.

    Returns:
        Mean distance of the prediction's points to their nearest true points, as a fraction of the
        interocular distance; NaN where the prediction is not finite.
    """
    if not np.isfinite(predicted).all():
        return float("nan")
    true = true.astype(np.float64)
    points = predicted.astype(np.float64)
    points = points - points.mean(axis=0) + true.mean(axis=0)
    tree = cKDTree(true)
    distances, nearest = tree.query(points, workers=-1)
    previous = distances.mean()
    for _ in range(rounds):
        points = _rigidly_aligned(points, true[nearest])
        distances, nearest = tree.query(points, workers=-1)
        current = distances.mean()
        if abs(previous - current) <= tolerance * previous:
            break
        previous = current
    return float(distances.mean() / interocular_distance)


def _rigidly_aligned(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Move points by the best proper rotation and translation onto corresponding targets."""
    centre, target_centre = points.mean(axis=0), targets.mean(axis=0)
    u, _, vt = np.linalg.svd((points - centre).T @ (targets - target_centre))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    moved: np.ndarray = (points - centre) @ (u @ sign @ vt) + target_centre
    return moved
