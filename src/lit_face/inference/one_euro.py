"""The one-euro filter: smooth when things stand still, quick when they move.

Casiez, Roussel, Vogel (2012), "1 euro filter: a simple speed-based low-pass filter for noisy input
in interactive systems". A first-order low-pass filter whose cutoff rises with the speed: what
stands still is smoothed at `min_cutoff`; what moves at the speed v lags 1 / (2 pi (min_cutoff +
speed_gain v)) seconds behind.

The speed is that of the raw values (the paper takes the difference to the last filtered one, which
counts the lag as speed, so that the cutoff depends on the frame rate).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]


def smoothing_factor(cutoff: Floats | float, interval: float) -> Floats | float:
    """Return the weight of the new value: 1 / (1 + 1 / (2 pi cutoff interval)).

    Args:
        cutoff: Hz.
        interval: since the last value, seconds.
    """
    return 1 / (1 + 1 / (2 * math.pi * cutoff * interval))


class OneEuroFilter:
    """Filters arrays of one shape, every number for itself.

    Args:
        min_cutoff: Hz, of what stands still; lower is smoother.
        speed_gain: how much the cutoff rises with the speed, Hz for one unit a second (the paper's
            beta).
        derivative_cutoff: Hz, of the speed's own filter.
        joint: numbers along the last axis are one point, which has one speed (the vector's length).

    Raises:
        ValueError: a cutoff that is not positive, or a negative gain.
    """

    def __init__(
        self,
        min_cutoff: float,
        speed_gain: float = 0.0,
        derivative_cutoff: float = 1.0,
        joint: bool = False,
    ) -> None:
        check_cutoffs(min_cutoff, speed_gain, derivative_cutoff)
        self.min_cutoff, self.speed_gain = min_cutoff, speed_gain
        self.derivative_cutoff, self.joint = derivative_cutoff, joint
        self._value: Floats | None = None
        self._raw: Floats = np.zeros(())
        self._speed: Floats = np.zeros(())
        self._time = 0.0

    def __call__(self, value: NDArray[np.floating], time: float) -> Floats:
        """Return the filtered value.

        Args:
            value: any shape, the same in every call.
            time: seconds, later than in the last call.

        Raises:
            ValueError: time that does not advance.
        """
        new: Floats = np.array(value, dtype=np.float64)
        if self._value is None:
            self._value, self._raw, self._time = new, new, time
            self._speed = np.zeros_like(new)
            return new.copy()
        interval = checked_interval(self._time, time)
        share = smoothing_factor(self.derivative_cutoff, interval)
        self._speed = self._speed + share * ((new - self._raw) / interval - self._speed)
        speed = np.abs(self._speed)
        if self.joint:
            speed = np.linalg.norm(self._speed, axis=-1, keepdims=True)
        cutoff = self.min_cutoff + self.speed_gain * speed
        self._value = self._value + smoothing_factor(cutoff, interval) * (new - self._value)
        self._raw, self._time = new, time
        return self._value.copy()


class RotationFilter:
    """The same for rotations: steps along the shortest arc, radians.

    Args:
        min_cutoff: Hz.
        speed_gain: Hz for a radian a second.
        derivative_cutoff: Hz.
    """

    def __init__(
        self, min_cutoff: float, speed_gain: float = 0.0, derivative_cutoff: float = 1.0
    ) -> None:
        check_cutoffs(min_cutoff, speed_gain, derivative_cutoff)
        self.min_cutoff, self.speed_gain = min_cutoff, speed_gain
        self.derivative_cutoff = derivative_cutoff
        self._rotation: Floats | None = None
        self._raw: Floats = np.eye(3)
        self._speed: Floats = np.zeros(3)
        self._time = 0.0

    def __call__(self, rotation: NDArray[np.floating], time: float) -> Floats:
        """Return the filtered rotation (3,3); `time` in seconds, later than in the last call."""
        new: Floats = np.array(rotation, dtype=np.float64)
        if self._rotation is None:
            self._rotation, self._raw, self._time = new, new, time
            return new.copy()
        interval = checked_interval(self._time, time)
        turned = _axis_angle(self._raw.T @ new)
        share = smoothing_factor(self.derivative_cutoff, interval)
        self._speed = self._speed + share * (turned / interval - self._speed)
        cutoff = self.min_cutoff + self.speed_gain * float(np.linalg.norm(self._speed))
        step = _axis_angle(self._rotation.T @ new)
        self._rotation = self._rotation @ _matrix(smoothing_factor(cutoff, interval) * step)
        self._raw, self._time = new, time
        return self._rotation.copy()


def check_cutoffs(min_cutoff: float, speed_gain: float, derivative_cutoff: float) -> None:
    """Raise ValueError for filters that would do nothing sensible."""
    if not (min_cutoff > 0 and derivative_cutoff > 0 and speed_gain >= 0):
        raise ValueError(
            "A one-euro filter needs positive cutoffs (Hz) and a gain of 0 or more, found "
            f"min_cutoff={min_cutoff}, derivative_cutoff={derivative_cutoff}, "
            f"speed_gain={speed_gain}."
        )


def checked_interval(last: float, now: float) -> float:
    """Return the seconds between two calls of a filter."""
    if not now > last:
        raise ValueError(f"A filter's time should advance, found {now} s after {last} s.")
    return now - last


def _axis_angle(rotation: Floats) -> Floats:
    """Return the rotation vector (3,) of a rotation."""
    vector: Floats = Rotation.from_matrix(rotation).as_rotvec()
    return vector


def _matrix(vector: Floats) -> Floats:
    """Return the rotation (3,3) of a rotation vector."""
    matrix: Floats = Rotation.from_rotvec(vector).as_matrix()
    return matrix
