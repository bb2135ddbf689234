"""Training of the implicit function as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.methods.uv_implicit.implicit import ImplicitSurface
from lit_face.methods.uv_implicit.sampling import (
    Samples,
    cost_label,
    draw_samples,
    released_samples,
)
from lit_face.methods.uv_implicit.views import (
    choose_views,
    random_gains,
    random_views,
)
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.displacement_pictures import displacement_panel
from lit_face.types import FaceBatch, required

Loss = Literal["mse", "l1", "bce"]
Sampling = Literal["balanced", "released"]

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce": F.binary_cross_entropy,
}


class UVImplicitModule(pl.LightningModule):
    """Learn the matching cost of displacements of a base mesh (Xiao et al., AAAI 2022).

    Args:
        implicit: photos and base mesh to cost volumes.
        optimizer: parameters to an optimiser.
        morphable_model: not used; every run passes one.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        points: of each sample in a step.
        sigma: standard deviation of these points about the true surface, intervals.
        views: smallest and largest number of views in a training step; None takes all.
        loss: 'mse' (released), 'l1' or 'bce'.
        sampling: 'balanced', or 'released', which also counts whole intervals in the label.
        gain: how much the exposure of photos varies in training, standard deviation of its
            logarithm; 0 as released.
        val_stride: the error in validation is of every so many texels.
        image_scale: of the photos' sides in training; use takes the same.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "camera", "uv_maps", "scan"})

    def __init__(
        self,
        implicit: ImplicitSurface,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        morphable_model: MorphableModel | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        points: int = 10000,
        sigma: float = 10.0,
        views: tuple[int, int] | None = None,
        loss: Loss = "mse",
        sampling: Sampling = "balanced",
        gain: float = 0.0,
        val_stride: int = 4,
        image_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.implicit = implicit
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.points, self.sigma = points, sigma
        self.views = None if views is None else (int(views[0]), int(views[1]))
        self.loss, self.sampling = loss, sampling
        self.gain, self.val_stride, self.image_scale = gain, val_stride, image_scale

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        problems = []
        planes = method["implicit"]["planes"]
        if planes % 4 != 1:
            problems.append(f"implicit.planes should be 4 k + 1 for uv_regularize, found {planes}.")
        if method["loss"] not in _LOSSES:
            problems.append(f"loss should be mse, l1 or bce, found {method['loss']!r}.")
        if method["sampling"] not in ("balanced", "released"):
            problems.append(
                f"sampling should be balanced or released, found {method['sampling']!r}."
            )
        views, there = method["views"], data.get("views")
        if views is not None and not (
            len(views) == 2 and 1 < views[0] <= views[1] and (there is None or views[1] <= there)
        ):
            problems.append(
                f"views should be two numbers from 2 to data.views={there}, small one first; found "
                f"{list(views)}."
            )
        return [f"method.{problem}" for problem in problems]

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the error of the cost at points about the true surface."""
        batch = self._varied(batch)
        surface, texels = self.implicit.surface(batch)
        samples = self._samples(batch, texels)
        seen = self.implicit.look(batch)
        cost = self.implicit.cost(seen, surface.at(samples.texel), samples.displacement)
        label = cost_label(
            samples.displacement - samples.truth, self.implicit.planes, self.sampling == "released"
        )
        loss = _LOSSES[self.loss](cost.float(), label)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log errors of the displacement in mm, of the base mesh beside it."""
        known, truth = self._truth(batch)
        known = known & _every(known, self.val_stride)
        maps = {**required(batch.uv_maps, "uv_maps", "UVImplicitModule"), "mask": known.float()}
        batch = FaceBatch(batch.image, camera=batch.camera, uv_maps=maps)
        found = self.surfaces(batch)
        for name, value in {**found, "base": torch.zeros_like(truth)}.items():
            error = (value - truth).abs()[known]
            metrics = {
                f"val/{name}_mm": error.mean(),
                f"val/{name}_median_mm": error.median(),
            }
            self.log_dict(metrics, batch_size=len(batch), sync_dist=True)
        self.log("val/mm", (found["implicit"] - truth).abs()[known].mean(), prog_bar=True,
                 batch_size=len(batch), sync_dist=True)  # fmt: skip

    @torch.no_grad()
    def volume(self, batch: FaceBatch) -> Tensor:
        """Return the cost volume (B,D,S,S)."""
        volume: Tensor = self.implicit(batch)
        return volume

    @torch.no_grad()
    def surfaces(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return displacements (B,1,S,S) in mm by stage: `implicit_argmax`, `implicit`."""
        return self.implicit.readings(
            self.volume(batch), required(batch.uv_maps, "uv_maps", "uv_implicit")["mask"]
        )

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Tensor:
        """Return displacements (B,1,S,S) of the base mesh along its normals, mm."""
        return self.surfaces(batch)["implicit"]

    def panel(self, batch: FaceBatch, faces: int) -> NDArray[np.uint8]:
        """Draw the displacement of the first samples beside the true one (`Panels`)."""
        known, truth = self._truth(batch)
        limit = self.implicit.interval * self.implicit.planes / 4
        found = self.predict_step(batch)
        return displacement_panel(found[:faces], truth[:faces], known[:faces], limit)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where there is one, its schedule."""
        optimizer = self.make_optimizer(self.implicit.parameters())
        if self.make_scheduler is None:
            return optimizer
        return [optimizer], [self.make_scheduler(optimizer)]

    def _truth(self, batch: FaceBatch) -> tuple[Tensor, Tensor]:
        """Return where (B,1,S,S) bool the displacement is known, and the displacement in mm."""
        scan = required(batch.scan, "scan", type(self).__name__)
        maps = required(batch.uv_maps, "uv_maps", type(self).__name__)
        known = (maps["mask"] > 0.5) & (scan["valid"] > 0.5)
        return known, scan["displacement"] * known

    def _varied(self, batch: FaceBatch) -> FaceBatch:
        keys = required(batch.random_key, "random_key", type(self).__name__)
        if self.views is not None:
            # All samples of a step have as many views: their photos are one tensor.
            low, high = self.views
            draw = torch.rand((), generator=torch.Generator().manual_seed(int(keys[0]) % 2**62))
            count = low + int(draw * (high - low + 1))
            chosen = random_views(keys, batch.image.shape[1], min(count, batch.image.shape[1]))
            batch = choose_views(batch, self.implicit.camera_of(batch), chosen)
        if self.gain:
            batch = random_gains(batch, keys, self.gain)
        return self.implicit.cropped(batch)

    def _samples(self, batch: FaceBatch, texels: Tensor) -> Samples:
        """Draw points on texels whose displacement is known; texel counts among `texels` (B,T)."""
        known, truth = self._truth(batch)
        planes, rows = self.implicit.planes, texels.clamp(min=0)
        true = truth.flatten(1).gather(1, rows) / self.implicit.interval
        usable = known.flatten(1).gather(1, rows) & (texels >= 0)
        lists = [row.nonzero()[:, 0] for row in usable]
        for name, row in zip(batch.sample_id, lists, strict=False):
            if len(row) == 0:
                raise ValueError(f"{name}: no texel has a true displacement; leave it out.")
        values = [line[index] for line, index in zip(true, lists, strict=True)]
        keys = required(batch.random_key, "random_key", type(self).__name__)
        if self.sampling == "released":
            drawn = _released(values, keys, self.points, planes, self.sigma)
        else:
            drawn = draw_samples(values, keys, self.points, planes, self.sigma)
        chosen = [index[texel] for index, texel in zip(lists, drawn.texel, strict=True)]
        return Samples(torch.stack(chosen), drawn.displacement, drawn.truth)


def _released(truth: list[Tensor], keys: Tensor, count: int, planes: int, sigma: float) -> Samples:
    """Draw as the release does, one generator a sample."""
    texels, displacements, values = [], [], []
    for key, known in zip(keys.tolist(), truth, strict=True):
        rng = np.random.RandomState(key % 2**32)
        texel, displacement = released_samples(
            known.double().cpu().numpy(), rng, count, planes, sigma
        )
        texels.append(torch.from_numpy(texel).to(known.device))
        displacements.append(torch.from_numpy(displacement).to(known))
        values.append(known[texels[-1]])
    return Samples(torch.stack(texels), torch.stack(displacements), torch.stack(values))


def _every(known: Tensor, stride: int) -> Tensor:
    """Return a grid of true texels, one in `stride` in both directions."""
    grid = torch.zeros_like(known)
    grid[..., ::stride, ::stride] = True
    return grid
