"""Fit a head to 68 points in space: bilinear models as mvfr does, and any linear one.

Source: Xiao et al. (AAAI 2022) and their release. The identity is a ridge regression and the
expression a bounded least squares problem; both are solved exactly, where the reference runs
L-BFGS-B with numeric gradients. All subjects are fitted at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from lit_face.morphable_models.base import MorphableModel

State = TypeVar("State", bound=tuple[Tensor, ...])

PRIOR_WEIGHT = 20.0  # of the identity, mm squared a variance
_ROUNDS = 5
_ROBUST_ROUNDS = 3  # more, in which weights follow the residuals
_REACH = 3.0  # residuals beyond so many standard deviations lose their influence
_TO_STD = 1.4826  # median of absolute residuals to standard deviation
_LEAST_STD = 0.1  # mm: a fit as good as this is not reweighted further


class Placement(NamedTuple):
    """Maps model space (mm) to the world: x -> scale * rotation @ x + translation.

    Attributes:
        rotation: (B,3,3), never a mirror.
        translation: (B,3) world units.
        scale: (B,) world units a mm.
        target_mean: (B,3) weighted mean of the points, world.
        model_mean: (B,3) weighted mean of the model's points.
    """

    rotation: Tensor
    translation: Tensor
    scale: Tensor
    target_mean: Tensor
    model_mean: Tensor

    def to_world(self, points: Tensor) -> Tensor:
        """Map points (B,N,3), mm, to the world."""
        scaled = self.scale[:, None, None] * points @ self.rotation.mT
        return scaled + self.translation[:, None]

    def to_model(self, points: Tensor) -> Tensor:
        """Map points (B,N,3) of the world to model space, mm."""
        away = (points - self.target_mean[:, None]) / self.scale[:, None, None]
        return away @ self.rotation + self.model_mean[:, None]


class BilinearFit(NamedTuple):
    """Heads fitted to points in space; float64.

    Attributes:
        identity: (B,I).
        expression: (B,E); of a bilinear model the first one is 1.
        vertices: (B,V,3) in the world of the points.
        rotation: (B,3,3) model axes to the world's.
        translation: (B,3) where the model's origin lies.
        scale: (B,) world units a mm; its inverse is the scale of the subject.
        residual: (B,68) distance from the model's points to those given, mm; NaN without one.
        weights: (B,68) that the points had in the end.
    """

    identity: Tensor
    expression: Tensor
    vertices: Tensor
    rotation: Tensor
    translation: Tensor
    scale: Tensor
    residual: Tensor
    weights: Tensor


def place(model_points: Tensor, targets: Tensor, weights: Tensor) -> Placement:
    """Align the model's points (B,N,3) with the targets (B,N,3): ratio of sizes, then rotation.

    Source: the reference, with weights (B,N) and without its mirrors.
    """
    share = (weights / weights.sum(1, keepdim=True))[..., None]
    target_mean, model_mean = (share * targets).sum(1), (share * model_points).sum(1)
    target, model = targets - target_mean[:, None], model_points - model_mean[:, None]
    size = (share * target.square()).sum((1, 2)).sqrt()
    scale = size / (share * model.square()).sum((1, 2)).sqrt()
    u, _, vh = torch.linalg.svd((share * target).mT @ model)
    sign = torch.ones_like(target_mean)
    sign[:, 2] = torch.linalg.det(u @ vh).sign()
    rotation = (u * sign[:, None]) @ vh
    turned = (rotation @ model_mean[:, :, None])[:, :, 0]
    return Placement(
        rotation, target_mean - scale[:, None] * turned, scale, target_mean, model_mean
    )


def fit_bilinear(
    core: Tensor,
    id_mean: Tensor,
    id_var: Tensor,
    start: Tensor,
    landmark_index: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    robust: bool = False,
    expression_weight: float = 0.0,
) -> BilinearFit:
    """Fit identity and expression of a bilinear model in turn, as the reference does.

    Args:
        core: (3V,E,I) mm; expression 0 is neutral, the others are offsets from it.
        id_mean: (I,) of the identity's prior.
        id_var: (I,).
        start: (I,) identity to begin with.
        landmark_index: (68,) vertices.
        targets: (B,68,3) points in the world, any unit; not finite where unknown.
        weights: (B,68), not negative; None for equal ones.
        robust: a point far from where the model can be loses its influence.
        expression_weight: of the squared expression, mm squared; the reference has none.

    Returns:
        The heads, in the world.

    Raises:
        ValueError: shapes that do not fit, or fewer than four points of a head.
    """
    vertex_count = core.shape[0] // 3
    _check(core, id_mean, id_var, start, landmark_index)
    targets, weights = _prepared(targets, weights)
    corners = core.unflatten(0, (vertex_count, 3))[landmark_index].double()
    mean, variance = id_mean.double(), id_var.double()
    identity = start.double().expand(len(targets), -1)
    neutral = torch.zeros(len(targets), core.shape[1], dtype=torch.float64)
    neutral[:, 0] = 1

    def improve(state: tuple[Tensor, Tensor], goal: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        identity, expression = state
        design = torch.einsum("ncei,be->bnci", corners, expression)
        identity = ridge(design, goal, used, PRIOR_WEIGHT / variance, mean)
        design = torch.einsum("ncei,bi->bnce", corners, identity)
        rows = [_bounded(*row, expression_weight) for row in zip(design, goal, used, strict=True)]
        return identity, torch.stack(rows)

    def points(state: tuple[Tensor, Tensor]) -> Tensor:
        return torch.einsum("ncei,bi,be->bnc", corners, *state)

    state, placement, used = _alternate(
        (identity, neutral), improve, points, targets, weights, robust
    )
    heads = _mixed(core, *state).view(len(targets), vertex_count, 3)
    return _result(state, points(state), heads, placement, targets, used)


def fit_linear(
    model: MorphableModel,
    targets: Tensor,
    weights: Tensor | None = None,
    robust: bool = False,
    prior_weight: float = PRIOR_WEIGHT,
) -> BilinearFit:
    """Fit any linear morphable model; both priors are standard normal.

    Args:
        model: gives mean, bases and the 68 landmarks' vertices.
        targets: (B,68,3) points in the world, any unit; not finite where unknown.
        weights: (B,68), not negative; None for equal ones.
        robust: a point far from where the model can be loses its influence.
        prior_weight: of the squared coefficients, mm squared.

    Returns:
        The heads, in the world, with coefficients in standard deviations.

    Raises:
        ValueError: fewer than four points of a head.
    """
    targets, weights = _prepared(targets, weights)
    sizes = [model.identity_size, model.expression_size]
    basis = torch.cat([model.identity_basis, model.expression_basis], dim=2).cpu()
    mean = model.mean.cpu().double()
    index = model.landmark_index.cpu()
    corners, middle = basis[index].double(), mean[index]
    nothing = torch.zeros(sum(sizes), dtype=torch.float64)

    def points(state: tuple[Tensor]) -> Tensor:
        return middle + torch.einsum("nck,bk->bnc", corners, state[0])

    def improve(state: tuple[Tensor], goal: Tensor, used: Tensor) -> tuple[Tensor]:
        design = corners.expand(len(goal), -1, -1, -1)
        return (ridge(design, goal - middle, used, nothing + prior_weight, nothing),)

    state, placement, used = _alternate(
        (nothing.expand(len(targets), -1),), improve, points, targets, weights, robust
    )
    (coefficients,) = state
    offsets = coefficients.float() @ basis.flatten(0, 1).mT.float()
    heads = mean + offsets.double().view(len(targets), -1, 3)
    identity, expression = coefficients.split(sizes, dim=1)
    return _result((identity, expression), points(state), heads, placement, targets, used)


def ridge(design: Tensor, goal: Tensor, weights: Tensor, prior: Tensor, mean: Tensor) -> Tensor:
    """Minimise sum of w |design x - goal|^2 + prior (x - mean)^2.

    Args:
        design: (B,N,3,K).
        goal: (B,N,3).
        weights: (B,N).
        prior: (K,).
        mean: (K,).

    Returns:
        x (B,K).
    """
    rows = design.flatten(1, 2)
    weighted = (design * weights[:, :, None, None]).flatten(1, 2)
    rest = goal.flatten(1)[..., None] - rows @ mean[:, None]
    normal = weighted.mT @ rows + torch.diag(prior)
    found: Tensor = torch.linalg.solve(normal, weighted.mT @ rest)[..., 0]
    return found + mean


def _mixed(core: Tensor, identity: Tensor, expression: Tensor) -> Tensor:
    """Return vertices (B,3V) float64 without a copy of the core, which may be of 800 MB."""
    turned = core.permute(2, 1, 0)  # as files have it
    if turned.is_contiguous():
        both = torch.einsum("bi,be->bie", identity, expression).flatten(1)
        return (both.to(core) @ turned.flatten(0, 1)).double()
    both = torch.einsum("be,bi->bei", expression, identity).flatten(1)
    return (both.to(core) @ core.flatten(1).mT).double()


def _bounded(design: Tensor, goal: Tensor, weights: Tensor, prior: float) -> Tensor:
    """Fit the expressions (E,) of one head within [0, 1]; the first one stays 1."""
    root = weights.sqrt()[:, None]
    rows = (design * root[..., None]).flatten(0, 1).numpy()
    rest = (goal * root).flatten().numpy() - rows[:, 0]
    free = rows[:, 1:]
    if prior > 0:
        free = np.concatenate([free, np.sqrt(prior) * np.eye(free.shape[1])])
        rest = np.concatenate([rest, np.zeros(free.shape[1])])
    found = lsq_linear(free, rest, (0, 1), method="bvls").x.clip(0, 1)
    return torch.from_numpy(np.concatenate([[1.0], found]))


def _alternate(
    state: State,
    improve: Callable[[State, Tensor, Tensor], State],
    points: Callable[[State], Tensor],
    targets: Tensor,
    weights: Tensor,
    robust: bool,
) -> tuple[State, Placement, Tensor]:
    """Place and improve in turn; with `robust`, go on with weights that follow the residuals."""
    used = weights
    for iteration in range(_ROUNDS + _ROBUST_ROUNDS * robust):
        if iteration >= _ROUNDS:
            used = _reweighted(points(state), targets, weights, used)
        placement = place(points(state), targets, used)
        state = improve(state, placement.to_model(targets), used)
    return state, place(points(state), targets, used), used


def _reweighted(found: Tensor, targets: Tensor, weights: Tensor, used: Tensor) -> Tensor:
    goal: Tensor = place(found, targets, used).to_model(targets)
    residual = (found - goal).norm(dim=-1)
    counted = torch.where(weights > 0, residual, torch.nan)
    spread: Tensor = _TO_STD * counted.nanmedian(dim=1, keepdim=True).values
    ratio: Tensor = residual / (_REACH * spread.clamp(min=_LEAST_STD))
    return weights / (1 + ratio.square()).square()


def _prepared(targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return finite targets and weights, 0 where a target is unknown."""
    targets = targets.double().cpu()
    if targets.ndim != 3 or targets.shape[1:] != (68, 3):
        raise ValueError(f"targets should be (B,68,3), found {tuple(targets.shape)}.")
    known = targets.isfinite().all(-1)
    weights = known.double() if weights is None else weights.double().cpu() * known
    few = (weights > 0).sum(1) < 4
    if few.any():
        row = int(few.nonzero()[0])
        raise ValueError(f"Head {row} has {int((weights[row] > 0).sum())} points; a fit needs 4.")
    return torch.where(known[..., None], targets, 0.0), weights


