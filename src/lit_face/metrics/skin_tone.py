"""Skin tone as the individual typology angle (ITA) of an albedo, and its six usual groups."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Lower bounds in degrees, lightest first.
GROUPS: dict[str, float] = {
    "very_light": 55.0,
    "light": 41.0,
    "intermediate": 28.0,
    "tan": 10.0,
    "brown": -30.0,
    "dark": -math.inf,
}
# Linear sRGB to XYZ (IEC 61966-2-1) over the white point D65.
_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_WHITE = (0.95047, 1.0, 1.08883)
_KNEE = (6 / 29) ** 3


def lab_of_linear(color: Tensor) -> Tensor:
    """Turn linear sRGB (...,3) into CIELAB (...,3), white point D65.

    Source: CIE 15:2004, section 8.2.1.
    """
    xyz = color @ color.new_tensor(_XYZ).mT / color.new_tensor(_WHITE)
    root = xyz.clamp(min=_KNEE) ** (1 / 3)
    curve = torch.where(xyz > _KNEE, root, xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = curve.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def typology_angle_deg(albedo: Tensor, weights: Tensor) -> Tensor:
    """Return the ITA (B,) in degrees of the mean colour of a skin.

    Args:
        albedo: (B,N,3) linear diffuse albedo.
        weights: (N,) or (B,N), which points are skin.

    Source: Chardon, Cretois & Hourseau (1991), "Skin colour typology and suntanning pathways".
    """
    share = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
    lightness, _, yellow = lab_of_linear((albedo * share[..., None]).sum(-2)).unbind(-1)
    return torch.rad2deg(torch.atan2(lightness - 50, yellow))


def tone_group(angle_deg: float) -> str:
    """Name the group of an ITA in degrees (Del Bino & Bernerd 2013)."""
    return next(name for name, lowest in GROUPS.items() if angle_deg > lowest)
