"""The resolved config travels in every checkpoint as plain data."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

import lit_face


class ConfigInCheckpoint(pl.Callback):
    """Writes format, version and config to `checkpoint["lit_face"]`, loadable as weights only."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the config to the checkpoint."""
        checkpoint["lit_face"] = {
            "format": 1,
            "version": lit_face.__version__,
            "config": self.config,
        }
