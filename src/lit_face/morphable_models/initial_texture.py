"""A first texture space for one head model from the vertex colours of another.

For FLAME from the Basel Face Model, as BFM_to_FLAME does with an alignment that is handed out;
here the alignment is fitted, so any pair of models with 68 landmarks will do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.uv import centred_resampling
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.correspondence import closest_points
from lit_face.morphable_models.surface_fit import SurfaceFit, facing, fit_to_surface
from lit_face.morphable_models.texture_space import TextureSpace

_FADE = 0.1  # of the map's side, over which components go to 0 where nothing is known


class InitialTexture(NamedTuple):
    """A texture space that was carried over.

    Attributes:
        space: in the layout of the target.
        known: (S,S) bool, texels that lie on the donor; the others were filled in.
        fit: of the target to the donor.
    """

    space: TextureSpace
    known: Tensor
    fit: SurfaceFit


def donated_texture(
    model: MorphableModel, donor: MorphableModel, size: int = 256, components: int | None = 50
) -> TextureSpace:
    """Return the space of `initial_texture` alone, for configs."""
    return initial_texture(model, donor, size, components).space


@torch.no_grad()
def initial_texture(
    target: MorphableModel,
    donor: MorphableModel,
    size: int = 512,
    components: int | None = None,
    reach_mm: float = 5.0,
) -> InitialTexture:
    """Carry a donor's albedo to the texture layout of another model.

    The target is fitted to the donor's mean; each texel then reads the closest point of the donor,
    if it is near and faces the same way (60 degrees). The rest is filled: the mean harmonically
    from the border of what is known, components likewise but fading to 0.

    Args:
        target: FLAME, or any model with UV coordinates and a region 'face'.
        donor: with vertex colours: bfm2017, bfm2009, ...
        size: side of the maps, texels.
        components: leading colour components of the donor; all without it.
        reach_mm: farther points are not the same surface.

    Raises:
        ValueError: nothing of the donor is near.
    """
    fit = fit_to_surface(target, donor)
    resampling = centred_resampling(target.uv.cpu(), target.map_faces.cpu(), size)
    points = resampling.apply(fit.vertices)
    normals = resampling.apply(vertex_normals(fit.vertices[None], target.faces.cpu())[0])
    surface, faces = donor.mean.cpu(), donor.faces.cpu()
    pairs = closest_points(points, surface, faces, candidates=6)
    good = pairs.distance <= reach_mm
    good &= facing(normals, pairs, vertex_normals(surface[None], faces)[0])
    if not good.any():
        raise ValueError(
            f"no texel of '{target.name}' is within {reach_mm:g} mm of '{donor.name}' (mean "
            f"distance of the face {fit.residual_mm:.1f} mm)."
        )
    texels = resampling.texels[good]
    known = torch.zeros(size * size, dtype=torch.bool).index_fill(0, texels, True).view(size, size)
    basis = donor.albedo_basis.cpu()[..., :components].permute(2, 0, 1)
    maps = torch.zeros(1 + len(basis), 3, size * size)
    for row, colours in enumerate([donor.albedo_mean.cpu(), *basis]):
        values = pairs.carry(colours)[good]
        maps[row, :, texels] = values.mT.to(maps)
    maps = maps.view(-1, 3, size, size)
    filled = torch.cat([harmonic_fill(maps[:1], known), harmonic_fill(maps[1:], known, _FADE)])
    name = f"{donor.name} on {target.name}"
    space = TextureSpace(filled[0].clone(), filled[1:], resampling.mask.cpu(), name)
    return InitialTexture(space, known, fit)


def harmonic_fill(maps: Tensor, known: Tensor, fade: float | None = None) -> Tensor:
    """Fill what is not known by the smoothest surface through what is.

    Solves Laplace's equation on the texels, with free borders of the map; with `fade`, Laplace
    minus 1 / length squared, whose solutions go to 0 away from what is known.

    Args:
        maps: (K,C,S,S).
        known: (S,S) bool; kept to the bit.
        fade: length as a fraction of S.

    Raises:
        ValueError: nothing is known.
    """
    if not known.any():
        raise ValueError("there is nothing to fill from: no texel is known.")
    unknown = ~known.numpy()
    if not unknown.any() or not len(maps):
        return maps
    inner, outer = _laplacian(unknown)
    if fade is not None:
        inner = inner + diags(np.full(inner.shape[0], (fade * len(known)) ** -2.0))
    solver = splu(inner.tocsc())
    flat = maps.flatten(2).flatten(0, 1).numpy()
    result = flat.copy()
    rest = flat[:, known.numpy().ravel()].astype(np.float64)
    for row in range(len(flat)):
        result[row, unknown.ravel()] = solver.solve(outer @ rest[row])
    return torch.from_numpy(result).view(maps.shape)


def _laplacian(unknown: NDArray[np.bool_]) -> tuple[coo_matrix, coo_matrix]:
    """Return the matrices of the equation inner @ unknown values = outer @ known values."""
    number = np.where(unknown, np.cumsum(unknown).reshape(unknown.shape), 0) - 1
    other = np.where(unknown, 0, np.cumsum(~unknown).reshape(unknown.shape)) - 1
    first = [(slice(None, -1), slice(None)), (slice(None), slice(None, -1))]
    second = [(slice(1, None), slice(None)), (slice(None), slice(1, None))]
    rows, columns, border_rows, border_columns, degree = [], [], [], [], []
    for one, two in [*zip(first, second, strict=True), *zip(second, first, strict=True)]:
        here, inside = unknown[one], unknown[two]
        both, edge = here & inside, here & ~inside
        rows.append(number[one][both])
        columns.append(number[two][both])
        border_rows.append(number[one][edge])
        border_columns.append(other[two][edge])
        degree.append(number[one][here])
    count, known = int(unknown.sum()), int((~unknown).sum())
    r, c = np.concatenate(rows), np.concatenate(columns)
    inner = coo_matrix((-np.ones(len(r)), (r, c)), shape=(count, count))
    diagonal = np.bincount(np.concatenate(degree), minlength=count)
    r, c = np.concatenate(border_rows), np.concatenate(border_columns)
    outer = coo_matrix((np.ones(len(r)), (r, c)), shape=(count, known)).tocsr()
    return inner + diags(diagonal.astype(float)), outer
