"""Faces of the FaceScape miniature: a dense surface with relief that no morphable model holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.morphable_models.base import MorphableModel

Array = NDArray[Any]

_EXTENT, _RADIUS = 240.0, 95.0  # mm: side of the maps, and of the cylinder that they unroll
# Cells of random values across the maps, and amplitudes in mm (rms).
_LOW = (7, 1.2)
_MEDIUM = (48, 0.25)
_PORES = (200, 0.1)
_WRINKLE_DEPTH = 0.8
_WRINKLE_CELLS = (52, 10)  # rows, columns: furrows run across the face
_PATCHES = 7
_ALBEDO_CELLS, _ALBEDO_NOISE = (28, 72, 170, 380), 0.05
_FRECKLES = 260  # on a window of 1024 texels
_CAVITY = 0.9  # share of light lost for each mm below the surroundings
_LIPS = 0.6  # share of the relief that lips lose


@dataclass(frozen=True, eq=False)
class DenseTopology:
    """A head's triangles, each split into 4 a few times.

    Attributes:
        corner: (D,3) int64 vertices of the head around each dense one; first those of the head.
        weights: (D,3) float32.
        faces: (G,3) int64.
        is_scanned: (G,) bool, the part of the head that the scan shows.
    """

    corner: Array
    weights: Array
    faces: Array
    is_scanned: Array

    def carry(self, values: Array) -> Array:
        """Interpolate values (V,C) of the head's vertices: (D,C)."""
        return np.asarray((values[self.corner] * self.weights[..., None]).sum(1), np.float32)


@dataclass(frozen=True, eq=False)
class Skin:
    """Maps over `skin_coordinates`, (T,T) or (T,T,3) float32.

    Attributes:
        low: mm along the normal, wide undulations.
        meso: mm, wrinkles, bumps and pores: what the 16-bit displacement maps hold.
        color: factor of the albedo, linear light.
    """

    low: Array
    meso: Array
    color: Array


def dense_topology(model: MorphableModel, levels: int) -> DenseTopology:
    """Split every triangle of a head by the middles of its edges, `levels` times."""
    faces = model.faces.numpy()
    face_part = model.regions["face"].numpy()[faces].max(1) > 0.02
    inside = model.regions.get("mouth_interior")
    if inside is not None:  # no scanner looks into a mouth
        face_part &= inside.numpy()[faces].max(1) < 0.5
    count = len(model.mean)
    corner = np.repeat(np.arange(count)[:, None], 3, axis=1)
    weights = np.zeros((count, 3), np.float32)
    weights[:, 0] = 1
    for _ in range(levels):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        unique, inverse = np.unique(edges, axis=0, return_inverse=True)
        middle = len(corner) + inverse.reshape(-1, 3)
        new_corner, new_weights = _middles(corner, weights, unique)
        corner, weights = (
            np.concatenate([corner, new_corner]),
            np.concatenate([weights, new_weights]),
        )
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.stack([
            np.stack([a, ab, ca], 1), np.stack([ab, b, bc], 1),
            np.stack([ca, bc, c], 1), np.stack([ab, bc, ca], 1),
        ], 1).reshape(-1, 3)  # fmt: skip
        face_part = np.repeat(face_part, 4)
    return DenseTopology(corner, weights, faces, face_part)


def _middles(corner: Array, weights: Array, edges: Array) -> tuple[Array, Array]:
    """Return corners (E,3) and weights (E,3) of the middles of edges between dense vertices.

    The two ends may name the same head vertices in different places: weights are added by vertex.
    """
    both = np.concatenate([corner[edges[:, 0]], corner[edges[:, 1]]], axis=1)
    half = np.concatenate([weights[edges[:, 0]], weights[edges[:, 1]]], axis=1) / 2
    for column in range(1, 6):  # move the weight of a repeated vertex to its first place
        for earlier in range(column):
            same = both[:, column] == both[:, earlier]
            half[same, earlier] += half[same, column]
            half[same, column] = 0
    order = np.argsort(-half, axis=1, kind="stable")[:, :3]
    return np.take_along_axis(both, order, 1), np.take_along_axis(half, order, 1)


@fp32_region()
def smooth_surface(vertices: Array, faces: Array, dense: DenseTopology) -> tuple[Array, Array]:
    """Return points (D,3) and normals (D,3) of a curved surface through a head's vertices.

    Source: Phong tessellation (Boubekeur and Alexa 2008), with a shape factor of 3/4.
    """
    points = torch.from_numpy(vertices).float()
    normals = vertex_normals(points[None], torch.from_numpy(faces))[0].numpy()
    corners, around = vertices[dense.corner], normals[dense.corner]
    weights = dense.weights[..., None]
    flat = (corners * weights).sum(1)
    off = ((flat[:, None] - corners) * around).sum(-1, keepdims=True)
    curved = ((flat[:, None] - off * around) * weights).sum(1)
    normal = (around * weights).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
    return (0.25 * flat + 0.75 * curved).astype(np.float32), normal.astype(np.float32)


