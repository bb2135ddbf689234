"""Training of the regulariser as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.data.random import uniform
from lit_face.geometry.cost_volumes import expected_displacement
from lit_face.methods.uv_regularize.volumes import VolumeStore
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.displacement_pictures import displacement_panel
from lit_face.types import FaceBatch, required

Loss = Literal["mse", "huber", "released"]

_MIRROR, _PLACE = 51, 52  # streams of random numbers


class UVRegularizeModule(pl.LightningModule):
    """Learn smooth displacements from the cost volumes of a frozen `uv_implicit`.

    A checkpoint of this method holds the implicit function too.

    Args:
        implicit: a trained `lit_face.methods.uv_implicit.ImplicitSurface`.
        network: volumes (B,D,S,S) to scores of the same size.
        optimizer: parameters to an optimiser.
        morphable_model: not used; every run passes one.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        loss: of displacements in intervals: 'mse' or 'huber' where the truth is known, or
            'released': squares over the whole map, with 0 outside of the mask.
        mirror: probability of swapping the sides of a map in training.
        patch: side of the part of the maps that a step sees, texels; None for all.
        cache: folder where volumes are kept; None for the cache of lit_face.
        image_scale: of the photos' sides in training; use takes the same.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "camera", "uv_maps", "scan"})
    freezes_weights: ClassVar[bool] = True

    def __init__(
        self,
        implicit: nn.Module,
        network: nn.Module,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        morphable_model: MorphableModel | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        loss: Loss = "huber",
        mirror: float = 0.5,
        patch: int | None = None,
        cache: str | None = None,
        image_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.implicit: Any = implicit.requires_grad_(False).eval()
        self.network = network
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss, self.mirror, self.patch = loss, mirror, patch
        self.image_scale = image_scale
        self.volumes = VolumeStore(implicit, cache)

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        planes, size = method["implicit"]["planes"], data.get("uv_size")
        problems = []
        if planes % 4 != 1:
            problems.append(f"method.implicit.planes should be 4 k + 1, found {planes}.")
        if method["patch"] is not None and (method["patch"] % 4 or method["patch"] < 4):
            problems.append(f"method.patch should be a multiple of 4, found {method['patch']}.")
        if size is not None and size % 4:
            problems.append(f"data.uv_size should be a multiple of 4, found {size}.")
        if method["loss"] not in ("mse", "huber", "released"):
            problems.append(
                f"method.loss should be mse, huber or released, found {method['loss']!r}."
            )
        return problems

    def train(self, mode: bool = True) -> Self:
        """Train the regulariser; the implicit function stays as it is."""
        super().train(mode)
        self.implicit.eval()
        return self

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the error of the displacement, in intervals."""
        mask, known, truth = self._truth(batch)
        volume = self.volumes(batch)
        keys = required(batch.random_key, "random_key", type(self).__name__)
        swapped = (uniform(keys, _MIRROR) < self.mirror)[:, None, None, None]
        volume, mask, known, truth = (
            torch.where(swapped, maps.flip(-1), maps) for maps in (volume, mask, known, truth)
        )
        window = self._window(keys, mask.shape[-1])
        volume, mask, known, truth = (maps[window] for maps in (volume, mask, known, truth))
        found = expected_displacement(self.network(volume * mask), mask)
        truth = truth / self.implicit.interval
        if self.loss == "released":
            loss = F.mse_loss(found, truth * mask)
        else:
            measure = F.mse_loss if self.loss == "mse" else F.huber_loss
            error = measure(found, truth, reduction="none") * known
            loss = error.sum() / known.sum().clamp(min=1)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log errors of the displacement in mm by stage, the base mesh's beside them."""
        _, known, truth = self._truth(batch)
        where = known > 0.5
        stages = {"base": torch.zeros_like(truth), **self._stages(batch, self.volumes(batch))}
        for name, value in stages.items():
            error = (value - truth).abs()[where]
            metrics = {f"val/{name}_mm": error.mean(), f"val/{name}_median_mm": error.median()}
            self.log_dict(metrics, batch_size=len(batch), sync_dist=True)
        error = (stages["regularized"] - truth).abs()[where].mean()
        self.log("val/mm", error, prog_bar=True, batch_size=len(batch), sync_dist=True)

    @torch.no_grad()
    def volume(self, batch: FaceBatch) -> Tensor:
        """Return the cost volume (B,D,S,S)."""
        volume: Tensor = self.implicit(batch)
        return volume

    @torch.no_grad()
    def surfaces(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return displacements (B,1,S,S) in mm: those of the implicit function, `regularized`."""
        return self._stages(batch, self.volume(batch))

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Tensor:
        """Return displacements (B,1,S,S) of the base mesh along its normals, mm."""
        return self.surfaces(batch)["regularized"]

    def panel(self, batch: FaceBatch, faces: int) -> NDArray[np.uint8]:
        """Draw the displacement of the first samples beside the true one (`Panels`)."""
        _, known, truth = self._truth(batch)
        limit = self.implicit.interval * self.implicit.planes / 4
        found = self._stages(batch, self.volumes(batch))["regularized"]
        return displacement_panel(found[:faces], truth[:faces], known[:faces], limit)

    @torch.no_grad()
    def regularized(self, volume: Tensor, mask: Tensor) -> Tensor:
        """Return the displacement (B,1,S,S) in mm of a volume (B,D,S,S) on a mask (B,1,S,S)."""
        scores = self.network(volume * mask)
        interval: float = self.implicit.interval
        return expected_displacement(scores, mask) * interval

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where there is one, its schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return [optimizer], [self.make_scheduler(optimizer)]

    def _window(self, keys: Tensor, size: int) -> tuple[Any, ...]:
        """Choose the part of maps (B,C,S,S) that a step sees."""
        if self.patch is None or self.patch >= size:
            return (...,)
        room = size - self.patch + 1
        top, left = (uniform(keys[:1], _PLACE, 2)[0] * room).long().tolist()
        return (..., slice(top, top + self.patch), slice(left, left + self.patch))

    @torch.no_grad()
    def _stages(self, batch: FaceBatch, volume: Tensor) -> dict[str, Tensor]:
        mask = required(batch.uv_maps, "uv_maps", type(self).__name__)["mask"]
        found: dict[str, Tensor] = self.implicit.readings(volume, mask)
        return {**found, "regularized": self.regularized(volume, mask)}

    def _truth(self, batch: FaceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return mask, where the displacement is known (0 or 1) and displacement in mm."""
        scan = required(batch.scan, "scan", type(self).__name__)
        mask = required(batch.uv_maps, "uv_maps", type(self).__name__)["mask"]
        known = mask * scan["valid"]
        return mask, known, scan["displacement"] * known
