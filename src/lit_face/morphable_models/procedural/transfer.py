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

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.rendering.transfer import fibonacci_sphere, seen_from

BANDS = 5
_DIRECTIONS = 112
_CHUNK = 16


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
    directions = fibonacci_sphere(_DIRECTIONS).float()
    chunks = [directions[i : i + _CHUNK] for i in range(0, _DIRECTIONS, _CHUNK)]
    seen = torch.cat([seen_from(points, triangles, part) for part in chunks])
    cosine = (directions @ normals.mT).clamp(min=0)
    weight = (seen * cosine) * (4 * math.pi / _DIRECTIONS / math.pi)
    return (weight.mT @ sh_basis(directions, BANDS)).numpy()
