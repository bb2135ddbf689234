"""Fit a head model's shape to the neutral surface of another, to compare them point by point."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lit_face.geometry.alignment import Similarity, procrustes
from lit_face.geometry.meshes import vertex_normals
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.correspondence import SurfacePoints, closest_points

_INNER = slice(17, 68)  # landmarks but for the jaw's, whose place on a surface is a convention
_POINTS = 1200  # of the face, at most
_INDEPENDENT = 500.0  # of them, as far as the prior is concerned
_NOISE_MM = 1.0
_LANDMARK_WEIGHT = 10.0  # of a point
_FAR_MM = 20.0
_FACING = 0.5  # cosine of 60 degrees


class SurfaceFit(NamedTuple):
    """A model fitted to a surface.

    Attributes:
        vertices: (V,3) in the surface's frame, mm.
        codes: (K,) identity, then expression, standard deviations.
        similarity: the model's frame to the surface's.
        residual_mm: mean distance of the face's points to the surface.
    """

    vertices: Tensor
    codes: Tensor
    similarity: Similarity
    residual_mm: float


@torch.no_grad()
def fit_to_surface(model: MorphableModel, surface: MorphableModel, rounds: int = 8) -> SurfaceFit:
    """Fit identity, expression and a similarity to another model's mean.

    First a similarity of 51 landmarks. Then in turn: the closest points of the surface to the
    model's face, where they are near and face the same way; the similarity; the codes, by least
    squares with their prior. Landmarks count in each round. Joints stay at rest.

    Args:
        model: whose shape changes; has a region 'face'.
        surface: whose mean stays.
        rounds: of closest points.

    Raises:
        ValueError: the two have no faces in common.
    """
    basis = torch.cat([model.identity_basis, model.expression_basis], 2).cpu().double()
    mean, marks = model.mean.cpu().double(), model.landmark_index.cpu()[_INNER]
    goal = surface.mean.cpu().double()
    goal_marks = goal[surface.landmark_index.cpu()[_INNER]]
    chosen = _spread(model)
    similarity = procrustes(mean[marks], goal_marks)
    codes = torch.zeros(basis.shape[2], dtype=torch.float64)
    index = torch.cat([chosen, marks])
    rows = basis[index]
    for _ in range(rounds):
        shape = mean + basis @ codes
        placed = similarity.apply(shape)
        pairs, fits = surface_pairs(placed, model.faces.cpu(), chosen, surface)
        near = fits & (pairs.distance < _FAR_MM)
        if not near.any():
            raise ValueError(
                f"'{model.name}' and '{surface.name}' have no surface in common: their landmarks "
                "do not belong to the same points."
            )
        targets = torch.cat([pairs.carry(goal), goal_marks])
        marked = torch.full((len(marks),), _LANDMARK_WEIGHT)
        weights = torch.cat([near.double(), marked.double()])
        similarity = procrustes(shape[index], targets, weights)
        codes = _solve(rows, similarity.inverse().apply(targets) - mean[index], weights)
    placed = similarity.apply(mean + basis @ codes)
    pairs, fits = surface_pairs(placed, model.faces.cpu(), chosen, surface)
    near = fits & (pairs.distance < _FAR_MM)
    return SurfaceFit(placed.float(), codes.float(), similarity, float(pairs.distance[near].mean()))


def surface_pairs(
    vertices: Tensor, faces: Tensor, index: Tensor, surface: MorphableModel
) -> tuple[SurfacePoints, Tensor]:
    """Find the points of a model's mean that are closest to some vertices.

    Args:
        vertices: (V,3) in the surface's frame.
        faces: (F,3) of these.
        index: (N,) vertices that ask.
        surface: is asked.

    Returns:
        N points, and (N,) whether both sides face the same way to within 60 degrees.
    """
    goal, goal_faces = surface.mean.cpu().double(), surface.faces.cpu()
    pairs = closest_points(vertices[index], goal, goal_faces, candidates=4)
    own = vertex_normals(vertices[None], faces)[0, index]
    return pairs, facing(own, pairs, vertex_normals(goal[None], goal_faces)[0])


def facing(normals: Tensor, pairs: SurfacePoints, surface_normals: Tensor) -> Tensor:
    """Return (N,) whether normals (N,3) and those of the paired points are within 60 degrees."""
    other = torch.nn.functional.normalize(pairs.carry(surface_normals), dim=1)
    return (torch.nn.functional.normalize(normals, dim=1) * other).sum(1) > _FACING


def _spread(model: MorphableModel) -> Tensor:
    """Pick vertices of the face, evenly by index."""
    face = (model.regions["face"].cpu() > 0.5).nonzero()[:, 0]
    return face[:: max(1, len(face) // _POINTS)]


def _solve(rows: Tensor, rest: Tensor, weights: Tensor) -> Tensor:
    """Return codes (K,) that move points by `rest` (N,3), with their normal prior."""
    weights = weights * (_INDEPENDENT / weights.sum()) / _NOISE_MM**2
    scaled = (rows * weights[:, None, None]).flatten(0, 1)
    flat = rows.flatten(0, 1)
    normal = flat.mT @ scaled + torch.eye(flat.shape[1], dtype=flat.dtype)
    codes: Tensor = torch.linalg.solve(normal, scaled.mT @ rest.flatten())
    return codes
