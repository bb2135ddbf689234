"""The run's `metrics.json`: flat names to numbers."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from lit_face.config.run_folder import write_metrics


class MetricsFile(pl.Callback):
    """Writes the trainer's metrics to `metrics.json` after each validation and at the end.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was just measured."""
        self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last values."""
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
            write_metrics(self.folder, {**metrics, "step": trainer.global_step})
