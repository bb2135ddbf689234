"""Points in space from pictures of them, in closed form, with views and points that disagree.

The rule is mvfr's: the point closest to all rays, each view with the same weight. Robust weights
and the residuals by which a camera is named are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ROUNDS = 12  # of reweighting: the first half with absolute, the second with bounded influence
_REACH = 3.0  # residuals beyond so many standard deviations lose their influence
_TO_STD = 1.4826  # median of absolute residuals to standard deviation
_FEW = 1e-9  # a matrix closer to singular than this has no answer
_DISAGREES = 2.0  # times the median of all views


class Triangulated(NamedTuple):
    """Points in space and how well each view agrees; float64.

    Attributes:
        points: (...,P,3) world frame of the cameras; NaN where fewer than two rays say.
        residual: (...,N,P) distance from the point to the view's ray; NaN where it has none.
        weights: (...,N,P) that the views had in the end.
    """

    points: Tensor
    residual: Tensor
    weights: Tensor


def pixel_rays(intrinsics: Tensor, extrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return where rays start (...,N,3) and their unit directions (...,N,P,3), world frame.

    Args:
        intrinsics: (...,N,3,3).
        extrinsics: (...,N,3,4) world to camera, OpenCV axes.
        pixels: (...,N,P,2), integers at pixel centres.
    """
    rotation, translation = extrinsics[..., :3], extrinsics[..., 3]
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    in_camera = homogeneous @ torch.linalg.inv(intrinsics).mT
    directions = torch.nn.functional.normalize(in_camera @ rotation, dim=-1)
    return -(rotation.mT @ translation[..., None])[..., 0], directions


def triangulate(
    intrinsics: Tensor,
    extrinsics: Tensor,
    points: Tensor,
    weights: Tensor | None = None,
    robust: bool = False,
) -> Triangulated:
    """Find the points that are closest to the rays of all views.

    Args:
        intrinsics: (...,N,3,3).
        extrinsics: (...,N,3,4) world to camera; their units are those of the result.
        points: (...,N,P,2) pixels; not finite where a view does not show the point.
        weights: (...,N,P), not negative; 0 leaves a point out. None for equal ones.
        robust: reweight, so that a wrong point or view loses its influence.

    Returns:
        Points, residuals and weights.
    """
    intrinsics, extrinsics, pixels = (t.double() for t in (intrinsics, extrinsics, points))
    seen = pixels.isfinite().all(-1)
    given = torch.ones_like(pixels[..., 0]) if weights is None else weights.double()
    given = torch.where(seen, given, 0.0)
    starts, rays = pixel_rays(intrinsics, extrinsics, torch.where(seen[..., None], pixels, 0.0))
    used = given
    found = _closest_points(starts, rays, used)
    residual = _distances(starts, rays, found)
    for iteration in range(_ROUNDS if robust else 0):
        spread = _spread(residual, given)
        if iteration < _ROUNDS // 2:
            used = given * spread / residual.clamp(min=1e-12).maximum(spread)
        else:
            used = given / (1 + (residual / (_REACH * spread)).square()).square()
        used = torch.where(given > 0, used.nan_to_num(0.0), 0.0)
        found = _closest_points(starts, rays, used)
        residual = _distances(starts, rays, found)
    return Triangulated(found, torch.where(seen, residual, torch.nan), used)


def view_residuals(residual: Tensor) -> Tensor:
    """Return the median residual of each view (...,N); NaN for one that shows nothing."""
    return residual.nanmedian(dim=-1).values


def disagreeing_views(residual: Tensor, least: float) -> Tensor:
    """Say which views lie apart from the others: a camera that is off, or wrong landmarks.

    Args:
        residual: (...,N,P) of robustly found points.
        least: a median below this is no disagreement, in the units of the residual.

    Returns:
        (...,N) bool: the view's median is above `least` and twice the median of all views.
    """
    of_views = view_residuals(residual)
    usual = of_views.nanmedian(dim=-1, keepdim=True).values
    return (of_views > least) & (of_views > _DISAGREES * usual)


def _closest_points(starts: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Solve sum of w (I - d d^T) (point - start) = 0; NaN where rays do not say."""
    eye = torch.eye(3, dtype=rays.dtype, device=rays.device)
    across = weights[..., None, None] * (eye - rays[..., :, None] * rays[..., None, :])
    matrix = across.sum(dim=-4)
    right = (across @ starts[..., None, :, None]).sum(dim=-4)
    total = weights.sum(dim=-2)
    several = (weights > 0).sum(dim=-2) >= 2
    smallest = torch.linalg.eigvalsh(matrix)[..., 0]
    solvable = several & (smallest > _FEW * total)
    safe = torch.where(solvable[..., None, None], matrix, eye)
    found = torch.linalg.solve(safe, right)[..., 0]
    return torch.where(solvable[..., None], found, torch.nan)


def _distances(starts: Tensor, rays: Tensor, points: Tensor) -> Tensor:
    """Return how far points (...,P,3) are from the rays of each view (...,N,P)."""
    away = points[..., None, :, :] - starts[..., None, :]
    along = (away * rays).sum(-1, keepdim=True)
    across: Tensor = torch.linalg.vector_norm(away - along * rays, dim=-1)
    return across


def _spread(residual: Tensor, given: Tensor) -> Tensor:
    """Return the standard deviation (...,1,1) of a face's residuals, from their median."""
    counted = torch.where(given > 0, residual, torch.nan).flatten(-2)
    spread: Tensor = _TO_STD * counted.nanmedian(dim=-1).values[..., None, None]
    return spread.clamp(min=1e-12)
