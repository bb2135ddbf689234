"""The levels of a mesh, coarser and coarser, and how to go from one to the next."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from lit_face.io.files import atomic_write, cache_root
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.mesh_hierarchy.adjacency import (
    EdgeWeights,
    adjacency,
    scaled_laplacian,
)
from lit_face.morphable_models.mesh_hierarchy.decimation import Decimation, decimate
from lit_face.morphable_models.mesh_hierarchy.upsampling import Upsampling, upsampling_weights

Array = NDArray[Any]

_VERSION = 2  # raise it when the same arguments give another hierarchy
_FEWEST = 3  # vertices of the coarsest level


@dataclass(frozen=True, eq=False)
class MeshHierarchy:
    """A mesh at several levels; 0 is the whole one. Coarse vertices are some of the fine ones.

    Attributes:
        vertices: of each level (V_l,3) float64, the mean of level 0 taken away.
        faces: of each level (F_l,3) int64.
        keep: from level l to l + 1: the vertices (V_{l+1},) of level l that stay, ascending.
        up_columns: from level l + 1 to l: (V_l,3) int64 vertices of level l + 1.
        up_weights: (V_l,3) float32, their weights.
        twin: (V_0,) int64: the vertex whose values each one takes: itself, or, where the mesh was
            cut for its UV coordinates, the first at the same place, which has all the faces.
    """

    vertices: tuple[Array, ...]
    faces: tuple[Array, ...]
    keep: tuple[Array, ...]
    up_columns: tuple[Array, ...]
    up_weights: tuple[Array, ...]
    twin: Array

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of vertices of each level."""
        return tuple(len(points) for points in self.vertices)

    def laplacian(
        self, level: int, edge_weights: EdgeWeights = "reference"
    ) -> scipy.sparse.csr_array:
        """Return the scaled Laplacian (V_l,V_l) of a level."""
        return scaled_laplacian(adjacency(self.faces[level], self.sizes[level], edge_weights))

    def down(self, level: int) -> scipy.sparse.csr_array:
        """Return the selection (V_{l+1},V_l): a 1 a row."""
        kept = self.keep[level]
        shape = (len(kept), self.sizes[level])
        rows = np.arange(len(kept))
        return scipy.sparse.csr_array((np.ones(len(kept), np.float32), (rows, kept)), shape=shape)

    def up(self, level: int) -> scipy.sparse.csr_array:
        """Return the interpolation (V_l,V_{l+1}): three weights a row at most."""
        columns, weights = self.up_columns[level], self.up_weights[level]
        rows = np.repeat(np.arange(len(columns)), 3)
        shape = (len(columns), self.sizes[level + 1])
        entries = (weights.reshape(-1), (rows, columns.reshape(-1)))
        matrix = scipy.sparse.coo_array(entries, shape=shape).tocsr()
        matrix.eliminate_zeros()
        return matrix


def build_hierarchy(
    vertices: Array,
    faces: Array,
    factors: Sequence[float] = (4, 4, 4, 4),
    decimation: Decimation = "borders",
    upsampling: Upsampling = "barycentric",
) -> MeshHierarchy:
    """Make the levels of a mesh.

    Args:
        vertices: (V,3) of the mean shape.
        faces: (F,3) integers.
        factors: by how much each level has fewer vertices than the one before (rounded up).
        decimation: see `decimate`.
        upsampling: see `upsampling_weights`.

    Raises:
        ValueError: a mesh or an option that makes no levels; names what was found.
    """
    points = np.asarray(vertices, np.float64)
    corners = np.asarray(faces, np.int64)
    _check(points, corners, factors, decimation, upsampling)
    meshes = [(points - points.mean(axis=0), corners)]
    keep, columns, weights = [], [], []
    for level, factor in enumerate(factors, start=1):
        fine, fine_faces = meshes[-1]
        target = math.ceil(len(fine) / factor)
        stay, left = decimate(fine, fine_faces, target, decimation)
        if len(stay) < _FEWEST or len(stay) >= len(fine):
            raise ValueError(
                f"Level {level} of the mesh hierarchy would have {len(stay)} vertices, after "
                f"{len(fine)}: use fewer factors than {list(factors)}, or smaller ones."
            )
        new_faces = np.searchsorted(stay, left)
        corner, weight = upsampling_weights(fine, fine[stay], new_faces, upsampling)
        meshes.append((fine[stay], new_faces))
        keep.append(stay)
        columns.append(corner)
        weights.append(weight.astype(np.float32))
    levels = tuple(zip(*meshes, strict=True))
    itself = np.arange(len(points))
    return MeshHierarchy(levels[0], levels[1], tuple(keep), tuple(columns), tuple(weights), itself)


