"""Distances between a mesh and a scan of the same face, both ways, in the unit of the points.

Source: the FaceScape protocol of `benchmark=facescape`: nothing is aligned; what has no counterpart
does not count (points whose closest point lies on the other surface's border, where a hole or the
end of the face is), nor what is further away than a limit, whose share is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.geometry.meshes import vertex_normals
from lit_face.morphable_models.mesh_hierarchy.surface import ClosestIndex

Array = NDArray[Any]

LIMIT_MM = 5.0
SHARES_MM = (0.5, 1.0, 2.0)
_REACH = 4  # times the limit: what is further away from a mesh's box is not of its region
_ICP_POINTS, _ICP_ROUNDS = 3000, 8


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh that distances are taken to.

    Attributes:
        vertices: (V,3) float64.
        faces: (F,3) int64.
        normals: (V,3) unit.
        on_border: (V,) bool, vertices of edges that belong to one face only.
    """

    vertices: Array
    faces: Array
    normals: Array
    on_border: Array

    @classmethod
    def of(cls, vertices: Array, faces: Array) -> Surface:
        """Prepare a mesh.

        Raises:
            ValueError: no faces, or vertices that are not finite.
        """
        if not len(faces) or not np.isfinite(vertices).all():
            raise ValueError("A surface needs faces and finite vertices.")
        points = np.ascontiguousarray(vertices, np.float64)
        faces = np.ascontiguousarray(faces, np.int64)
        normals = vertex_normals(torch.from_numpy(points)[None], torch.from_numpy(faces))
        return cls(points, faces, normals[0].numpy(), border_vertices(faces, len(points)))

    @cached_property
    def index(self) -> ClosestIndex:
        """Finds closest points."""
        return ClosestIndex(self.vertices, self.faces)


class Closest(NamedTuple):
    """The closest points of a surface.

    Attributes:
        distance: (N,).
        points: (N,3).
        normals: (N,3) unit, interpolated.
        is_inside: (N,) the point lies inside of the surface, not at its border.
    """

    distance: Array
    points: Array
    normals: Array
    is_inside: Array