def _check(
    core: Tensor, id_mean: Tensor, id_var: Tensor, start: Tensor, landmark_index: Tensor
) -> None:
    if core.ndim != 3 or core.shape[0] % 3:
        raise ValueError(f"core should be (3V,E,I), found {tuple(core.shape)}.")
    for name, value in (("id_mean", id_mean), ("id_var", id_var), ("start", start)):
        if value.shape != core.shape[2:]:
            raise ValueError(
                f"{name} should be ({core.shape[2]},) as the core says, found {tuple(value.shape)}."
            )
    if landmark_index.shape != (68,) or int(landmark_index.max()) >= core.shape[0] // 3:
        raise ValueError(
            f"landmark_index should be 68 of {core.shape[0] // 3} vertices, found "
            f"{tuple(landmark_index.shape)} up to {int(landmark_index.max())}."
        )


def _result(
    state: tuple[Tensor, Tensor],
    found: Tensor,
    heads: Tensor,
    placement: Placement,
    targets: Tensor,
    used: Tensor,
) -> BilinearFit:
    residual = (found - placement.to_model(targets)).norm(dim=-1)
    known = targets.any(-1)
    return BilinearFit(
        *state,
        placement.to_world(heads),
        placement.rotation,
        placement.translation,
        placement.scale,
        torch.where(known, residual, torch.nan),
        used,
    )
