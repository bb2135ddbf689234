"""Pictures of what the method predicts, while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from lit_face.io.images import write_image
from lit_face.reporting.pictures import panel
from lit_face.types import FaceBatch


class Panels(pl.Callback):
    """After a validation, writes one picture of its first faces and sends it to the loggers.

    Args:
        folder: where the pictures go, one a validation.
        faces: how many faces a picture shows.
        every_n_validations: how often.
    """

    def __init__(self, folder: str, faces: int = 6, every_n_validations: int = 1) -> None:
        self.folder = Path(folder)
        self.faces, self.every_n_validations = faces, every_n_validations
        self._validations = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the count of validations."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self._validations = state_dict["validations"]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: FaceBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch."""
        if batch_idx or trainer.sanity_checking:
            return
        self._validations += 1
        if (self._validations - 1) % self.every_n_validations == 0:
            self._draw(trainer, pl_module, batch)

    @rank_zero_only
    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: FaceBatch) -> None:
        own: Any = getattr(pl_module, "panel", None)
        if own is not None:  # a method of something else than faces
            picture = own(batch, self.faces)
        else:
            picture = panel(batch, pl_module.predict_step(batch, 0), self.faces)
        write_image(self.folder / f"val-step{trainer.global_step:07d}.jpg", picture)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("val/faces", [picture], step=trainer.global_step)
                continue
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_image"):
                experiment.add_image("val/faces", picture, trainer.global_step, dataformats="HWC")
