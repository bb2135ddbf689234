"""A face over time: its pose and points filtered, its identity one and the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.pose import head_angles
from lit_face.inference.face import Face
from lit_face.inference.one_euro import OneEuroFilter, RotationFilter, check_cutoffs


@dataclass(frozen=True)
class Smoothing:
    """How much the faces of a video are smoothed.

    Lengths are in sizes of the face, so that the numbers fit any resolution.

    Attributes:
        pose_cutoff: Hz, of rotation, place and size of a head that stands still.
        pose_gain: Hz more for a radian (or a face's size) a second. With 1 and 6, a head that
            turns by 60 degrees a second lags about 20 milliseconds behind.
        points_cutoff: Hz, of the points of a face that does not move a muscle.
        points_gain: Hz more for a face's size a second. With 1 and 10, lips that open at one size
            a second lag 15 milliseconds behind.

    Raises:
        ValueError: cutoffs that are not positive.
    """

    pose_cutoff: float = 1.0
    pose_gain: float = 6.0
    points_cutoff: float = 1.0
    points_gain: float = 10.0

    def __post_init__(self) -> None:
        check_cutoffs(self.pose_cutoff, self.pose_gain, 1.0)
        check_cutoffs(self.points_cutoff, self.points_gain, 1.0)


class FaceSmoother:
    """Filters the faces of one person, frame after frame.

    Points are taken off the pose. Their mean over all frames so far is the identity, which stays;
    what differs from it (the expression, and the network's noise) goes through a one-euro filter,
    as do rotation, place and size of the head.

    Args:
        settings: how much.

    Attributes:
        identity: (V,3) mean shape without pose so far, in the reconstruction's unit.
        frames: how many faces it is the mean of.
    """

    def __init__(self, settings: Smoothing) -> None:
        self.identity: Tensor = torch.zeros(0, 3)
        self.frames = 0
        pose, points = (
            (settings.pose_cutoff, settings.pose_gain),
            (settings.points_cutoff, settings.points_gain),
        )
        self._rotation, self._place = RotationFilter(*pose), OneEuroFilter(*pose, joint=True)
        self._scale = OneEuroFilter(*pose)
        self._points = OneEuroFilter(*points, joint=True)
        self._mean: NDArray[np.float64] = np.zeros(())
        self._size = 1.0  # pixels, of the first frame's landmarks
        self._extent = 1.0  # the same in the unit of the shape

    def __call__(self, face: Face, time: float) -> Face:
        """Return the smoothed face; its box and its visibility are the frame's own.

        Args:
            face: with an orthographic camera (PRN's), or it comes back as it is.
            time: seconds.
        """
        result = face.reconstruction
        if not isinstance(result.camera, AffineCamera):
            return face
        matrix = result.camera.matrix[0].double().numpy()
        scale = float(np.cbrt(abs(np.linalg.det(matrix[:, :3]))))
        points = torch.cat([result.image_vertices[0], result.landmarks[0]]).double().numpy()
        shape = (points - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T
        if not self.frames:
            marks = points[-len(result.landmarks[0]) :, :2]
            self._size = max(1.0, float(np.ptp(marks, axis=0).mean()))
            self._extent = self._size / scale
            self._mean = np.zeros_like(shape)
        self.frames += 1
        self._mean += (shape - self._mean) / self.frames
        offset = self._points((shape - self._mean) / self._extent, time) * self._extent
        shape = self._mean + offset
        # The middle of the face is filtered, not the head's origin, which turns about it.
        middle = self._mean.mean(0)
        place = self._place((matrix[:, :3] @ middle + matrix[:, 3]) / self._size, time)
        scale = float(np.exp(self._scale(np.array([np.log(scale)]), time))[0])
        linear = scale * self._rotation(_nearest_rotation(matrix[:, :3]), time)
        shift = place * self._size - linear @ middle
        return self._smoothed(face, shape, np.column_stack([linear, shift]))

    def _smoothed(
        self, face: Face, shape: NDArray[np.float64], matrix: NDArray[np.float64]
    ) -> Face:
        old = face.reconstruction
        camera = AffineCamera(torch.from_numpy(matrix).float()[None])
        count = old.image_vertices.shape[1]
        points = torch.from_numpy(shape @ matrix[:, :3].T + matrix[:, 3]).float()[None]
        self.identity = torch.from_numpy(self._mean[:count]).float()
        new = replace(
            old,
            image_vertices=points[:, :count],
            landmarks=points[:, count:],
            vertices=torch.from_numpy(shape[:count]).float()[None],
            camera=camera,
        )
        pitch, yaw, roll = torch.rad2deg(head_angles(camera))[0].tolist()
        return replace(face, reconstruction=new, angles=(pitch, yaw, roll))


def _nearest_rotation(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    u, _, vh = np.linalg.svd(linear)
    return np.asarray(u @ vh)
