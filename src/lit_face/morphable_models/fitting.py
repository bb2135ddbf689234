"""Fit a morphable model to landmarks in a picture."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lit_face.geometry.alignment import Similarity
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.pose import decompose_affine, fit_affine_camera
from lit_face.geometry.precision import fp32_region


class LinearShape(Protocol):
    """Mean (V,3), bases (V,3,K) and the 68 landmarks' vertices of any linear head."""

    @property
    def mean(self) -> Tensor: ...  # noqa: D102
    @property
    def identity_basis(self) -> Tensor: ...  # noqa: D102
    @property
    def expression_basis(self) -> Tensor: ...  # noqa: D102
    @property
    def landmark_index(self) -> Tensor: ...  # noqa: D102


class LandmarkFit(NamedTuple):
    """A morphable model fitted to landmarks.

    Attributes:
        coefficients: 'identity' (B,Ki) and 'expression' (B,Ke), standard deviations.
        camera: head space to pixels; depth has no translation.
        residual_px: (B,) root mean square distance of the points to the landmarks.
    """

    coefficients: dict[str, Tensor]
    camera: AffineCamera
    residual_px: Tensor


@fp32_region()
def fit_landmarks(
    model: LinearShape,
    landmarks_px: Tensor,
    vertex_index: Tensor | None = None,
    iterations: int = 3,
    identity_weight: float = 40.0,
    expression_weight: float = 20.0,
    identity_size: int | None = None,
    expression_size: int | None = None,
    rigid: bool = True,
) -> LandmarkFit:
    """Fit identity, expression and a scaled orthographic camera in turn, as face3d does.

    Each iteration fits the camera to the present shape, then the expression, then the identity by
    least squares with Gaussian priors: the squared pixel distances plus a weight times the squared
    coefficients. Pixels grow with the face, so for faces much smaller than 200 pixels the
    weights should shrink with the square of the size.

    Args:
        model: gives mean, bases and, unless `vertex_index` is given, the 68 landmarks.
        landmarks_px: (B,N,2) or (B,N,3) pixels, of which x and y are used.
        vertex_index: (N,) int64 vertices that the landmarks are; at least 4, not in one plane.
        iterations: rounds.
        identity_weight: of the identity's squared coefficients, pixels squared.
        expression_weight: likewise of the expression's.
        identity_size: leading coefficients to use; all without it.
        expression_size: likewise.
        rigid: take the rotation nearest to the fitted affine camera. face3d only normalises its
            rows, so that its camera is a little skew; False repeats that.

    Returns:
        Coefficients (B,K), camera and residual.

    Raises:
        ValueError: shapes that do not fit.
    """
    index = model.landmark_index if vertex_index is None else vertex_index
    if landmarks_px.ndim != 3 or landmarks_px.shape[1] != len(index):
        raise ValueError(
            f"landmarks_px should be (B,{len(index)},2), found {tuple(landmarks_px.shape)}."
        )
    target = landmarks_px[..., :2]
    mean = model.mean[index].to(target)
    identity_basis = model.identity_basis[index, :, :identity_size].to(target)
    expression_basis = model.expression_basis[index, :, :expression_size].to(target)
    identity = target.new_zeros(len(target), identity_basis.shape[2])
    expression = target.new_zeros(len(target), expression_basis.shape[2])
    camera = _camera(mean.expand(len(target), -1, -1), target, rigid)
    for iteration in range(iterations):
        shape = mean + _offsets(identity_basis, identity)
        if iteration:
            camera = _camera(shape + _offsets(expression_basis, expression), target, rigid)
        expression = _solve(camera, shape, expression_basis, target, expression_weight)
        shape = mean + _offsets(expression_basis, expression)
        identity = _solve(camera, shape, identity_basis, target, identity_weight)
    points = mean + _offsets(identity_basis, identity) + _offsets(expression_basis, expression)
    distances = (camera.project(points)[..., :2] - target).square().sum(-1)
    coefficients = {"identity": identity, "expression": expression}
    return LandmarkFit(coefficients, camera, distances.mean(-1).sqrt())


def _offsets(basis: Tensor, coefficients: Tensor) -> Tensor:
    return torch.einsum("ndk,bk->bnd", basis, coefficients)


def _camera(points: Tensor, pixels: Tensor, rigid: bool) -> AffineCamera:
    """Fit an affine camera and make it scale times rotation; face3d's rows are normalised only."""
    affine = fit_affine_camera(points, pixels).matrix
    scale, rotation, translation = decompose_affine(affine)
    if rigid:
        u, _, vh = torch.linalg.svd(rotation)
        rotation = u @ vh
        # The best translation of the changed camera.
        moved = Similarity(scale, rotation, torch.zeros_like(translation)).apply(points)
        translation = (pixels - moved[..., :2]).mean(dim=1)
    translation = torch.cat([translation[:, :2], torch.zeros_like(scale[:, None])], dim=1)
    return AffineCamera.orthographic(scale, rotation, translation)


def _solve(
    camera: AffineCamera, shape: Tensor, basis: Tensor, target: Tensor, weight: float
) -> Tensor:
    """Return the coefficients (B,K) that move `shape` (B,N,3) onto `target` (B,N,2)."""
    linear = camera.matrix[:, :2, :3]
    design = torch.einsum("bij,njk->bnik", linear, basis).flatten(1, 2)
    rest = (target - camera.project(shape)[..., :2]).flatten(1)[..., None]
    normal = design.mT @ design + weight * torch.eye(basis.shape[2]).to(design)
    solution: Tensor = torch.linalg.solve(normal, design.mT @ rest)
    return solution[..., 0]
