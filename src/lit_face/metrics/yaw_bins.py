"""Summaries by head yaw, as the AFLW2000-3D protocol balances them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

BINS: Mapping[str, tuple[float, float]] = {"0_30": (-1, 30), "30_60": (30, 60), "60_90": (60, 1e9)}
_ABSENT = float("nan")


def yaw_bin(yaw_deg: np.ndarray) -> np.ndarray:
    """Return 0, 1 or 2 for |yaw| in [0, 30], (30, 60], above 60 (out-of-range values too)."""
    bins: np.ndarray = np.digitize(np.abs(yaw_deg), [30.0, 60.0], right=True)
    return bins


def balanced_summary(values: np.ndarray, yaw_deg: np.ndarray) -> dict[str, float]:
    """Summarise per-image values by yaw.

    Args:
        values: (N,) per image, any unit.
        yaw_deg: (N,) head yaw, degrees.

    Returns:
        '0_30', '30_60', '60_90': the bins' means; 'mean': their unweighted mean; 'std': the
        population standard deviation of the three; 'plain': the mean over images. A bin without
        images is NaN and left out of 'mean' and 'std'.

    Source: evaluation of 3DDFA (Zhu et al., CVPR 2016), in float64.
    """
    values, bins = np.asarray(values, np.float64), yaw_bin(np.asarray(yaw_deg))
    means = [values[bins == b].mean() if (bins == b).any() else _ABSENT for b in range(3)]
    summary = dict(zip(BINS, map(float, means), strict=True))
    present = [value for value in means if not np.isnan(value)] or [_ABSENT]
    summary["mean"], summary["std"] = float(np.mean(present)), float(np.std(present))
    summary["plain"] = float(values.mean()) if len(values) else _ABSENT
    return summary
