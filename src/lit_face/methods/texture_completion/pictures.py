"""Pictures of completed maps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def completion_panel(*columns: Tensor) -> NDArray[np.uint8]:
    """Put maps (B,3,S,S) in [0,1] side by side, one row a sample: (B*S, n*S, 3)."""
    rows = torch.cat(columns, dim=3).permute(0, 2, 3, 1).flatten(0, 1)
    return (rows.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