def border_vertices(faces: Array, count: int) -> Array:
    """Return (count,) whether a vertex lies on an edge of one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    keys, times = np.unique(edges[:, 0] * np.int64(count) + edges[:, 1], return_counts=True)
    single = keys[times == 1]
    border = np.zeros(count, bool)
    border[single // count] = border[single % count] = True
    return border


def closest_points(points: Array, surface: Surface) -> Closest:
    """Find the closest point of a surface to each of some points (N,3)."""
    face, weights = surface.index.query(points)
    corners = surface.faces[face]
    found = (surface.vertices[corners] * weights[..., None]).sum(1)
    normals = (surface.normals[corners] * weights[..., None]).sum(1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    at_border = (surface.on_border[corners] | (weights == 0)).all(1) & (weights == 0).any(1)
    return Closest(
        np.linalg.norm(points - found, axis=1),
        found,
        normals / np.where(length > 0, length, 1),
        ~at_border,
    )


class Judged(NamedTuple):
    """What one way of the comparison found, of the points that have a counterpart.

    Attributes:
        distance: (N,) of the points within the limit.
        angle_deg: (N,) between the normals.
        excluded: share of points beyond the limit.
        rows: (N,) which of the points given these are.
    """

    distance: Array
    angle_deg: Array
    excluded: float
    rows: Array


def judge(
    points: Array,
    normals: Array,
    surface: Surface,
    limit: float = LIMIT_MM,
    most: int | None = None,
) -> Judged:
    """Compare points with a surface.

    Args:
        points: (N,3).
        normals: (N,3) unit.
        surface: in the same frame and unit.
        limit: distances above it are excluded.
        most: at most so many points, evenly spread over those near the surface.
    """
    low, high = surface.vertices.min(0) - _REACH * limit, surface.vertices.max(0) + _REACH * limit
    near = np.flatnonzero(((points >= low) & (points <= high)).all(1))
    if most is not None and len(near) > most:
        near = near[np.linspace(0, len(near) - 1, most).astype(int)]
    closest = closest_points(points[near], surface)
    counted = closest.is_inside
    kept = counted & (closest.distance <= limit)
    own, other = normals[near[kept]], closest.normals[kept]
    cross = np.linalg.norm(np.cross(own, other), axis=1)
    angle = np.degrees(np.arctan2(cross, (own * other).sum(1)))
    excluded = 1 - kept.sum() / counted.sum() if counted.any() else float("nan")
    return Judged(closest.distance[kept], angle, float(excluded), near[kept])


class SurfaceErrors(NamedTuple):
    """Both ways of a comparison.

    Attributes:
        accuracy: from the vertices of the mesh to the scan.
        completeness: from the scan's vertices to the mesh.
    """

    accuracy: Judged
    completeness: Judged

    def summary(self) -> dict[str, float]:
        """Return numbers by name; those without a direction are means over both ways."""
        both = (self.accuracy, self.completeness)
        if not all(len(way.distance) for way in both):
            raise ValueError("Mesh and scan have no points in common; are they in one frame?")
        found = {
            "distance_mm": _mean(way.distance.mean() for way in both),
            "accuracy_mm": float(self.accuracy.distance.mean()),
            "completeness_mm": float(self.completeness.distance.mean()),
            "median_mm": _mean(np.median(way.distance) for way in both),
            "p90_mm": _mean(np.quantile(way.distance, 0.9) for way in both),
            "rms_mm": _mean(np.sqrt((way.distance**2).mean()) for way in both),
            "normal_deg": _mean(way.angle_deg.mean() for way in both),
            "excluded": _mean(way.excluded for way in both),
        }
        shares = {
            f"below_{share:g}mm": _mean((way.distance < share).mean() for way in both)
            for share in SHARES_MM
        }
        return found | shares


def compare(
    mesh: Surface, scan: Surface, limit: float = LIMIT_MM, most: int | None = None
) -> SurfaceErrors:
    """Compare a mesh with a scan, both ways, mm; see `judge`."""
    used = np.unique(mesh.faces)
    return SurfaceErrors(
        judge(mesh.vertices[used], mesh.normals[used], scan, limit, most),
        judge(scan.vertices, scan.normals, mesh, limit, most),
    )


def chamfer(first: Surface, second: Surface) -> float:
    """Return the mean distance over all vertices of both meshes to the other one (mvfr)."""
    ways = closest_points(first.vertices, second), closest_points(second.vertices, first)
    return float(np.concatenate([way.distance for way in ways]).mean())


def rigidly_aligned(mesh: Surface, scan: Surface, limit: float = LIMIT_MM) -> Surface:
    """Return the mesh after rigid ICP to the scan, point to plane, of points within the limit.

    Source: Chen and Medioni (1992), "Object modelling by registration of multiple range images".
    """
    used = np.unique(mesh.faces)
    sample = used[np.linspace(0, len(used) - 1, min(len(used), _ICP_POINTS)).astype(int)]
    rotation, shift = np.eye(3), np.zeros(3)
    middle = mesh.vertices[sample].mean(0)
    for _ in range(_ICP_ROUNDS):
        points = (mesh.vertices[sample] - middle) @ rotation.T + middle + shift
        closest = closest_points(points, scan)
        kept = closest.is_inside & (closest.distance <= limit)
        if kept.sum() < 6:
            break
        normals, away = closest.normals[kept], (closest.points - points)[kept]
        rows = np.concatenate([np.cross(points[kept] - middle - shift, normals), normals], axis=1)
        step = np.linalg.lstsq(rows, (normals * away).sum(1), rcond=1e-9)[0]
        rotation, shift = _turn(step[:3]) @ rotation, shift + step[3:]
        if np.abs(step).max() < 1e-6:
            break
    vertices = (mesh.vertices - middle) @ rotation.T + middle + shift
    return replace(mesh, vertices=vertices, normals=mesh.normals @ rotation.T)


def displacement_errors(predicted: Array, true: Array, valid: Array) -> dict[str, float]:
    """Compare displacement maps (S,S), mm, where `valid` (S,S) says.

    Raises:
        ValueError: nothing is valid.
    """
    there = valid.astype(bool)
    if not there.any():
        raise ValueError("No texel has a true displacement.")
    errors = np.abs(predicted[there] - true[there])
    return {
        "displacement_error_mm": float(errors.mean()),
        "displacement_median_mm": float(np.median(errors)),
    }


def _turn(axis_angle: Array) -> Array:
    angle = float(np.linalg.norm(axis_angle))
    if angle == 0:
        return np.eye(3)
    x, y, z = axis_angle / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
