"""Means of photometric errors over images, in any number of processes."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_face.metrics.photometric import masked_l1, masked_psnr, masked_ssim


class _ImageMean(Metric):
    """Mean over images of `values`.

    An image whose value is not finite makes the mean so, instead of vanishing.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, true: Tensor, mask: Tensor) -> None:
        """Add pictures (B,C,H,W) and masks (B,1,H,W)."""
        values = self.values(predicted, true, mask)
        self.total += values.double().sum()
        self.count += len(values)

    @abstractmethod
    def values(self, predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        """Return one value (B,) an image."""

    def compute(self) -> Tensor:
        """Return the mean."""
        return (self.total / self.count).float()


class MaskedL1(_ImageMean):
    """Mean of `masked_l1`, in the unit of the pictures (linear light in this project's tables)."""

    higher_is_better = False

    def values(self, predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        """Return `masked_l1`."""
        return masked_l1(predicted, true, mask)


class MaskedPSNR(_ImageMean):
    """Mean of `masked_psnr` in dB, of sRGB values in [0,1]."""

    higher_is_better = True

    def values(self, predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        """Return `masked_psnr`."""
        return masked_psnr(predicted, true, mask)


class MaskedSSIM(_ImageMean):
    """Mean of `masked_ssim`, of sRGB values in [0,1]."""

    higher_is_better = True

    def values(self, predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        """Return `masked_ssim`."""
        return masked_ssim(predicted, true, mask)
