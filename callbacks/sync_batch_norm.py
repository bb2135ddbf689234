"""Batch normalisation over all processes, on CPUs too."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce with a gradient, which is the sum over the processes too."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _total(value: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics span every process; works on any backend.

    torch.nn.SyncBatchNorm computes the same and refuses CPU tensors.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B,C,H,W) by the mean and variance over all processes' B, H and W."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        values = input.float()
        count = float(values.numel() // values.shape[1]) * dist.get_world_size()
        mean = _total(values.sum(dim=(0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _total(centred.square().sum(dim=(0, 2, 3))) / count
        self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        normalised = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        result: Tensor = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return result.to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class SyncBatchNorm(LayerSync):
    """Lightning plugin that synchronises every BatchNorm2d: torch's own on GPUs, ours elsewhere.

    Use it with `trainer=ddp`; equal per-device batches are assumed, as the train loaders give.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the layers in place; parameter names stay."""
        if next(model.parameters()).is_cuda:
            converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            return converted
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SynchronisedBatchNorm2d
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Turn our layers back into plain ones."""
        for module in model.modules():
            if type(module) is SynchronisedBatchNorm2d:
                module.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
        return model
