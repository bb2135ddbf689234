"""Exponential moving average of the weights, and of the statistics that belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class WeightAverage(WeightAveraging):
    """Validation and checkpoints use the average.

    Running statistics of normalisation layers are averaged like the weights: those of the newest
    weights do not fit average ones. Other buffers are constants and left alone.

    Args:
        decay: share of the old average that a step keeps; less in the first steps, so that the
            average soon forgets the random start.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        super().__init__(use_buffers=False, avg_fn=self._average)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the average towards the new weights and statistics."""
        model = self._average_model
        if model is None:
            return
        count = model.n_averaged.clone()
        before = [value.clone() for value in _statistics(model.module)]
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if count == 0 or torch.equal(count, model.n_averaged):
            return
        for old, value in zip(before, _statistics(model.module), strict=True):
            value.copy_(self._average(old, value, count))

    def _average(self, average: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        steps = int(count)
        return torch.lerp(new, average, min(self.decay, (1 + steps) / (10 + steps)))


def _statistics(module: nn.Module) -> Iterator[Tensor]:
    for layer in module.modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            yield layer.running_mean
            if layer.running_var is not None:
                yield layer.running_var
