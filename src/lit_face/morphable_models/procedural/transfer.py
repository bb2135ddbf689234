"""How much of the sky each vertex sees: light transfer with self-shadowing.

Precomputed radiance transfer: the light a diffuse point sends back is a fixed linear function of
the environment's spherical harmonics, its row here. Source: Sloan, Kautz & Snyder (2002),
"Precomputed radiance transfer for real-time rendering in dynamic, low-frequency lighting".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.rendering.visibility import vertex_visibility

BANDS = 5
_DIRECTIONS = 112
_PICTURE = 256  # pixels a side of the depth pictures
_CHUNK = 16


def fibonacci_sphere(count: int) -> Tensor:
    """Return (count,3) nearly even unit directions."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    turn = index * (math.pi * (3 - math.sqrt(5)))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=1).float()


def light_transfer(vertices: NDArray[Any], faces: NDArray[np.int64]) -> NDArray[Any]:
    """Compute the transfer (V, BANDS^2) of a head: radiance coefficients to irradiance over pi.

    Args:
        vertices: (V,3) head space, mm.
        faces: (F,3).

    Returns:
        Rows for light given by spherical harmonics of the head's axes (their functions evaluated
        on head-space directions). An unshadowed vertex has `lambert_factors / pi * Y(normal)`.
    """
    points, triangles = torch.from_numpy(vertices), torch.from_numpy(faces)
    normals = vertex_normals(points[None], triangles)[0]
    directions = fibonacci_sphere(_DIRECTIONS)
    chunks = [directions[i : i + _CHUNK] for i in range(0, _DIRECTIONS, _CHUNK)]
    seen = torch.cat([_seen(points, triangles, part) for part in chunks])
    cosine = (directions @ normals.mT).clamp(min=0)
    weight = (seen * cosine) * (4 * math.pi / _DIRECTIONS / math.pi)
    return (weight.mT @ sh_basis(directions, BANDS)).numpy()


def _seen(points: Tensor, faces: Tensor, directions: Tensor) -> Tensor:
    """Visibility (N,V) of the vertices from far away in N directions."""
    helper = torch.where(directions[:, 1:2].abs() < 0.9, 1.0, 0.0)
    up = torch.cat([torch.zeros_like(helper), helper, 1 - helper], dim=1)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, directions), dim=1)
    down = torch.linalg.cross(right, directions)
    axes = torch.stack([right, down, -directions], dim=1)
    image = (points - points.mean(0)) @ axes.mT
    extent = image[..., :2].abs().amax()
    image = image * (_PICTURE / 2 - 2) / extent
    image = image + image.new_tensor([_PICTURE / 2, _PICTURE / 2, 0])
    return vertex_visibility(image, faces, (_PICTURE, _PICTURE), tolerance=0.012)
