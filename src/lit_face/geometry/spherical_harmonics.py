"""Real spherical harmonics in the house convention (docs/conventions.md).

Orthonormal, Condon-Shortley sign kept, index l*l + l + m; the pole is camera +y (down in the
picture) and the azimuth is atan2(x, -z): Y(x, y, z) = Y_standard(-z, x, y) where the standard
functions have their pole on the third axis. The first nine:

    0.282095 | -0.488603 x, 0.488603 y, 0.488603 z |
    -1.092548 x z, -1.092548 x y, 0.315392 (3 y^2 - 1), 1.092548 y z, 0.546274 (z^2 - x^2)
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region


@fp32_region()
def sh_basis(directions: Tensor, bands: int = 3) -> Tensor:
    """Evaluate the harmonics of bands 0 to `bands` - 1.

    Args:
        directions: (...,3) unit vectors, camera frame (x right, y down, z forward).
        bands: number of bands; 3 gives nine functions.

    Returns:
        (..., bands * bands), index l*l + l + m.

    Source: the recurrences of the associated Legendre functions, Press et al., Numerical Recipes,
    section 6.7, in Cartesian form (no angle is computed, so the poles have gradients too).
    """
    x, y, z = directions.unbind(-1)
    east, north, pole = -z, x, y
    result: list[Tensor] = [torch.zeros_like(x)] * (bands * bands)
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)  # times sin(polar angle)^m
    diagonal = 1.0  # (-1)^m (2m - 1)!!
    for m in range(bands):
        legendre, previous = torch.full_like(x, diagonal), torch.zeros_like(x)
        for degree in range(m, bands):
            scale = _norm(degree, m)
            result[degree * degree + degree + m] = scale * cosine * legendre
            if m:
                result[degree * degree + degree - m] = scale * sine * legendre
            following = (2 * degree + 1) * pole * legendre - (degree + m) * previous
            legendre, previous = following / (degree + 1 - m), legendre
        cosine, sine = east * cosine - north * sine, east * sine + north * cosine
        diagonal *= -(2 * m + 1)
    return torch.stack(result, dim=-1)


def band_count(coefficients: Tensor) -> int:
    """Return the number of bands of (...,K,C) coefficients.

    Raises:
        ValueError: K is not a square.
    """
    count = coefficients.shape[-2]
    bands = math.isqrt(count)
    if bands * bands != count or not count:
        raise ValueError(f"light should be (B,K,3) with K = 1, 4, 9, ..., found K = {count}.")
    return bands


def lambert_factors(bands: int = 3) -> Tensor:
    """Return (bands * bands,) float64 factors that turn radiance into irradiance coefficients.

    pi, 2 pi / 3, pi / 4, 0, -pi / 24, ... repeated over each band.
    Source: Ramamoorthi & Hanrahan (2001), "On the relationship between radiance and irradiance".
    """
    factors = []
    for degree in range(bands):
        factors += [_lambert_factor(degree)] * (2 * degree + 1)
    return torch.tensor(factors, dtype=torch.float64)


@fp32_region()
def rotate_sh(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Turn light: radiance that came from direction w then comes from `rotation` w.

    Args:
        coefficients: (B,K,C).
        rotation: (B,3,3), of directions; reflections too. Its transpose turns light of the camera
            frame into light of the head frame where `rotation` is the head's to the camera's.

    Returns:
        (B,K,C), differentiable in both.

    Raises:
        ValueError: K is not a square.

    By quadrature that is exact for these degrees: the functions are evaluated in house order, so
    the axes of the convention (a map of determinant -1 to the textbook's) need no care.
    """
    bands = band_count(coefficients)
    directions, projection = _exact_quadrature(bands, coefficients.dtype, coefficients.device)
    return projection @ (sh_basis(directions @ rotation, bands) @ coefficients)


def mirror_sh(coefficients: Tensor) -> Tensor:
    """Return (...,K,C) light seen in a mirrored picture (x to -x): orders m < 0 change sign.

    Raises:
        ValueError: K is not a square.
    """
    bands = band_count(coefficients)
    signs = [-1.0 if m < 0 else 1.0 for degree in range(bands) for m in range(-degree, degree + 1)]
    return coefficients * coefficients.new_tensor(signs)[:, None]


@functools.lru_cache(maxsize=16)
def _exact_quadrature(
    bands: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return directions (N,3) and (K,N) that turns values there into coefficients; shared."""
    with torch.inference_mode(False), torch.no_grad():
        nodes, weights = np.polynomial.legendre.leggauss(bands)
        columns = 2 * bands - 1
        azimuth = torch.arange(columns, dtype=torch.float64) * (2 * math.pi / columns)
        y, azimuth = torch.meshgrid(torch.from_numpy(nodes), azimuth, indexing="ij")
        ring = (1 - y**2).sqrt()
        points = torch.stack([ring * azimuth.sin(), y, -ring * azimuth.cos()], -1).flatten(0, 1)
        weight = torch.from_numpy(weights).repeat_interleave(columns) * (2 * math.pi / columns)
        projection = (sh_basis(points, bands) * weight[:, None]).mT.contiguous()
        return points.to(device, dtype), projection.to(device, dtype)


def _lambert_factor(degree: int) -> float:
    if degree == 1:
        return 2 * math.pi / 3
    if degree % 2:
        return 0.0
    if degree == 0:
        return math.pi
    half = degree // 2
    central: float = math.factorial(degree) / (2**degree * math.factorial(half) ** 2)
    sign = 1 if half % 2 else -1
    return 2 * math.pi * sign / ((degree + 2) * (degree - 1)) * central


def _norm(degree: int, order: int) -> float:
    ratio = math.factorial(degree - order) / math.factorial(degree + order)
    return math.sqrt((1 if order == 0 else 2) * (2 * degree + 1) / (4 * math.pi) * ratio)
