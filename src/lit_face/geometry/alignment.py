"""Align corresponding points by a similarity or a rigid motion (Procrustes)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_face.geometry.precision import check_precision, fp32_region


@dataclass(frozen=True, eq=False)
class Similarity:
    """A batch of maps x -> scale * rotation @ x + translation.

    Attributes:
        scale: (B,), or () for a single one.
        rotation: (B,3,3), or (3,3).
        translation: (B,3), or (3,).
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    @fp32_region()
    def apply(self, points: Tensor) -> Tensor:
        """Map points (B,N,3) or (N,3)."""
        turned = points @ self.rotation.mT
        return self.scale[..., None, None] * turned + self.translation[..., None, :]

    @fp32_region()
    def inverse(self) -> Similarity:
        """Return the map back."""
        scale, rotation = 1 / self.scale, self.rotation.mT
        moved = (rotation @ self.translation[..., None])[..., 0]
        return Similarity(scale, rotation, -scale[..., None] * moved)

    def matrix(self) -> Tensor:
        """Return (B,3,4), or (3,4), acting on homogeneous points."""
        linear = self.scale[..., None, None] * self.rotation
        return torch.cat([linear, self.translation[..., None]], dim=-1)


@fp32_region()
def procrustes(
    source: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    scale: bool = True,
    reflection: bool = False,
) -> Similarity:
    """Find the similarity that moves `source` onto `target` with the least weighted squared error.

    Args:
        source: (B,N,3) or (N,3).
        target: corresponding points, same shape (a missing batch axis is repeated).
        weights: (B,N) or (N,), not negative; None for equal ones.
        scale: estimate the scale; otherwise it is 1.
        reflection: let the matrix be the best orthogonal one, even a mirror. Some published
            benchmarks do that (NoW, FG2018); a pose never should.

    Returns:
        The similarity, batched as the input. A sample that has no answer (not finite, all points
        in one place, or no weight) gets NaN, not a guess.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: half precision.

    Source: Umeyama (1991), "Least-squares estimation of transformation parameters between two
    point patterns".
    """
    check_precision("source", source)
    check_precision("target", target)
    if source.shape[-2:] != target.shape[-2:] or source.shape[-1] != 3:
        raise ValueError(
            "source and target should be (B,N,3) with equal N, found "
            f"{tuple(source.shape)} and {tuple(target.shape)}."
        )
    if weights is None:
        weights = source.new_ones(source.shape[-2])
    elif weights.shape[-1] != source.shape[-2]:
        raise ValueError(f"weights should be (B,{source.shape[-2]}), found {tuple(weights.shape)}.")
    share = (weights / weights.sum(-1, keepdim=True)).unsqueeze(-1).to(source.dtype)
    source_mean, target_mean = (share * source).sum(-2), (share * target).sum(-2)
    centred = source - source_mean[..., None, :]
    covariance = (share * centred).mT @ (target - target_mean[..., None, :])
    spread = (share * centred.square()).sum((-2, -1))
    solvable = covariance.isfinite().all(-1).all(-1) & (spread > 0)
    safe = torch.where(solvable[..., None, None], covariance, torch.zeros_like(covariance))
    u, singular, vh = torch.linalg.svd(safe)
    sign = torch.ones_like(singular)
    if not reflection:
        sign[..., 2] = torch.linalg.det(u @ vh).sign()
    rotation = (vh.mT * sign[..., None, :]) @ u.mT
    rotation = torch.where(solvable[..., None, None], rotation, torch.nan)
    factor = (singular * sign).sum(-1) / spread if scale else torch.ones_like(spread)
    factor = torch.where(solvable, factor, torch.nan)
    moved = (rotation @ source_mean[..., None])[..., 0]
    return Similarity(factor, rotation, target_mean - factor[..., None] * moved)
