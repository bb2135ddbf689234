"""Pictures of displacement maps: found, true, and where they differ."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

_ERROR_MM = 2.0  # where the colours of errors end


def displacement_panel(
    found: Tensor, truth: Tensor, known: Tensor, limit: float
) -> NDArray[np.uint8]:
    """Put displacement maps (B,1,S,S) in mm side by side: found, true, their difference.

    Args:
        found: of the method.
        truth: of the scan.
        known: (B,1,S,S), 0 where the scan is missing; drawn black.
        limit: displacement at which the colours end, mm.

    Returns:
        (B*S, 3*S, 3) uint8, blue inwards and red outwards; errors dark to bright up to 2 mm.
    """
    columns = [
        _colored(found / limit * 0.5 + 0.5, "coolwarm", known),
        _colored(truth / limit * 0.5 + 0.5, "coolwarm", known),
        _colored((found - truth).abs() / _ERROR_MM, "viridis", known),
    ]
    return np.concatenate(columns, axis=1)


def _colored(values: Tensor, name: str, known: Tensor) -> NDArray[np.uint8]:
    flat = values.float().clamp(0, 1)[:, 0].flatten(0, 1).cpu().numpy()
    colors = (
        colormaps[name](flat)[..., :3] * (known[:, 0].flatten(0, 1).cpu().numpy() > 0.5)[..., None]
    )
    picture: NDArray[np.uint8] = (colors * 255).round().astype(np.uint8)
    return picture
