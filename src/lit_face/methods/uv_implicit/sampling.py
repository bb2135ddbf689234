"""Which points in space a training step looks at, and what the cost there should be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.random import normal, uniform

_UNIFORM_SHARE = 1 / 17  # N / 4 of 4 N + N / 4 candidates, as released
_LABEL_WIDTH = 0.025  # of the label, in spans D - 1


class Samples(NamedTuple):
    """Points on the lines of texels.

    Attributes:
        texel: (B,P) int64, number of the texel among the B's own.
        displacement: (B,P) in intervals.
        truth: (B,P) true displacement of these texels, in intervals.
    """

    texel: Tensor
    displacement: Tensor
    truth: Tensor


def draw_samples(
    truth: list[Tensor], keys: Tensor, count: int, planes: int, sigma: float = 10.0
) -> Samples:
    """Draw points near the true surface, and a few (1 in 17) anywhere between the planes.

    As many lie inside as outside in the mean, which the release reaches by selection
    (`released_samples`).

    Args:
        truth: of each sample the true displacement (T,) of its texels, intervals.
        keys: (B,) int64, see `lit_face.data.random`.
        count: points a sample.
        planes: D.
        sigma: standard deviation about the surface, intervals.
    """
    texels, values = [], []
    chance = uniform(keys, 41, count)
    for row, known in enumerate(truth):
        texel = (chance[row] * len(known)).long().clamp(max=len(known) - 1)
        texels.append(texel)
        values.append(known[texel])
    true = torch.stack(values)
    near = true + sigma * normal(keys, 42, count).to(true)
    anywhere = uniform(keys, 43, count, low=-planes / 2, high=planes / 2).to(true)
    far = uniform(keys, 44, count) < _UNIFORM_SHARE
    return Samples(torch.stack(texels), torch.where(far, anywhere, near), true)


def released_samples(
    truth: NDArray[np.floating],
    rng: np.random.RandomState,
    count: int,
    planes: int,
    sigma: float = 10.0,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Replay the release's draw for one sample, number by number.

    Candidates are split by the sign of their truncated distance, and half of the points are taken
    from each side (if one side is short, all of it).

    Args:
        truth: (T,) true displacements in intervals.
        rng: numpy's legacy generator.
        count: points.
        planes: D.
        sigma: standard deviation about the surface, intervals.

    Returns:
        Texels (P,) and displacements (P,) in intervals.
    """
    total = len(truth)
    near = rng.choice(range(total), 4 * count)
    offsets = rng.normal(0, sigma, 4 * count)
    anywhere = rng.choice(range(total), count // 4)
    spread = rng.rand(count // 4) * planes - planes / 2
    texel = np.concatenate([near, anywhere])
    displacement = np.concatenate([truth[near] + offsets, spread])
    order = np.arange(len(texel))
    rng.shuffle(order)
    texel, displacement = texel[order], displacement[order]
    side = displacement.astype(int) - truth[texel]
    inside, outside = np.flatnonzero(side < 0), np.flatnonzero(side > 0)
    half = count // 2
    if len(inside) > half:
        inside, outside = inside[:half], outside[: count - half]
    else:
        outside = outside[: count - len(inside)]
    chosen = np.concatenate([inside, outside])
    return texel[chosen], displacement[chosen]


def cost_label(offset: Tensor, planes: int, rounded: bool = False) -> Tensor:
    """Return the cost that the network learns: 1 on the surface, a Gaussian about it.

    Args:
        offset: displacement from the true surface, intervals.
        planes: D; the standard deviation is 0.025 (D - 1) intervals.
        rounded: to whole intervals and 0 beyond D // 2, as released.
    """
    width = _LABEL_WIDTH * (planes - 1)
    if rounded:
        offset = offset.round()
    label = torch.exp(-0.5 * (offset / width).square())
    return torch.where(offset.abs() <= planes // 2, label, 0) if rounded else label
