"""A plausible neck, jaw and eyes for any head with landmarks: joints and smooth skin weights.

Made for the built-in head, so that everything which needs FLAME runs without its files. Not
anatomy: distances on the surface decide what follows the jaw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_matrix, diags
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from lit_face.morphable_models.base import MorphableModel

Array = NDArray[Any]

_WITH_JAW = (*range(55, 60), *range(65, 68))  # landmarks
_BONE = range(4, 13)
_WITHOUT = (0, 1, 15, 16, *range(17, 36), *range(36, 48), *range(49, 54), *range(61, 64))
_LEFT_EYE, _RIGHT_EYE = range(42, 48), range(36, 42)  # the subject's
_EYE_DEPTH = 12.0  # mm from the lids to the centre of the eyeball
_LID = 4.0  # mm over which an eyeball's motion fades at the lids
_LIPS = 30.0  # mm around the lips where the jaw's motion stays sharp
_CHIN = 15.0  # mm around the jaw's landmarks, likewise
_BLUR = 30  # rounds of averaging over neighbours
_RING = 4.0  # mm, half the height of a ring of vertices


def plausible_rig(model: MorphableModel) -> tuple[Array, csc_matrix]:
    """Return skin weights (V,5) and a joint regressor (5,V) for root, neck, jaw, left, right eye.

    Args:
        model: with landmarks; eyes turn where it has a region 'eyeballs'.
    """
    points = model.mean.detach().cpu().double().numpy()
    index = model.landmark_index.cpu().numpy()
    distance = _Surface(points, model.faces.cpu().numpy())
    low, chin = points[:, 1].min(), points[index[8], 1]
    root = 1 - _smooth((points[:, 1] - low) / (chin - low), 0.25, 0.95)
    jaw = _jaw(points, index, distance, low)
    eyes = [np.zeros(len(points))] * 2
    balls = model.regions.get("eyeballs")
    if balls is not None:
        inside = balls.cpu().numpy() > 0.5
        depth = _smooth(distance(np.flatnonzero(~inside)) / _LID, 0, 1) * inside
        eyes = [depth * (points[:, 0] > 0), depth * (points[:, 0] <= 0)]
    moved = [jaw * (1 - eyes[0]) * (1 - eyes[1]), *eyes]
    rest = 1 - sum(moved)
    head = np.stack([rest, *moved], 1) * (1 - root)[:, None]
    weights = np.column_stack([root, head])
    return weights / weights.sum(1, keepdims=True), _regressor(points, index, low, chin)


def _jaw(points: Array, index: Array, distance: _Surface, low: float) -> Array:
    """Weigh by the distances, along the skin, to what moves with the jaw and to what stays."""
    chin, ear = points[index[8]], points[index[0]]
    throat = np.flatnonzero(points[:, 1] < chin[1] - 0.45 * (chin[1] - low))
    back = np.flatnonzero(points[:, 2] < ear[2] - 15)
    stays = np.unique(np.concatenate([index[list(_WITHOUT)], throat, back]))
    bone = points[index[list(_BONE)]]
    between = [bone[:-1] + share * np.diff(bone, axis=0) for share in np.linspace(0, 1, 6)]
    _, along = cKDTree(points).query(np.concatenate(between))
    to_jaw = distance(np.concatenate([index[list(_WITH_JAW)], along]))
    to_rest = distance(stays)
    sharp = _smooth(to_rest / (to_rest + to_jaw), 0.3, 0.7)
    # Lips part at an edge and the chin is bone; cheeks and throat stretch.
    away = _smooth(distance(index[48:]) / _LIPS, 0.1, 1) * _smooth(to_jaw / _CHIN, 0.2, 1)
    jaw: Array = sharp + away * (distance.blurred(sharp, _BLUR) - sharp)
    return jaw


def _regressor(points: Array, index: Array, low: float, chin: float) -> csc_matrix:
    rows = np.zeros((5, len(points)))
    for row, share in ((0, 0.1), (1, 0.5)):
        level = low + share * (chin - low)
        ring = np.abs(points[:, 1] - level) < _RING
        rows[row, ring] = 1 / ring.sum()
    rows[2, index[[0, 1, 15, 16]]] = 0.25
    for row, lids in ((3, _LEFT_EYE), (4, _RIGHT_EYE)):
        vertices = index[list(lids)]
        eye = points[vertices].mean(0)
        behind = np.argmin(np.hypot(*(points - eye).T[:2]) + 1e3 * (points[:, 2] > 0))
        share = _EYE_DEPTH / (eye[2] - points[behind, 2])
        rows[row, vertices] = (1 - share) / len(vertices)
        rows[row, behind] = share
    return csc_matrix(rows)


class _Surface:
    """Distances along the edges of a mesh, across its seams."""

    def __init__(self, points: Array, faces: Array) -> None:
        _, self.welded = np.unique(points.round(3), axis=0, return_inverse=True)
        self.welded = self.welded.reshape(-1)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        pairs = self.welded[edges]
        _, first = np.unique(np.sort(pairs, 1), axis=0, return_index=True)
        first = first[length[first] > 0]
        count = int(self.welded.max()) + 1
        self.graph = coo_matrix(
            (length[first], (pairs[first, 0], pairs[first, 1])), shape=(count, count)
        ).tocsr()

    def __call__(self, sources: Array) -> Array:
        """Return the distance (V,) to the nearest of the source vertices, mm."""
        found = dijkstra(
            self.graph, directed=False, indices=np.unique(self.welded[sources]), min_only=True
        )
        reached = np.where(np.isfinite(found), found, 1e6)
        distances: Array = reached[self.welded]
        return distances

    def blurred(self, values: Array, rounds: int) -> Array:
        """Average (V,) values over neighbours, again and again."""
        neighbours = (self.graph + self.graph.T) > 0
        mean = diags(1 / np.maximum(neighbours.sum(1).A1, 1)) @ neighbours
        state = np.zeros(neighbours.shape[0])
        state[self.welded] = values
        for _ in range(rounds):
            state = 0.5 * (state + mean @ state)
        blurred: Array = state[self.welded]
        return blurred


def _smooth(value: Array, low: float, high: float) -> Array:
    share = np.clip((value - low) / (high - low), 0, 1)
    smooth: Array = share * share * (3 - 2 * share)
    return smooth
