"""Gains that make photos of one surface equally bright where they overlap."""

from __future__ import annotations

import torch
from torch import Tensor

_DARK, _BRIGHT = 0.02, 0.98  # values beyond say little about the exposure
_LARGEST = 2.0  # gain
_SPREAD = 0.1  # of logarithms between views, beyond which it is a highlight or a wrong texel
_ROUNDS = 4
_LOOSE = 1e-6  # keeps views that overlap no other at gain 1


def exposure_gains(colors: Tensor, weights: Tensor) -> Tensor:
    """Find a gain a view and channel by robust least squares of logarithms.

    The weighted mean of the logarithms of all gains is 0: the views as a whole get no brighter.

    Args:
        colors: (N,P,3) of P points in N views, in [0,1].
        weights: (N,P), 0 where a view does not see a point.

    Returns:
        (N,3).
    """
    views = len(colors)
    usable = ((colors > _DARK) & (colors < _BRIGHT)) * weights[..., None]
    logs = colors.clamp(_DARK, 1).log().double()
    usable = usable.double()
    gains = logs.new_zeros(views, 3)
    for _ in range(_ROUNDS):
        links, differences = [], []
        for view in range(views):
            residual = logs[view] + gains[view] - logs - gains[:, None]
            trust = usable[view] * usable / (1 + (residual / _SPREAD) ** 2)
            links.append(trust.sum(1))
            differences.append((trust * (logs - logs[view])).sum(1).sum(0))
        link = torch.stack(links).movedim(-1, 0)  # (3,N,N)
        link = link - torch.diag_embed(link.diagonal(dim1=1, dim2=2))
        scale = link.sum((1, 2), keepdim=True).clamp(min=1e-12)
        share = usable.sum(1).T / usable.sum((0, 1)).clamp(min=1e-12)[:, None]
        system = (torch.diag_embed(link.sum(2)) - link) / scale
        system = system + share[:, :, None] * share[:, None] + _LOOSE * torch.eye(views).to(link)
        wanted = torch.stack(differences).T / scale[:, :, 0]
        gains = torch.linalg.solve(system, wanted[..., None])[..., 0].T
    return gains.exp().clamp(1 / _LARGEST, _LARGEST).to(colors)
