"""Images a second, and the share of time spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl


class Throughput(pl.Callback):
    """Logs `train/images_per_second` (all devices) and `train/data_wait` (share of the time).

    Args:
        every_n_steps: length of the window that is averaged.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps
        self._window_start = self._last_end = 0.0
        self._waited, self._images = 0.0, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a window."""
        self._restart()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the time since the last step ended as waiting."""
        self._waited += time.perf_counter() - self._last_end

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count images; at the window's end log and start anew."""
        self._last_end = time.perf_counter()
        self._images += len(batch)
        if (batch_idx + 1) % self.every_n_steps == 0:
            elapsed = self._last_end - self._window_start
            values = {
                "train/images_per_second": self._images * trainer.world_size / elapsed,
                "train/data_wait": self._waited / elapsed,
            }
            pl_module.log_dict(values)
            self._restart()

    def _restart(self) -> None:
        self._window_start = self._last_end = time.perf_counter()
        self._waited, self._images = 0.0, 0
