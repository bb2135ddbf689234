"""Cumulative error curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure


def cumulative_error_curve(
    errors: Mapping[str, np.ndarray], title: str, limit: float | None = None
) -> Figure:
    """Draw the share of images whose error is at most x, one line a method.

    Args:
        errors: label -> (N,) errors in percent; NaN counts as a failure, so its curve ends low.
        title: above the plot.
        limit: right end of the axis; by default three times the best method's median.
    """
    if limit is None:
        limit = 3 * min(float(np.nanmedian(values)) for values in errors.values())
    figure = Figure(figsize=(6, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for label, values in errors.items():
        finite = np.sort(values[np.isfinite(values)])
        share = 100 * np.arange(1, len(finite) + 1) / max(len(values), 1)
        axes.step(
            [0, *finite, max(limit, finite[-1] if len(finite) else 0)],
            [0, *share, share[-1] if len(share) else 0],
            where="post",
            label=label,
        )
    axes.set(
        xlim=(0, limit), ylim=(0, 100), xlabel="error, percent", ylabel="share of images, percent"
    )
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure
