"""Mesoscopic displacement from facial textures as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.methods.displacement.losses import correlation, correlation_sums, masked_l1
from lit_face.methods.displacement.network import size_problem
from lit_face.methods.displacement.predictor import DisplacementPredictor
from lit_face.rendering.drawing import to_pixels
from lit_face.types import FaceBatch, required

_PANEL_MM = 0.5  # displacement drawn black and white


class DisplacementModule(pl.LightningModule):
    """Learn the relief of skin, in mm along the normal, from its texture.

    A batch's `image` is the texture, `scan` has its `displacement` and where it is `valid`; the
    loss is the mean absolute difference there.

    Args:
        network: the generator.
        optimizer: parameters to an optimiser.
        morphable_model: not used; every run passes one.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        window: see `DisplacementPredictor`; true for released weights and for data.source=tu.
        side: likewise.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "scan"})

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        morphable_model: nn.Module | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        window: bool = False,
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.predictor = DisplacementPredictor(network, window, side)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self._sums: list[Tensor] = []

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        problems = []
        for key in ("image_size", "crop"):
            problem = size_problem(data[key], method["network"]["downs"]) if key in data else None
            if problem:
                problems.append(f"data.{key}: {problem}")
        if "source" in data and (data["source"] == "tu") != method["window"]:
            problems.append(
                f"method.window={method['window']} does not go with data.source={data['source']}: "
                "TU models show the facial window (true), processed scans the core (false)."
            )
        return problems

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the mean absolute difference in mm."""
        true, valid = self._truth(batch)
        loss = masked_l1(self.predictor.network_mm(batch.image), true, valid)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log the error beside that of a flat map, mm; gather what the correlation needs."""
        true, valid = self._truth(batch)
        predicted = self.predictor.network_mm(batch.image)
        options: dict[str, Any] = {"sync_dist": True, "batch_size": len(batch)}
        self.log("val/l1_mm", masked_l1(predicted, true, valid), prog_bar=True, **options)
        self.log("val/zero_l1_mm", masked_l1(torch.zeros_like(true), true, valid), **options)
        self._sums.append(correlation_sums(predicted, true, valid))

    def on_validation_epoch_end(self) -> None:
        """Log the correlation over all valid texels."""
        if self._sums:
            gathered: Any = self.all_gather(torch.stack(self._sums).sum(0))
            self.log("val/correlation", correlation(gathered.reshape(-1, 6).sum(0)).float())
        self._sums = []

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Tensor:
        """Return displacement (B,1,T,T) in mm of the batch's textures."""
        return self.predictor.network_mm(batch.image)

    @torch.no_grad()
    def displacement(self, texture: Tensor) -> Tensor:
        """Return displacement (B,1,T,T) in mm of core textures (B,3,T,T), RGB in [0,1]."""
        was_training = self.training
        try:
            found: Tensor = self.eval().predictor(texture)
        finally:
            self.train(was_training)
        return found

    def panel(self, batch: FaceBatch, faces: int) -> np.ndarray:
        """Draw the first textures with predicted and true relief, 0.5 mm to black and white."""
        first = batch.map(lambda tensor: tensor[:faces])
        true, valid = self._truth(first)
        maps = (self.predict_step(first) * valid, true * valid)
        grey = [(0.5 + relief / (2 * _PANEL_MM)).expand(-1, 3, -1, -1) for relief in maps]
        pictures = to_pixels(torch.cat([first.image, *grey], dim=-1))
        rows: np.ndarray = pictures.reshape(-1, *pictures.shape[2:])
        return rows

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where one is configured, the schedule."""
        optimizer = self.make_optimizer(self.predictor.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def _truth(self, batch: FaceBatch) -> tuple[Tensor, Tensor]:
        scan = required(batch.scan, "scan", type(self).__name__)
        return scan["displacement"], scan["valid"]
