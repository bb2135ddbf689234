"""What a benchmark hands to a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Table:
    """Rows of text and numbers under column names; numbers are shown with `digits` decimals."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""
    digits: int = 2


@dataclass
class BenchmarkResult:
    """Everything a benchmark found.

    Attributes:
        name: of the benchmark; every metric's name starts with it.
        metrics: flat names to numbers, for `metrics.json` and the loggers.
        headline: name of the one metric that a sweep would minimise.
        samples: one row of plain values an image, for the CSV and the logger's table.
        tables: for the page, in order.
        curves: title -> label -> per-image errors, drawn as cumulative error curves.
        pictures: caption -> (H,W,3) uint8.
        notes: sentences that a reader must know (protocol, failures, what the data is).
    """

    name: str
    metrics: dict[str, float]
    headline: str
    samples: list[dict[str, Any]]
    tables: list[Table] = field(default_factory=list)
    curves: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
