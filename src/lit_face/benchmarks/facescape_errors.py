"""Errors of surfaces over a base mesh against a scan, for `benchmark=facescape`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.geometry.meshes import face_normals, grid_faces
from lit_face.metrics.scan_distance import (
    LIMIT_MM,
    Surface,
    closest_points,
    compare,
    displacement_errors,
    rigidly_aligned,
)
from lit_face.reporting.heat_maps import HeatMesh, heat_maps, upright

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class BaseTexels:
    """The base mesh of one sample over its mask, mm.

    Attributes:
        position: (V,3) of the texels of the mask, raster order.
        normal: (V,3).
        mask: (S,S) bool.
        faces: (F,3) int64 of neighbouring texels, counter-clockwise seen from outside.
    """

    position: Array
    normal: Array
    mask: Array
    faces: Array

    @classmethod
    def of(cls, position: Array, normal: Array, mask: Array) -> BaseTexels:
        """Take position (3,S,S), normal (3,S,S) and mask (S,S)."""
        there = mask > 0.5
        points = position[:, there].T.astype(np.float64)
        outward = normal[:, there].T.astype(np.float64)
        faces = grid_faces(torch.from_numpy(there))
        of_faces = face_normals(torch.from_numpy(points)[None], faces)[0].numpy()
        faces_array = faces.numpy()
        if (of_faces * outward[faces_array[:, 0]]).sum() < 0:
            faces_array = faces_array[:, ::-1].copy()
        return cls(points, outward, there, faces_array)

    def surface(self, displacement: Array) -> Surface:
        """Move the texels by displacements (S,S) along their normals."""
        along = displacement[self.mask].astype(np.float64)
        return Surface.of(self.position + along[:, None] * self.normal, self.faces)

    def uv(self) -> Array:
        """Return where the texels lie (V,2), v up."""
        rows, columns = np.nonzero(self.mask)
        size = self.mask.shape[0]
        return np.stack([columns / size, 1 - rows / size], axis=1)


def surface_errors(
    surface: Surface, scan: Surface, limit: float, most: int | None, with_icp: bool
) -> dict[str, float]:
    """Return the numbers of one surface, and its distances after rigid alignment."""
    found = compare(surface, scan, limit, most).summary()
    if with_icp:
        aligned = compare(rigidly_aligned(surface, scan, limit), scan, limit, most).summary()
        found |= {
            "icp_distance_mm": aligned["distance_mm"],
            "icp_normal_deg": aligned["normal_deg"],
        }
    return found


def texel_errors(displacement: Array, true: Array, valid: Array) -> dict[str, float]:
    """Return the error of a displacement map (S,S), mm; see `displacement_errors`."""
    return displacement_errors(displacement, true, valid)


def error_picture(
    surfaces: dict[str, Surface], scan: Surface, texels: BaseTexels, limit: float = LIMIT_MM
) -> NDArray[np.uint8]:
    """Draw where the surfaces are off, a row each; dark grey where the scan does not say."""
    uv = torch.from_numpy(texels.uv()).float()
    base = torch.from_numpy(texels.position).float()
    turned = upright(base, torch.from_numpy(texels.faces), uv).numpy()
    turn = np.linalg.lstsq(texels.position, turned, rcond=None)[0]
    meshes = {}
    for name, surface in surfaces.items():
        found = closest_points(surface.vertices, scan)
        kept = found.is_inside & (found.distance <= limit)
        distance = np.where(kept, found.distance, np.nan)
        meshes[name] = HeatMesh(surface.vertices @ turn, surface.faces, distance)
    return heat_maps(meshes)