def mesh_hierarchy(
    model: MorphableModel,
    factors: Sequence[float] = (4, 4, 4, 4),
    decimation: Decimation = "borders",
    upsampling: Upsampling = "barycentric",
) -> MeshHierarchy:
    """Make the levels of a head model's mean shape, or read them from the cache.

    Vertices at one place (a cut of the UV coordinates) are joined: see `MeshHierarchy.twin`.

    Arguments and errors as of `build_hierarchy`.
    """
    vertices = model.mean.detach().cpu().double().numpy()
    faces = model.faces.detach().cpu().numpy().astype(np.int64)
    settings = f"{_VERSION} {[float(factor) for factor in factors]} {decimation} {upsampling}"
    digest = hashlib.sha256(f"{settings} {vertices.shape} {faces.shape}".encode())
    digest.update(vertices.tobytes())
    digest.update(faces.tobytes())
    path = cache_root() / f"hierarchy-{model.name}-{digest.hexdigest()[:12]}.npz"
    if not path.is_file():
        twin, joined = _join(vertices, faces)
        hierarchy = build_hierarchy(vertices, joined, factors, decimation, upsampling)
        _write(path, replace(hierarchy, twin=twin))
    return _read(path, len(factors))


def _check(
    points: Array, faces: Array, factors: Sequence[float], decimation: str, upsampling: str
) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(
            f"A mesh hierarchy needs finite vertices (V,3), found shape {points.shape}"
            f"{'' if np.isfinite(points).all() else ' with NaN or infinity'}."
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise ValueError(f"A mesh hierarchy needs faces (F,3), found shape {faces.shape}.")
    if faces.min() < 0 or faces.max() >= len(points):
        raise ValueError(
            f"Faces should name vertices 0 to {len(points) - 1}, found "
            f"{faces.min()} to {faces.max()}."
        )
    if not factors or min(factors) <= 1:
        raise ValueError(f"factors should be numbers above 1, at least one; found {list(factors)}.")
    for name, value, choices in (
        ("decimation", decimation, get_args(Decimation)),
        ("upsampling", upsampling, get_args(Upsampling)),
    ):
        if value not in choices:
            raise ValueError(f"{name} should be one of {', '.join(choices)}; found {value!r}.")


def _join(vertices: Array, faces: Array) -> tuple[Array, Array]:
    """Return of each vertex the first at the same place, and the faces (F,3) of these alone."""
    _, first, place = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    twin = first[place.reshape(-1)]
    joined = twin[faces]
    a, b, c = joined.T
    return twin, joined[(a != b) & (b != c) & (c != a)]


def _write(path: Path, hierarchy: MeshHierarchy) -> None:
    arrays = {
        f"{name}{level}": value
        for name, values in vars(hierarchy).items()
        for level, value in enumerate(values)
        if name != "twin"
    }
    with atomic_write(path) as temporary:
        np.savez(temporary, twin=hierarchy.twin, **arrays)


def _read(path: Path, steps: int) -> MeshHierarchy:
    def levels(stored: Any, name: str, count: int) -> tuple[Array, ...]:
        return tuple(stored[f"{name}{level}"] for level in range(count))

    with np.load(path, allow_pickle=False) as stored:
        return MeshHierarchy(
            vertices=levels(stored, "vertices", steps + 1),
            faces=levels(stored, "faces", steps + 1),
            keep=levels(stored, "keep", steps),
            up_columns=levels(stored, "up_columns", steps),
            up_weights=levels(stored, "up_weights", steps),
            twin=stored["twin"],
        )
