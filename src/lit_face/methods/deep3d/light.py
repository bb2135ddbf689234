"""Deep3D's light, nine harmonics a channel, as radiance coefficients of the house.

Deep3D shades a color of normal n with the sum of (gamma + START) times nine functions of n, in axes
x right, y up, z to the viewer. The functions are harmonics times factors that are Lambert's in
band 0 only: sqrt(3) and sqrt(8) times as strong in bands 1 and 2. Both bases span the same space,
so the change is exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

BANDS = 3
START = 0.8  # added to the first coefficient of every channel

_BAND_1 = math.sqrt(3) * math.pi
_BAND_2 = math.sqrt(8) * math.pi
_HALF, _ROOT = 0.5 * _BAND_2, math.sqrt(0.75) * _BAND_2
# Deep3D's function -> the house's coefficients that shade like it.
_IN_HOUSE: tuple[dict[int, float], ...] = (
    {0: math.pi},
    {2: _BAND_1},  # -y
    {3: -_BAND_1},  # z
    {1: _BAND_1},  # -x
    {5: _BAND_2},  # x y
    {7: -_BAND_2},  # -y z
    {6: -_HALF, 8: _ROOT},  # 3 z^2 - 1
    {4: -_BAND_2},  # -x z
    {6: -_ROOT, 8: -_HALF},  # x^2 - y^2
)


@fp32_region()
def to_radiance(gamma: Tensor) -> Tensor:
    """Convert Deep3D's coefficients to those that `sh_shading` takes.

    Args:
        gamma: (B,3,9) as the network gives them; `START` is added here.

    Returns:
        (B,9,3) house order, camera frame: `sh_shading` of normals there equals Deep3D's shading.
    """
    matrix = gamma.new_zeros(9, 9)
    for own, parts in enumerate(_IN_HOUSE):
        for house, value in parts.items():
            matrix[house, own] = value
    start = torch.zeros_like(gamma[0, 0])
    start[0] = START
    return matrix @ (gamma + start).mT
