"""Errors of rendered pictures where a mask is 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

Images = Float[Tensor, "B C H W"]
Mask = Float[Tensor, "B 1 H W"]
Values = Float[Tensor, " B"]

_PERFECT_MSE = 1e-10  # 100 dB
_LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"


def masked_l1(predicted: Images, true: Images, mask: Mask) -> Values:
    """Mean absolute difference over masked pixels and channels; NaN where the mask is empty."""
    return _masked_mean((predicted.float() - true.float()).abs(), mask)


def masked_psnr(predicted: Images, true: Images, mask: Mask) -> Values:
    """Peak signal-to-noise ratio, dB, of values in [0,1] over masked pixels; at most 100."""
    error = _masked_mean((predicted.float() - true.float()).square(), mask)
    return -10 * torch.log10(error.clamp(min=_PERFECT_MSE))


def masked_ssim(predicted: Images, true: Images, mask: Mask) -> Values:
    """Structural similarity of values in [0,1], mean of its map over masked pixels.

    Outside of the mask both pictures are the true one, so that windows at the mask's edge see no
    difference that does not count.

    Source: Wang, Bovik, Sheikh & Simoncelli (2004); torchmetrics' map, 11 x 11 Gaussian window.
    """
    _, similarity = structural_similarity_index_measure(
        inside(predicted, true, mask),
        true.float(),
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    return _masked_mean(similarity, mask)


def inside(predicted: Images, true: Images, mask: Mask) -> Images:
    """Return the predicted picture where the mask is 1, the true one elsewhere."""
    return torch.where(mask > 0, true + mask * (predicted - true), true).float()


def overlap(first: Mask, second: Mask) -> Values:
    """Intersection over union of masks in [0,1]; NaN where both are empty."""
    common = torch.minimum(first, second).flatten(1).sum(1)
    return common / torch.maximum(first, second).flatten(1).sum(1)


def share_inside(part: Mask, whole: Mask) -> Values:
    """Share of the first mask that lies in the second; NaN where the first is empty."""
    return torch.minimum(part, whole).flatten(1).sum(1) / part.flatten(1).sum(1)


class PerceptualDistance:
    """LPIPS (Zhang et al. 2018) on AlexNet, where its backbone's weights are on this machine.

    Args:
        device: where to compute.

    Raises:
        FileNotFoundError: the weights are not in torch's cache; nothing is downloaded.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / _LPIPS_BACKBONE
        if not file.is_file():
            raise FileNotFoundError(
                f"LPIPS needs {_LPIPS_BACKBONE} (torchvision's AlexNet) in {file.parent}."
            )
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
        self._network: Any = metric.net.to(device).eval()

    @torch.no_grad()
    def __call__(self, predicted: Images, true: Images, mask: Mask) -> Values:
        """Return the distance (B,) of sRGB pictures in [0,1] that differ in the mask only."""
        distance: Tensor = self._network(
            inside(predicted, true, mask), true.float(), normalize=True
        )
        return distance.flatten()


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    weight = mask.float().expand_as(values).flatten(1)
    # Values where the mask is 0 do not count, not even if they are not finite.
    counted = torch.where(weight > 0, values.flatten(1) * weight, torch.zeros_like(weight))
    total: Tensor = counted.sum(1) / weight.sum(1)
    return total
