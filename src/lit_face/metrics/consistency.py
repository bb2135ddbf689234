"""How much an estimate of a person changes from picture to picture of that person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def within_person_std(
    values: NDArray[np.floating], person: NDArray[np.integer]
) -> tuple[float, float]:
    """Measure stability.

    Args:
        values: (N,D) estimates, one row a picture; rows that are not finite are left out.
        person: (N,) who is on each picture.

    Returns:
        The standard deviation within people (root of the mean variance over people with at least
        two pictures, and over D, unbiased), and its share of the standard deviation over all
        pictures: 0 tells people apart perfectly, 1 not at all. A method that always says the
        same has 0 and NaN. Both are NaN without a person with two pictures.
    """
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    finite = np.isfinite(values).all(axis=1)
    values, person = values[finite], np.asarray(person)[finite]
    groups = [values[person == name] for name in np.unique(person)]
    variances = [group.var(axis=0, ddof=1) for group in groups if len(group) > 1]
    if not variances:
        return float("nan"), float("nan")
    within = float(np.mean(variances))
    total = float(values.var(axis=0, ddof=1).mean())
    share = float(np.sqrt(within / total)) if total > 0 else float("nan")
    return float(np.sqrt(within)), share