def relief_weight(model: MorphableModel) -> Array:
    """Return the share (V,) of the relief that each vertex of a head shows."""
    regions = {name: value.numpy() for name, value in model.regions.items()}
    zero = np.zeros(len(model.mean), np.float32)
    part = (
        regions["face"]
        * (1 - regions.get("eyeballs", zero))
        * (1 - regions.get("mouth_interior", zero))
    )
    return np.asarray(part * (1 - _LIPS * regions.get("lips", zero)), np.float32)


def sample_skin(rng: np.random.Generator, size: int) -> Skin:
    """Draw relief and colour of a skin."""
    low = _LOW[1] * _noise(rng, _LOW[0], size)
    furrows = np.exp(-((_noise(rng, _WRINKLE_CELLS, size) / 0.22) ** 2))
    patches = np.clip((_noise(rng, _PATCHES, size) - 0.3) / 0.7, 0, 1)
    pores = np.minimum(_noise(rng, _PORES[0], size), 1.0)
    meso = _MEDIUM[1] * _noise(rng, _MEDIUM[0], size) + _PORES[1] * pores
    meso -= _WRINKLE_DEPTH * furrows * patches
    color: Array = np.ones((size, size), np.float32)
    for cells in _ALBEDO_CELLS:
        color = color * (1 + _ALBEDO_NOISE * _noise(rng, cells, size))
    below = cv2.GaussianBlur(meso, (0, 0), size / 100) - meso
    color = color * np.clip(1 - _CAVITY * below, 0.4, 1.3)
    spots = _freckles(rng, size)[..., None] * np.array([0.25, 0.42, 0.5], np.float32)
    return Skin(low, meso, np.asarray(color[..., None] * (1 - spots), np.float32))


def skin_coordinates(model: MorphableModel) -> Array:
    """Return where the vertices of a head lie on the maps of a skin (V,2), 1 = `_EXTENT` mm.

    The average head is unrolled about its vertical axis: the texture of a skin is as fine at the
    corners of the eyes as on a cheek, which it is not in UV.
    """
    points = model.mean.numpy()
    face = points[model.regions["face"].numpy() > 0.5]
    axis = face[:, 2].max() - _RADIUS
    across = np.arctan2(points[:, 0], np.maximum(points[:, 2] - axis, -_RADIUS)) * _RADIUS
    middle = (face[:, 1].max() + face[:, 1].min()) / 2
    return np.asarray(
        np.stack([across, middle - points[:, 1]], axis=1) / _EXTENT + 0.5, dtype=np.float32
    )


def lookup(skin_map: Array, coordinates: Array) -> Array:
    """Sample a map of a skin at `skin_coordinates` (N,2): (N,) or (N,C)."""
    count, width = len(coordinates), 1024  # OpenCV's maps are at most 32767 wide: several rows
    padded = -(-count // width) * width
    grid = np.zeros((padded, 2), np.float32)
    grid[:count] = coordinates * len(skin_map) - 0.5
    folded = grid.reshape(-1, width, 2)
    found = cv2.remap(skin_map, folded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(found.reshape(padded, *skin_map.shape[2:])[:count])


def displaced(model: MorphableModel, dense: DenseTopology, vertices: Array, relief: Array) -> Array:
    """Return the dense surface (D,3) of a head (V,3) with a relief (T,T), mm, along normals."""
    points, normals = smooth_surface(vertices, model.faces.numpy(), dense)
    height = lookup(relief, dense.carry(skin_coordinates(model)))
    height = height * dense.carry(relief_weight(model)[:, None])[:, 0]
    return np.asarray(points + height[:, None] * normals, np.float32)


def _noise(rng: np.random.Generator, cells: int | tuple[int, int], size: int) -> Array:
    """Return smooth noise (S,S), mean 0 and standard deviation 1."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    smooth = cv2.resize(values, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _freckles(rng: np.random.Generator, size: int) -> Array:
    found = np.zeros((size, size), np.float32)
    for x, y, radius in rng.uniform((0, 0, 1.2), (1, 1, 4.5), (_FRECKLES, 3)):
        centre = round(x * size), round(y * size)
        cv2.circle(found, centre, max(1, round(radius * size / 1024)), rng.uniform(0.4, 1), -1)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), 0.8), np.float32)
