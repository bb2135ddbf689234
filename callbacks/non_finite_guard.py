"""Stop at once when the loss is no number, and say which samples did it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch


class NonFiniteGuard(pl.Callback):
    """Raises FloatingPointError on a loss that is NaN or infinite.

    Args:
        every_n_steps: how often to look; looking waits for the device.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the loss of this batch."""
        if batch_idx % self.every_n_steps:
            return
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None and not torch.isfinite(loss):
            samples = ", ".join(getattr(batch, "sample_id", [])[:8])
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {trainer.global_step} (samples: {samples}). "
                "Lower method.optimizer.lr, clip gradients (trainer.gradient_clip_val=1) or train "
                "with trainer.precision=32-true; the last good weights are in checkpoints/."
            )
