"""Training of an identity network as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.data.random import normal, uniform
from lit_face.geometry.five_points import ARCFACE_SIZE, arcface_matrix, five_points
from lit_face.identity import align_faces, mask_faces
from lit_face.methods.identity.people import PeopleTable
from lit_face.metrics.identity import VerificationAUC
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.drawing import to_pixels
from lit_face.types import FaceBatch, required

# One stream a purpose, beside those of lit_face.data.transforms.
_POINTS, _HIDE, _MIRROR, _SHARPNESS = range(800, 804)
_PANEL_NEIGHBOURS = 3
_FOLDS = 3


class IdentityModule(pl.LightningModule):
    """Learn features that tell people apart, from pictures with landmarks and people's numbers.

    What is learnt is `network`; no face is reconstructed, `predict_step` gives features.

    Args:
        network: aligned faces (B,3,112,112) in [-1,1] to features (B,`features`).
        optimizer: parameters to an optimiser.
        people: at least the number of people in the training data (`PeopleTable`).
        features: of the network.
        morphable_model: not used; every run passes one.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        margin: see `PeopleTable`.
        scale: likewise.
        point_noise: standard deviation of the five points, pixels of 112, in training.
        hide: probability that only the skin is left, on grey, where the data has masks: so faces
            are known without what is around them.
        mirror: probability of mirroring.
        smallest_side: pictures are blurred as if of this many pixels, or sharper; 112 for none.
        left_out: 0, 1 or 2: a third of the training people, by their numbers, from whom nothing is
            learnt, so that two networks need not know the same people; None learns from all.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "person"})

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        people: int,
        features: int,
        morphable_model: MorphableModel | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        margin: float = 0.2,
        scale: float = 16.0,
        point_noise: float = 1.0,
        hide: float = 0.5,
        mirror: float = 0.5,
        smallest_side: int = ARCFACE_SIZE,
        left_out: int | None = None,
    ) -> None:
        super().__init__()
        if left_out not in (None, *range(_FOLDS)):
            raise ValueError(f"left_out should be 0, 1, 2 or null, found {left_out}.")
        if not 8 <= smallest_side <= ARCFACE_SIZE:
            raise ValueError(f"smallest_side should be 8 to {ARCFACE_SIZE}, found {smallest_side}.")
        self.network = network
        self.table = PeopleTable(people, features, margin, scale)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.point_noise, self.hide, self.mirror = point_noise, hide, mirror
        self.smallest_side, self.left_out = smallest_side, left_out
        self.val_faces, self.val_hidden, self.val_colors = (VerificationAUC() for _ in range(3))

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor | None:
        """Return the loss of naming the people of a batch, None where all are left out."""
        person = required(batch.person, "person", type(self).__name__)
        if self.left_out is not None:
            kept = person % _FOLDS != self.left_out
            if not bool(kept.any()):
                return None
            batch = replace(batch.map(lambda value: value[kept]), sample_id=[])
            person = person[kept]
        is_shared = torch.distributed.is_available() and torch.distributed.is_initialized()
        everyone: Any = self.all_gather(person) if is_shared else person
        self.table.register(everyone.flatten())
        loss: Tensor = self.table(self.network(self._varied(batch)), person)
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Collect features of held-out people for `on_validation_epoch_end`."""
        person = required(batch.person, "person", type(self).__name__)
        faces = self._aligned(batch)
        self.val_faces.update(self.network(faces), person)
        self.val_colors.update(faces.mean((2, 3)) + 1, person)
        if batch.skin_mask is not None:
            hidden = mask_faces(faces, self._mask(batch, self._points(batch)), 0.0)
            self.val_hidden.update(self.network(hidden), person)

    def on_validation_epoch_end(self) -> None:
        """Log how well pairs are told apart: AUC, accuracy, and AUC of skin alone.

        `val/error` is 1 - AUC; `val/auc_color` is that of the mean colour, which needs no network.
        """
        metrics = {"": self.val_faces, "_skin": self.val_hidden, "_color": self.val_colors}
        for suffix, metric in metrics.items():
            if metric.update_called:
                found = metric.compute()
                self.log(f"val/auc{suffix}", found["auc"], prog_bar=not suffix)
                if not suffix:
                    self.log("val/accuracy", found["accuracy"])
                    self.log("val/error", 1 - found["auc"])
            metric.reset()

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Tensor:
        """Return features (B,D) of the batch's faces."""
        features: Tensor = self.network(self._aligned(batch))
        return features

    @torch.no_grad()
    def panel(self, batch: FaceBatch, faces: int) -> np.ndarray:
        """Draw the first faces, each with those of the batch that are most alike (`Panels`)."""
        aligned = self._aligned(batch)
        unit = F.normalize(self.network(aligned).float(), dim=1)
        alike = unit @ unit.mT
        alike.fill_diagonal_(2.0)  # itself first
        count = min(_PANEL_NEIGHBOURS + 1, len(batch))
        nearest = alike.topk(count, dim=1).indices[:faces]
        pictures = to_pixels((aligned + 1) / 2)[nearest.cpu().numpy()]  # (faces,count,112,112,3)
        rows: np.ndarray = pictures.transpose(0, 2, 1, 3, 4)
        return rows.reshape(-1, count * ARCFACE_SIZE, 3)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where one is configured, the schedule."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = self.make_optimizer(parameters)
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def _points(self, batch: FaceBatch) -> Tensor:
        landmarks = required(batch.landmarks, "landmarks", type(self).__name__)
        return five_points(landmarks[..., :2].float())

    def _aligned(self, batch: FaceBatch) -> Tensor:
        return align_faces(batch.image, self._points(batch))

    def _mask(self, batch: FaceBatch, points: Tensor) -> Tensor:
        mask = required(batch.skin_mask, "skin_mask", type(self).__name__)
        return (align_faces(mask.float(), points) + 1) / 2

    @torch.no_grad()
    def _varied(self, batch: FaceBatch) -> Tensor:
        """Return aligned faces (B,3,112,112): shifted, hidden, blurred and mirrored at random."""
        keys = required(batch.random_key, "random_key", type(self).__name__)
        points = self._points(batch)
        pixel = torch.linalg.det(arcface_matrix(points)[:, :2, :2]).rsqrt()  # of 112, in the crop's
        points = points + self.point_noise * pixel[:, None, None] * normal(keys, _POINTS, 5, 2)
        faces = align_faces(batch.image, points)
        if self.hide and batch.skin_mask is not None:
            hidden = uniform(keys, _HIDE)[:, None, None, None] < self.hide
            faces = torch.where(hidden, mask_faces(faces, self._mask(batch, points), 0.0), faces)
        if self.smallest_side < ARCFACE_SIZE:
            share = float(uniform(keys[:1], _SHARPNESS))
            side = round(self.smallest_side + share * (ARCFACE_SIZE - self.smallest_side))
            small = F.interpolate(faces, (side, side), mode="bilinear", antialias=True)
            faces = F.interpolate(small, faces.shape[-2:], mode="bilinear")
        turned = uniform(keys, _MIRROR)[:, None, None, None] < self.mirror
        return torch.where(turned, faces.flip(-1), faces)
