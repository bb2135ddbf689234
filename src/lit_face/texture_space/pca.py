"""Principal components of many large maps, exactly or in memory that does not grow with them.

Both ways work on small matrices of inner products; no array is larger than the components that are
kept and one batch of maps. Source of the update: Ross, Lim, Lin & Yang (IJCV 2008), "Incremental
learning for robust visual tracking", section 3.2, here with rows that keep their scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_BLOCK = 65_536  # columns at once, in float64
_NOTHING = 1e-10  # of the largest variance


@dataclass(frozen=True, eq=False)
class Components:
    """A linear space of maps.

    Attributes:
        mean: (D,).
        directions: (K,D), orthogonal, a standard deviation long, most important first; the entry
            of largest magnitude is positive.
        variance: (K,) along each, over N - 1.
        total_variance: of all maps about their mean.
        count: number N of maps.
    """

    mean: Floats
    directions: Floats
    variance: Floats
    total_variance: float
    count: int

    def codes(self, maps: Floats, components: int) -> Floats:
        """Return the coordinates (N,k) of maps (N,D) in standard deviations."""
        basis = self.directions[:components].astype(np.float64)
        return (maps - self.mean) @ basis.T / np.maximum(self.variance[:components], 1e-30)

    def rmse(self, maps: Floats, counts: Iterable[int]) -> dict[int, float]:
        """Return the root mean square of what k components leave of maps (N,D), for each k.

        Counts beyond the components there are leave what all of them leave.
        """
        centred = maps.astype(np.float64) - self.mean
        unit = self.directions / np.sqrt(np.maximum(self.variance, 1e-30))[:, None]
        explained = np.cumsum(np.square(centred @ unit.T).sum(axis=0))
        whole = np.square(centred).sum()
        left = np.concatenate([[whole], whole - explained])
        return {
            k: float(np.sqrt(max(left[min(k, len(left) - 1)], 0) / centred.size)) for k in counts
        }


def exact_components(maps: Floats, components: int) -> Components:
    """Return the leading components of maps (N,D), exactly, from their N x N inner products.

    Args:
        maps: in memory or memory-mapped, at least two; they are read in blocks of columns.
        components: how many; at most N - 1 are found.
    """
    count, length = maps.shape
    mean = np.concatenate(
        [np.mean(maps[:, block], axis=0, dtype=np.float64) for block in _blocks(length)]
    )
    gram = np.zeros((count, count))
    for block in _blocks(length):
        part = maps[:, block].astype(np.float64) - mean[block]
        gram += part @ part.T
    weights, values = _leading(gram, components)
    directions = np.empty((len(values), length), maps.dtype)
    for block in _blocks(length):
        directions[:, block] = weights.T @ (maps[:, block] - mean[block])
    total = float(np.trace(gram)) / (count - 1)
    return _signed(mean, directions, values, total, count)


class IncrementalComponents:
    """Components of maps that come in batches; memory depends on neither their number nor order.

    Exact as long as no more than `kept` maps came; after that what is dropped at each batch is
    lost, so `kept` should exceed the components that are wanted.

    Args:
        length: D, entries of a map.
        kept: components that are carried from batch to batch.
        dtype: of what is carried; inner products are float64 anyway.
    """

    def __init__(self, length: int, kept: int, dtype: Any = np.float32) -> None:
        if kept < 1:
            raise ValueError(f"kept should be at least 1, found {kept}.")
        self.kept, self.count, self.total = kept, 0, 0.0
        self.mean = np.zeros(length)
        self._scaled = np.zeros((0, length), dtype)  # rows times sqrt(N - 1)

    def update(self, maps: Floats) -> None:
        """Add maps (n,D).

        Raises:
            ValueError: another length, or values that are not finite.
        """
        if maps.ndim != 2 or maps.shape[1] != len(self.mean):
            raise ValueError(f"maps should be (n,{len(self.mean)}), found {maps.shape}.")
        if not np.isfinite(maps).all():
            raise ValueError("maps should be finite.")
        if not len(maps):
            return
        fresh = len(maps)
        seen = self.count + fresh
        middle = maps.mean(axis=0, dtype=np.float64)
        shift = (self.mean - middle) * np.sqrt(self.count * fresh / seen)
        parts = [self._scaled, maps - middle, shift[None] if self.count else shift[None][:0]]
        rows = np.concatenate(parts).astype(self._scaled.dtype)
        gram = _gram(rows)
        old = len(self._scaled)
        self.total += float(np.trace(gram[old:, old:]))
        weights, _ = _leading(gram, self.kept, count=1)
        # The rows of a rotation of `rows`: orthogonal, and as long as their singular values.
        self._scaled = np.concatenate(
            [(weights.T @ rows[:, block]) for block in _blocks(rows.shape[1])], axis=1
        ).astype(self._scaled.dtype)
        self.mean = (self.count * self.mean + fresh * middle) / seen
        self.count = seen

    def components(self, components: int) -> Components:
        """Return the leading components of all maps so far.

        Raises:
            ValueError: fewer than two maps came.
        """
        if self.count < 2:
            raise ValueError(f"Components need at least two maps, found {self.count}.")
        lengths = np.square(self._scaled.astype(np.float64)).sum(axis=1)
        found = int(min(components, self.count - 1, (lengths > _NOTHING * lengths.max()).sum()))
        scale = 1 / np.sqrt(self.count - 1)
        directions = self._scaled[:found] * np.asarray(scale, self._scaled.dtype)
        variance = lengths[:found] / (self.count - 1)
        return _signed(self.mean, directions, variance, self.total / (self.count - 1), self.count)


def _leading(gram: Floats, components: int, count: int | None = None) -> tuple[Floats, Floats]:
    """Return weights (N,k) of rows that make directions a standard deviation long, and variances.

    With `count` 1 the directions are as long as singular values.
    """
    size = len(gram)
    divisor = (size - 1) if count is None else count
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    order = np.argsort(values)[::-1]
    limit = size - 1 if count is None else size
    order = order[: min(components, limit)]
    order = order[values[order] > _NOTHING * max(values.max(), 1e-300)]
    return vectors[:, order] / np.sqrt(divisor), values[order] / divisor


def _gram(rows: Floats) -> Floats:
    gram = np.zeros((len(rows), len(rows)))
    for block in _blocks(rows.shape[1]):
        part = rows[:, block].astype(np.float64)
        gram += part @ part.T
    return gram


def _signed(
    mean: Floats, directions: Floats, variance: Floats, total: float, count: int
) -> Components:
    if len(directions):
        largest = np.abs(directions).argmax(axis=1)
        signs = np.sign(directions[np.arange(len(directions)), largest])
        directions = directions * signs[:, None].astype(directions.dtype)
    return Components(mean, directions, variance, total, count)


def _blocks(length: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK)]
