"""Losses of the mesh refiner (Lin et al. 2020): pure functions.

Colours of vertices and pictures are sRGB values, in [-1,1] as the generator gives them. `l1` means
the released code's distance, the mean over channels; `l2` the paper's, the Euclidean one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region

Norm = Literal["l1", "l2"]
HIDDEN_WEIGHT = 0.3
PENALTY_SCALE = 10.0
_EPS = 1e-8


@fp32_region()
def vertex(fine: Tensor, coarse: Tensor, norm: Norm = "l1") -> Tensor:
    """Mean distance of colours (B,V,3): fine ones stay near the coarse ones.

    Raises:
        ValueError: unknown norm.
    """
    return _distance(fine, coarse, norm).mean()


@fp32_region()
def project(
    lit_fine: Tensor,
    sampled: Tensor,
    seen: Tensor,
    lit_coarse: Tensor | None = None,
    hidden_weight: float = HIDDEN_WEIGHT,
    norm: Norm = "l1",
) -> Tensor:
    """Distance of lit colours to the photo's where it shows them, else to the coarse ones'.

    Both are means over all vertices, seen or not.

    Args:
        lit_fine: (B,V,3) fine colours under the photo's light.
        sampled: (B,V,3) the photo's; any value where the vertex is hidden.
        seen: (B,V) in [0,1].
        lit_coarse: (B,V,3) coarse colours under that light; None leaves hidden vertices alone
            (the paper).
        hidden_weight: of hidden vertices.
        norm: see the module.

    Raises:
        ValueError: unknown norm.
    """
    loss = (_distance(lit_fine, sampled, norm) * seen).mean()
    if lit_coarse is not None:
        hidden = _distance(lit_fine, lit_coarse, norm) * (1 - seen)
        loss = loss + hidden_weight * hidden.mean()
    return loss


@fp32_region()
def identity(photo_features: Tensor, picture_features: Tensor) -> Tensor:
    """One minus the mean cosine of identity features (B,D) of photo and picture."""
    photo, picture = photo_features.float(), picture_features.float()
    lengths: Tensor = photo.norm(dim=1) * picture.norm(dim=1)
    return 1 - ((photo * picture).sum(1) / (lengths + _EPS)).mean()


@fp32_region()
def symmetry(colours: Tensor, pairs: Tensor) -> Tensor:
    """Mean Euclidean distance of the colours (B,V,3) of mirrored vertices, pairs (P,2) int64."""
    left, right = colours[:, pairs].unbind(2)
    distance: Tensor = ((left - right).square() + _EPS**2).sum(-1).sqrt()
    return distance.mean()


@fp32_region()
def variance(colours: Tensor, skin: Tensor) -> Tensor:
    """Population variance of a face's skin colour, mean over faces and channels.

    Args:
        colours: (B,V,3).
        skin: weights (V,), bool or in [0,1], or int64 indices of vertices.
    """
    if skin.dtype == torch.int64:
        return colours[:, skin].var(1, correction=0).mean()
    weight = skin.to(colours.dtype)[:, None] / skin.sum().clamp(min=_EPS)
    mean = (colours * weight).sum(1, keepdim=True)
    return ((colours - mean).square() * weight).sum(1).mean()


def dense_decay(parameters: Iterable[Tensor]) -> Tensor:
    """Half the sum of squares of all parameters."""
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() / 2


@fp32_region()
def pixel(photo: Tensor, rendered: Tensor, mask: Tensor) -> Tensor:
    """Mean Euclidean distance of the colours of the pixels in a mask; 0 if it is empty.

    Args:
        photo: (B,3,H,W).
        rendered: likewise.
        mask: (B,1,H,W) in [0,1], without gradient.
    """
    return _masked_mean((photo - rendered).norm(dim=1, keepdim=True), mask)


@fp32_region()
def pixel_l1(photo: Tensor, rendered: Tensor, mask: Tensor) -> Tensor:
    """Mean distance, summed over channels, of the pixels in a mask; arguments as in `pixel`."""
    return _masked_mean((photo - rendered).abs().sum(1, keepdim=True), mask)


def adversarial(scores_fake: Tensor) -> Tensor:
    """The generator's part: minus the mean score (B,1) of its pictures."""
    return -scores_fake.mean()


def critic(scores_real: Tensor, scores_fake: Tensor) -> Tensor:
    """The critic's part: how far the scores (B,1) of photos lie below those of pictures."""
    return scores_fake.mean() - scores_real.mean()


@fp32_region()
def gradient_penalty(
    critic_module: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    mix: Tensor,
    scale: float = PENALTY_SCALE,
) -> Tensor:
    """Hold the critic's slope at 1 between photos and pictures, in float32 under any autocast.

    Args:
        critic_module: (B,3,H,W) to scores (B,1).
        real: (B,3,H,W).
        fake: likewise; gets no gradient.
        mix: (B,1,1,1) in [0,1], how much of `real`. The reference draws one number for the batch.
        scale: of the penalty.

    Source: Gulrajani et al. (2017), "Improved training of Wasserstein GANs".
    """
    mixed = mix.float() * real.float() + (1 - mix.float()) * fake.float()
    mixed = mixed.detach().requires_grad_()
    scores = critic_module(mixed)
    (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
    steepness: Tensor = slope.flatten(1).norm(dim=1)
    return scale * (steepness - 1).square().mean()


def _distance(found: Tensor, wanted: Tensor, norm: Norm) -> Tensor:
    """Return (B,V) distances of colours (B,V,3)."""
    if norm not in get_args(Norm):
        raise ValueError(f"norm should be 'l1' or 'l2', found {norm!r}.")
    difference = found - wanted
    if norm == "l1":
        return difference.abs().mean(-1)
    length: Tensor = difference.norm(dim=-1)
    return length


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    mask = mask.detach()
    return (values * mask).sum() / mask.sum().clamp(min=_EPS)
