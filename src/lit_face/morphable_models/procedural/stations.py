"""The smooth skull, jaw and neck under the features, as a table of radial stations.

A ray family replaces latitude: above the brows rays leave one point and turn upwards to the
crown, on the face they run horizontally from the vertical axis, under the jaw they turn downwards,
and along the neck they slide down. Level t (mm) names the ray: t in [-60, 55] is its height, each
1.3 above is one degree up, each 1.4 below one degree down, at most 50, then each 1 a millimetre
lower. Distances are those of an average adult head, rounded to millimetres; the proportions were
measured on the neutral face of ICT-FaceKit (USC Institute for Creative Technologies, MIT licence;
Li et al., CVPR 2020).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Array = NDArray[Any]

AXIS_Z = -10.0
_TOP, _BOTTOM = 55.0, -60.0
_STEEPEST = 50.0  # degrees below the horizon, in front; less at the back
_AZIMUTH = (0, 10, 20, 32, 45, 60, 76, 92, 114, 144, 180)
# Level t, then the distance at each azimuth. Nose, lips, lids and ears are not in here.
_STATIONS = (
    (172, 82, 82, 82, 82, 82, 82, 82, 82, 82, 82, 82),
    (140, 81, 81, 81, 81, 80, 80, 80, 81, 83, 87, 90),
    (113, 83, 83, 83, 82, 81, 79, 78, 80, 86, 92, 95),
    (88, 87, 87, 86, 84, 81, 78, 77, 79, 86, 95, 99),
    (65, 91, 91, 90, 87, 83, 79, 77, 78, 86, 97, 102),
    (50, 92, 92, 92, 90, 84, 79, 77, 77, 85, 97, 102),
    (38, 91, 91, 91, 90, 85, 79, 77, 77, 84, 96, 101),
    (25, 89, 89, 89, 88, 85, 80, 77, 77, 82, 93, 100),
    (10, 89, 89, 89, 89, 86, 81, 77, 76, 79, 89, 95),
    (-5, 90, 90, 90, 90, 87, 81, 76, 75, 76, 83, 89),
    (-20, 93, 93, 92, 90, 85, 79, 74, 72, 71, 77, 82),
    (-32, 97, 96, 92, 88, 83, 77, 71, 69, 67, 71, 76),
    (-44, 97, 95, 91, 86, 80, 74, 69, 66, 64, 68, 73),
    (-54, 94, 93, 90, 84, 77, 71, 67, 63, 62, 66, 72),
    (-62, 94, 92, 87, 81, 75, 67, 61, 58, 61, 66, 72),
    (-71, 96, 93, 86, 78, 70, 62, 57, 57, 61, 66, 72),
    (-82, 93, 90, 82, 72, 64, 57, 54, 57, 61, 66, 72),
    (-93, 79, 77, 71, 64, 58, 54, 54, 57, 62, 67, 72),
    (-104, 65, 64, 61, 57, 54, 53, 54, 58, 63, 68, 73),
    (-116, 58, 58, 57, 55, 53, 53, 55, 60, 65, 69, 74),
    (-130, 61, 60, 59, 57, 54, 54, 57, 63, 67, 71, 75),
    (-142, 56, 55, 54, 52, 51, 52, 57, 63, 69, 75, 78),
    (-154, 50, 50, 49, 48, 48, 50, 56, 63, 74, 82, 83),
    (-168, 44, 44, 43, 43, 44, 48, 55, 64, 80, 92, 91),
)


def rays(theta: Array, t: Array) -> tuple[Array, Array]:
    """Return origins and unit directions (V,3) of the rays at azimuth theta (radians), level t."""
    down = np.clip((t - _BOTTOM) / 1.4, -_STEEPEST, 0) * (0.65 + 0.35 * np.cos(theta))
    elevation = np.radians(np.where(t > _TOP, (t - _TOP) / 1.3, down))
    height = np.clip(t, _BOTTOM, _TOP) + np.minimum(t - _BOTTOM + 1.4 * _STEEPEST, 0)
    origin = np.stack([np.zeros_like(t), height, np.full_like(t, AXIS_Z)], axis=1)
    direction = np.stack(
        [
            np.sin(theta) * np.cos(elevation),
            np.sin(elevation),
            np.cos(theta) * np.cos(elevation),
        ],
        axis=1,
    )
    return origin, direction


def radius(theta: Array, t: Array) -> Array:
    """Distance (V,) mm from the ray's origin to the smooth head."""
    table = np.array(_STATIONS, dtype=float)[::-1]
    levels, values = table[:, 0], table[:, 1:]
    azimuth = np.array(_AZIMUTH, dtype=float)
    around = np.concatenate([-azimuth[:0:-1], azimuth])
    mirrored = np.concatenate([values[:, :0:-1], values], axis=1)
    mirrored[:, -1] = mirrored[:, 0]
    unique_levels, where = np.unique(np.round(t, 6), return_inverse=True)
    rows = CubicSpline(levels, mirrored, axis=0)(unique_levels)[where]
    # A periodic cubic through the stations of each vertex's own level, evaluated at its azimuth.
    spline = CubicSpline(around, rows.T, axis=0, bc_type="periodic")
    degrees = np.degrees(theta)
    piece = np.clip(np.searchsorted(around, degrees, side="right") - 1, 0, len(around) - 2)
    offset = degrees - around[piece]
    pick = np.arange(len(t))
    c = spline.c[:, piece, pick]
    return np.asarray(((c[0] * offset + c[1]) * offset + c[2]) * offset + c[3])
