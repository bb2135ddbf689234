"""The parameters that 300W-LP and AFLW2000-3D store for a photograph, and their pixel frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.io.matlab import Shape, find_fields, load_mat

IMAGE_SIZE = 450
IDENTITY_SIZE, EXPRESSION_SIZE, TEXTURE_SIZE = 199, 29, 199
MINIATURE_MARKER = "miniature.json"
# Where the pixel (X, Y) of 3DDFA's projected space (y up) lands: x = X + dx, y = height + dy - Y.
PIXEL_ORIGINS = {"zero_based": (-1, 0), "face3d": (0, -1), "matlab": (0, 1)}
FIT_FIELDS: dict[str, Shape] = {
    "Pose_Para": 7,
    "Shape_Para": IDENTITY_SIZE,
    "Exp_Para": EXPRESSION_SIZE,
    "Tex_Para": TEXTURE_SIZE,
}
FIT_DTYPE = [
    ("pose", "<f4", (7,)),
    ("identity", "<f4", (IDENTITY_SIZE,)),
    ("expression", "<f4", (EXPRESSION_SIZE,)),
    ("texture", "<f4", (TEXTURE_SIZE,)),
]
_SCALE_RANGE = (1e-4, 1e-2)  # pixels a micrometre; other numbers are another unit
_BOX = (-1.0, 2.0)  # landmarks lie in this multiple of the image


def read_fit(path: Path, fields: Mapping[str, Shape]) -> dict[str, NDArray[np.float64]]:
    """Read one annotation file; Tex_Para may be absent, as no position map needs it.

    Everything is cast to float64 first: an all-zero Exp_Para is uint8, roi is int16.

    Raises:
        FileNotFoundError, ValueError: what is wrong, without the folder.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotation {path.name}")
    arrays, problems = find_fields(
        load_mat(path), {**FIT_FIELDS, **fields}, optional=frozenset({"Tex_Para"})
    )
    if "Pose_Para" in arrays:
        scale = float(arrays["Pose_Para"][6])
        if not _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1]:
            low, high = _SCALE_RANGE
            problems.append(f"scale in Pose_Para should be {low:g} to {high:g}, found {scale:g}")
    if problems:
        raise ValueError(f"{path.name}: " + "; ".join(problems))
    arrays.setdefault("Tex_Para", np.zeros(TEXTURE_SIZE))
    return arrays


def fit_record(arrays: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Name the fitted parameters as the index does."""
    names = {"pose": "Pose_Para", "identity": "Shape_Para", "expression": "Exp_Para"}
    return {
        **{ours: arrays[theirs] for ours, theirs in names.items()},
        "texture": arrays["Tex_Para"],
    }


def check_points(points: NDArray[np.float64], name: str) -> None:
    """Reject points (N,2) in pixels that cannot be landmarks of the image.

    Raises:
        ValueError: all equal, or outside [-1, 2] times the image.
    """
    if np.ptp(points, axis=0).max() == 0:
        raise ValueError(f"{name}: all points are equal")
    low, high = _BOX[0] * IMAGE_SIZE, _BOX[1] * IMAGE_SIZE
    if points.min() < low or points.max() > high:
        raise ValueError(
            f"{name}: points should lie in [{low:g}, {high:g}] pixels, "
            f"found [{points.min():.4g}, {points.max():.4g}]"
        )


def pose_cameras(
    pose: NDArray[np.floating] | Tensor, pixel_origin: str = "zero_based", height: int = IMAGE_SIZE
) -> AffineCamera:
    """Turn `Pose_Para` into cameras from head space (mm) to image space.

    3DDFA: P = s R V + t with y up; image space: x = P.x + dx, y = height + dy - P.y, depth = -P.z.

    Args:
        pose: (B,7) pitch, yaw, roll (radians), tx, ty, tz (pixels), s (pixels a micrometre).
        pixel_origin: 'zero_based' is where the pixels are; 'face3d' and 'matlab' reproduce the
            rules of face3d (2 px above the dataset's own points) and of the dataset (1-based).
        height: of the image, pixels.

    Raises:
        ValueError: unknown pixel origin.
    """
    dx, dy = pixel_shift(pixel_origin)
    pose = torch.as_tensor(np.asarray(pose), dtype=torch.float64)
    rotation = euler_to_matrix(pose[:, :3])
    flip = torch.tensor([1.0, -1.0, -1.0], dtype=pose.dtype)
    linear = flip[:, None] * rotation * (1000.0 * pose[:, 6])[:, None, None]
    offset = flip * pose[:, 3:6] + torch.tensor([dx, height + dy, 0], dtype=pose.dtype)
    return AffineCamera(torch.cat([linear, offset[:, :, None]], dim=2).float())


def pixel_shift(pixel_origin: str) -> tuple[int, int]:
    """Return (dx, dy) of `PIXEL_ORIGINS`.

    Raises:
        ValueError: unknown name; lists the known ones.
    """
    if pixel_origin not in PIXEL_ORIGINS:
        known = ", ".join(PIXEL_ORIGINS)
        raise ValueError(f"pixel_origin should be one of {known}; found {pixel_origin!r}.")
    return PIXEL_ORIGINS[pixel_origin]


def from_matlab_pixels(
    points: NDArray[np.floating], pixel_origin: str = "zero_based"
) -> NDArray[np.float32]:
    """Move the dataset's 1-based points (...,2|3) to a pixel origin; z becomes smaller = nearer."""
    dx, dy = pixel_shift(pixel_origin)
    moved = np.array(points, dtype=np.float32)
    moved[..., 0] += dx
    moved[..., 1] += dy - 1
    if moved.shape[-1] == 3:
        moved[..., 2] *= -1
    return moved
