"""Losses of map completion: weighted L1 and hinge terms.

Source: Wang et al. (NeurIPS 2018), "Image inpainting via generative multi-column convolutional
neural networks", sections 3.3 and 3.4, and its PyTorch release.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-6


@torch.no_grad()
def confidence_weights(
    hole: Tensor, kernel: int = 65, rounds: int = 7, sigma: float | None = None
) -> Tensor:
    """Return weights that are large near what is known and fall into the hole.

    The known part starts with 1; each round spreads it with a blur and keeps the result in the
    hole. The release's kernel, meant as a Gaussian, is a box but for 4e-4: that is the default.

    Args:
        hole: (B,1,H,W) 1 = missing.
        kernel: odd side of the blur, texels.
        rounds: how often to spread.
        sigma: of a Gaussian kernel, texels, as the paper describes it; None takes the release's.

    Returns:
        (B,1,H,W), 0 outside of the hole.
    """
    line = _release_kernel(kernel) if sigma is None else _gaussian_kernel(kernel, sigma)
    line = line.to(hole)
    known, weight = 1 - hole, torch.zeros_like(hole)
    reach = kernel // 2
    for _ in range(rounds):
        padded = _reflect(known + weight, reach)
        blurred = F.conv2d(F.conv2d(padded, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))
        weight = blurred * hole
    return weight


def weighted_l1(difference: Tensor, weight: Tensor, region: Tensor) -> Tensor:
    """Return mean |weight * difference| over the mean of `region`, 0 where the region is empty."""
    return (weight * difference).abs().mean() / region.mean().clamp(min=_TINY)


def hinge_discriminator(true: Tensor, completed: Tensor) -> Tensor:
    """Return the loss of a discriminator from its scores (B,1)."""
    return F.relu(1 - true).mean() + F.relu(1 + completed).mean()


def hinge_generator(completed: Tensor) -> Tensor:
    """Return the loss of the generator from the discriminator's scores (B,1)."""
    return -completed.mean()


def _release_kernel(size: int, sigma: float = 1 / 40) -> Tensor:
    """Return one axis (size,) of the release's kernel: sqrt of steps of the normal distribution."""
    interval = (2 * sigma + 1) / size
    end = sigma + interval / 2
    edges = torch.linspace(-end, end, size + 1, dtype=torch.float64)
    steps: Tensor = torch.special.ndtr(edges).diff().sqrt()
    return steps / steps.sum()


def _gaussian_kernel(size: int, sigma: float) -> Tensor:
    place = torch.arange(size, dtype=torch.float64) - size // 2
    values: Tensor = torch.exp(-0.5 * (place / sigma) ** 2)
    return values / values.sum()


def _reflect(image: Tensor, reach: int) -> Tensor:
    """Reflect the borders; again and again where the picture is smaller than that."""
    while reach > 0:
        step = min(reach, min(image.shape[-2:]) - 1)
        image = F.pad(image, (step, step, step, step), mode="reflect")
        reach -= step
    return image
