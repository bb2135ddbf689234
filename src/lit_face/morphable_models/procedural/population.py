"""From sampled nonlinear heads to a linear model: principal components of a population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of a mirrored population.

    Attributes:
        mean: (V,C). basis: (V,C,K), one standard deviation each. std: (K,) root of the variance.
        coefficients: (N,K) of the sampled members (their mirror images have flipped signs in the
            antisymmetric components). antisymmetric: (K,) bool.
    """

    mean: Array
    basis: Array
    std: Array
    coefficients: Array
    antisymmetric: NDArray[np.bool_]


def mirrored(values: Array, mirror: NDArray[np.int64]) -> Array:
    """Mirror positions or attributes (...,V,C): swap twins, and negate x when C is 3 positions."""
    return values[..., mirror, :]


def principal_components(
    samples: Array, mirror: NDArray[np.int64], count: int, flip_x: bool
) -> Components:
    """Analyse samples (N,V,C) together with their mirror images.

    The mirrored population is symmetric, so every component is symmetric or antisymmetric and the
    two kinds can be found separately from N x N Gram matrices.

    Args:
        samples: population members.
        mirror: (V,) twin of each vertex.
        count: components to keep, of both kinds together, by variance.
        flip_x: whether channel 0 is the x coordinate, which a mirror negates.
    """
    number = len(samples)
    twin = samples[:, mirror]
    if flip_x:
        twin[:, :, 0] *= -1
    odd = (samples - twin) * np.float32(0.5)
    even = samples - odd
    shape = samples.shape[1:]
    mean = even.mean(axis=0)
    even -= mean
    parts = []
    for is_odd, part in ((False, even.reshape(number, -1)), (True, odd.reshape(number, -1))):
        gram = (part @ part.T).astype(np.float64) / number
        values, vectors = np.linalg.eigh(gram)
        order = np.argsort(values)[::-1][:count]
        values = np.maximum(values[order], 1e-12)
        # Rows of unit length in vertex space, times one standard deviation.
        scaled = (vectors[:, order].T.astype(np.float32) @ part) / np.sqrt(number)
        parts.append((values, scaled, vectors[:, order] * np.sqrt(number), is_odd))
    values = np.concatenate([parts[0][0], parts[1][0]])
    keep = np.argsort(values)[::-1][:count]
    basis = np.concatenate([parts[0][1], parts[1][1]])[keep]
    coefficients = np.concatenate([parts[0][2], parts[1][2]], axis=1)[:, keep]
    antisymmetric = np.repeat([False, True], [len(parts[0][0]), len(parts[1][0])])[keep]
    return Components(
        mean=mean.astype(np.float32),
        basis=basis.reshape(len(keep), *shape).transpose(1, 2, 0).astype(np.float32, order="C"),
        std=np.sqrt(values[keep]).astype(np.float32),
        coefficients=coefficients.astype(np.float32),
        antisymmetric=antisymmetric,
    )


def project(offsets: Array, basis: Array) -> Array:
    """Coefficients (N,K) whose offsets come nearest to `offsets` (N,V,C); components orthogonal."""
    flat = basis.reshape(-1, basis.shape[-1])
    scale = np.maximum((flat**2).sum(0), 1e-20)
    return np.asarray((offsets.reshape(len(offsets), -1) @ flat) / scale)
