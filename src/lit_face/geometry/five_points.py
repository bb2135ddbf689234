"""Alignment by five points: Deep3D's crop of 224 pixels, ArcFace's of 112.

The points are the centres of the eyes, the tip of the nose and the corners of the mouth, left
before right as they lie in the picture. Pixels have y down here; Deep3D's numbers have y up.

Source: Deng et al. (2019), "Accurate 3D Face Reconstruction with Weakly-Supervised Learning"; for
faces to recognise, Deng et al. (2019), "ArcFace".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.similarity2d import SquareBox

DEEP3D_SIZE = 224
DEEP3D_SCALE = 102.0  # pixels of the crop a decimetre of the standard points
DEEP3D_MEAN = (0.0, -0.0457, 0.2529)  # of the standard points, decimetres
ARCFACE_SIZE = 112
ARCFACE_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
_RIGHT_EYE, _LEFT_EYE = (36, 39), (42, 45)  # of the subject; two of six points each
_NOSE_AND_MOUTH = (30, 48, 54)
_LARGEST_SIDE = 16384  # of the resized photo, pixels

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FivePointCrop:
    """An aligned crop and where it came from.

    Attributes:
        image: (S,S,3) uint8; black outside of the photo.
        matrix: (3,3) float64, pixels of the photo to pixels of the crop, as they were cut.
        points: (5,2) float64, the points in the crop as Deep3D places them: without the rounding
            of `matrix`, up to two pixels away from it.
        scale: pixels of the crop a pixel of the photo, before rounding.
        origin: (2,) float64 x, y: where the standard points' origin lies in the photo; y up.
    """

    image: NDArray[np.uint8]
    matrix: FloatArray
    points: FloatArray
    scale: float
    origin: FloatArray


def five_points(landmarks: Tensor) -> Tensor:
    """Pick the five points (...,5,C) from 68 iBUG landmarks (...,68,C)."""
    eyes = [landmarks[..., list(pair), :].mean(-2) for pair in (_RIGHT_EYE, _LEFT_EYE)]
    others = [landmarks[..., index, :] for index in _NOSE_AND_MOUTH]
    return torch.stack([*eyes, *others], dim=-2)


def standard_points(points: Tensor) -> Tensor:
    """Bring the five points of a mean face (5,3), head space, mm, into Deep3D's frame.

    Returns:
        (5,3) decimetres, x right in a frontal picture, y up, z to the viewer; their mean is that of
        Deep3D's own points, so that any face fills the crop as Deep3D's does.
    """
    if points.shape != (5, 3):
        raise ValueError(f"points should be (5,3), found {tuple(points.shape)}.")
    return (points - points.mean(0)) / 100 + points.new_tensor(DEEP3D_MEAN)


@fp32_region()
def five_point_box(points: Tensor, standard: Tensor) -> SquareBox:
    """Put Deep3D's upright square around faces; `box_to_crop` makes its crop of it.

    The fit is that of `fit_five_points`, in pixels with y down. The side is measured from the first
    pixel's centre to the last one's, so that a crop of 224 pixels has 102 of them a decimetre and
    shows 219.6 mm; it is cut without Deep3D's rounding, up to two pixels elsewhere.

    Args:
        points: (B,5,2) x, y pixels.
        standard: (5,3) decimetres, see `standard_points`.

    Returns:
        The box; its `face_size` is its side. Points that all lie in one place have a side of 1.
    """
    rows = torch.cat([standard, torch.ones_like(standard[:, :1])], dim=1)
    solve = torch.linalg.pinv(rows.double().cpu()).to(points)
    solution = solve @ points
    scale = solution[:, :3].norm(dim=1).mean(1)
    side = ((DEEP3D_SIZE - 1) / DEEP3D_SCALE * scale).clamp(min=1.0)
    return SquareBox(solution[:, 3], side, side)


def fit_five_points(points: FloatArray, standard: FloatArray) -> tuple[FloatArray, float]:
    """Fit a scaled orthographic view of the standard points by least squares.

    Args:
        points: (5,2) pixels, y up.
        standard: (5,3) x right, y up, z to the viewer.

    Returns:
        Where the standard points' origin lies, (2,), and the scale, pixels a unit: the mean length
        of the two rows that were fitted.
    """
    homogeneous = np.concatenate([np.asarray(standard, np.float64), np.ones((5, 1))], axis=1)
    solution = np.linalg.lstsq(homogeneous, np.asarray(points, np.float64), rcond=None)[0]
    scale = np.linalg.norm(solution[:3], axis=0).mean()
    return solution[3], float(scale)


def align_five_points(
    photo: NDArray[np.uint8],
    points: FloatArray,
    standard: FloatArray,
    size: int = DEEP3D_SIZE,
    scale: float = DEEP3D_SCALE,
) -> FivePointCrop:
    """Cut out a face as Deep3D does, pixel for pixel: upright, at one scale, no rotation.

    Args:
        photo: (H,W,3) RGB.
        points: (5,2) x, y pixels.
        standard: (5,3) the points of a mean face: x right, y up, z to the viewer.
        size: side of the crop, pixels.
        scale: pixels of the crop a unit of `standard`; 102 for decimetres and 224 pixels.

    Raises:
        ValueError: points or photo of another shape, or points that are no face.
    """
    points, standard = np.asarray(points, np.float64), np.asarray(standard, np.float64)
    _check(photo, points, standard)
    height, width = photo.shape[:2]
    upward = np.stack([points[:, 0], height - 1 - points[:, 1]], axis=1)
    origin, found = fit_five_points(upward, standard)
    factor = scale / found if found > 0 else np.inf
    if not 1 <= factor * min(width, height) <= factor * max(width, height) < _LARGEST_SIDE:
        raise ValueError(
            f"The five points do not look like a face in a photo of {width} x {height} pixels: it "
            f"would be resized {factor:.3g} times. Found {points.round(1).tolist()}."
        )
    wide, high = int(width * factor), int(height * factor)
    left = int(wide / 2 - size / 2 + (origin[0] - width / 2) * factor)
    top = int(high / 2 - size / 2 + (height / 2 - origin[1]) * factor)
    resized = Image.fromarray(photo).resize((wide, high), Image.Resampling.BICUBIC)
    image = np.asarray(resized.crop((left, top, left + size, top + size)))
    stretch = np.array([wide / width, high / height])
    matrix = np.eye(3)
    matrix[[0, 1], [0, 1]] = stretch
    matrix[:2, 2] = 0.5 * stretch - 0.5 - [left, top]
    moved = (upward - origin + [width / 2, height / 2]) * factor
    moved -= [wide / 2 - size / 2, high / 2 - size / 2]
    moved[:, 1] = size - 1 - moved[:, 1]
    return FivePointCrop(image, matrix, moved, factor, origin)


@fp32_region()
def arcface_matrix(points: Tensor) -> Tensor:
    """Find the similarities that bring faces to ArcFace's template of 112 pixels.

    Args:
        points: (B,5,2) x, y pixels.

    Returns:
        (B,3,3) pixels to pixels of the aligned crop; least squares, never a mirror. Points that
        all lie in one place give the identity.

    Source: Umeyama (1991); in the plane a similarity is one complex factor and a shift.
    """
    template = points.new_tensor(ARCFACE_POINTS)
    centre, target = points.mean(1, keepdim=True), template.mean(0)
    x, y = (points - centre).unbind(-1)
    u, v = (template - target).unbind(-1)
    spread = (x.square() + y.square()).sum(1)
    is_face = spread > 0
    spread = torch.where(is_face, spread, 1.0)
    cosine = torch.where(is_face, (x * u + y * v).sum(1) / spread, 1.0)
    sine = torch.where(is_face, (x * v - y * u).sum(1) / spread, 0.0)
    linear = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
    moved = (linear @ centre.mT)[..., 0]
    shift = torch.where(is_face[:, None], target - moved, 0.0)
    top = torch.cat([linear, shift[:, :, None]], dim=2)
    bottom = top.new_tensor([0.0, 0.0, 1.0]).expand(len(top), 1, 3)
    return torch.cat([top, bottom], dim=1)


def _check(photo: NDArray[np.uint8], points: FloatArray, standard: FloatArray) -> None:
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"photo should be (H,W,3) uint8, found {photo.shape} {photo.dtype}.")
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"points should be (5,2), finite; found {points.tolist()}.")
    if standard.shape != (5, 3) or not np.isfinite(standard).all():
        raise ValueError(f"standard should be (5,3), finite; found {standard.tolist()}.")
