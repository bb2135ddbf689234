"""Completion of albedo maps as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.methods.texture_completion import losses
from lit_face.methods.texture_completion.completion import TextureCompleter
from lit_face.methods.texture_completion.mrf import load_mrf
from lit_face.methods.texture_completion.network import (
    Discriminator,
    GMCNNGenerator,
    kernel_problem,
    size_problem,
    smallest_size,
)
from lit_face.methods.texture_completion.pictures import completion_panel
from lit_face.methods.texture_completion.strokes import random_holes
from lit_face.types import FaceBatch, required

TERMS = ("reconstruction", "auto_encoding", "mrf", "adversarial")
_PUBLISHED_SIZE = 256  # at which lengths in texels are given


class TextureCompletionModule(pl.LightningModule):
    """Learn to fill what a photo does not show of a head's albedo map.

    A batch's `image` is the map and `skin_mask` says where it is known; holes are drawn into the
    known part (strokes, and what other photos do not see), and only there is anything learnt.
    First come the reconstruction and auto-encoding terms alone; once the validation error is flat,
    ID-MRF and the adversarial terms join.

    Args:
        network: the generator.
        optimizer: parameters to an optimiser of the generator.
        map_size: side of the maps, texels.
        weights: of the terms, by name (`TERMS`); 0 leaves a term out.
        morphable_model: not used; every run passes one.
        scheduler: optimiser to a learning rate schedule of the first phase, stepped once an epoch.
        discriminator_optimizer: parameters to an optimiser of the discriminators.
        discriminator_width: channels of the discriminators' first layer.
        discriminator_steps: steps of the discriminators for each of the generator.
        adversarial_lr: learning rate of the generator in the second phase.
        patience: epochs without a gain of 1 % in val/completion_l1 after which the second phase
            begins.
        borrowed: probability that a hole is what another map of the batch does not show.
        coverage: smallest and largest share of the known texels that a hole takes.
        mirror: see `TextureCompleter`.
        residual: see `TextureCompleter`.
        sigma: of the confidence weights, see `confidence_weights`.
        weight_floor: smallest confidence weight in a hole: published is 0, with which nothing is
            learnt about texels far inside of large holes, which is where photos leave most of them.
        download_vgg: fetch VGG19's weights for ID-MRF where they are not there.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "skin_mask"})
    freezes_weights: ClassVar[bool] = True
    best_l1: Tensor
    flat_epochs: Tensor

    def __init__(
        self,
        network: GMCNNGenerator,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        map_size: int,
        weights: dict[str, float],
        morphable_model: nn.Module | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        discriminator_optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None,
        discriminator_width: int = 64,
        discriminator_steps: int = 5,
        adversarial_lr: float = 1e-5,
        patience: int = 5,
        borrowed: float = 0.5,
        coverage: tuple[float, float] = (0.1, 0.6),
        mirror: bool = True,
        residual: bool = True,
        sigma: float | None = None,
        weight_floor: float = 0.5,
        download_vgg: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.completer = TextureCompleter(network, map_size, mirror, residual)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.make_discriminator_optimizer = discriminator_optimizer
        self.weights = weights
        self.discriminators = nn.ModuleDict()
        if weights["adversarial"]:
            self.discriminators["global"] = Discriminator(map_size, discriminator_width)
            self.discriminators["local"] = Discriminator(map_size, discriminator_width)
        self.discriminator_steps, self.adversarial_lr = discriminator_steps, adversarial_lr
        self.patience, self.borrowed = patience, borrowed
        self.coverage = (float(coverage[0]), float(coverage[1]))
        self.sigma, self.weight_floor, self.download_vgg = sigma, weight_floor, download_vgg
        self.mrf: Any = None
        self.register_buffer("best_l1", torch.tensor(torch.inf))
        self.register_buffer("flat_epochs", torch.tensor(0))

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        network, size = method["network"], method["map_size"]
        kernels, dilations = network["kernels"], network["dilations"]
        problems = [kernel_problem(kernels), size_problem(size, smallest_size(kernels, dilations))]
        if data.get("image_size", size) != size:
            problems.append(
                f"map_size is {size} but data.image_size is {data['image_size']}; they must be "
                "equal."
            )
        if set(method["weights"]) != set(TERMS):
            problems.append(
                f"weights should be of {', '.join(TERMS)}; found {', '.join(method['weights'])}."
            )
        low, high = method["coverage"]
        if not 0 < low < high < 1:
            problems.append(f"coverage should be two shares, small one first, found {low}, {high}.")
        return [f"method.{problem}" for problem in problems if problem]

    @property
    def is_adversarial(self) -> bool:
        """Whether the second phase has begun."""
        return int(self.flat_epochs) >= self.patience

    def setup(self, stage: str) -> None:
        """Load VGG19 if the ID-MRF term wants it."""
        if stage == "fit" and self.weights["mrf"] and self.mrf is None:
            self.mrf = load_mrf(self.download_vgg)

    def on_fit_start(self) -> None:
        """Refuse what manual optimisation cannot do.

        Raises:
            ValueError: 16-bit floats that need a loss scale.
        """
        if self.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision=16-mixed scales losses, which the two optimisers of "
                "texture_completion do not share; use bf16-mixed or 32-true."
            )

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Take one step of the generator, in the second phase after those of the discriminators."""
        image, visible = batch.image, self._visible(batch)
        self.completer.mean_map.update(image, visible)
        hole = self._holes(batch, visible, self.borrowed)
        known = visible * (1 - hole)
        predicted, _ = self.completer(image, known)
        completed = known * image + (1 - known) * predicted
        # Where there is no truth both show the same, so that nothing is learnt from it.
        true = visible * image + (1 - visible) * predicted.detach()
        if self.is_adversarial and self.discriminators:
            self._train_discriminators(true, completed.detach())
        terms = self._terms(image, visible, known, predicted, completed)
        if self.is_adversarial:
            terms |= self._realism(completed, true)
        loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        optimizer = self._optimizer()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({f"train/loss_{name}": value for name, value in terms.items()})
        return loss.detach()

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log the mean error of colours (L1, sRGB values in [0,1]) in held-out holes.

        Beside that of the completed maps stand those of the mean map and of the hint alone. Where
        the data knows the truth (the miniature), `val/hidden_...` are the errors over all texels
        that the map does not show, with nothing else hidden.
        """
        image, visible = batch.image, self._visible(batch)
        hole = self._holes(batch, visible, self.borrowed)
        self._log_errors(batch, image, visible * (1 - hole), image, hole, "")
        if batch.scan is not None and "texture" in batch.scan:
            self._log_errors(batch, image, visible, batch.scan["texture"], 1 - visible, "hidden_")

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Tensor:
        """Return the completed maps (B,3,S,S)."""
        completed: Tensor = self.completer.complete(batch.image, self._visible(batch))
        return completed

    def panel(self, batch: FaceBatch, faces: int) -> np.ndarray:
        """Draw the first maps: as given, filled without the network, completed (`Panels`)."""
        first = batch.map(lambda tensor: tensor[:faces])
        visible = self._visible(first)
        hint = self.completer.hint(first.image, visible)
        return completion_panel(first.image * visible, hint, self.predict_step(first))

    def configure_optimizers(self) -> Any:
        """Build the optimiser of the generator and, where there are any, of the discriminators."""
        optimizer = self.make_optimizer(self.completer.generator.parameters())
        schedulers = [] if self.make_scheduler is None else [self.make_scheduler(optimizer)]
        if not self.discriminators:
            return [optimizer], schedulers
        if self.make_discriminator_optimizer is None:
            raise ValueError("method.discriminator_optimizer is needed for the adversarial term.")
        second = self.make_discriminator_optimizer(self.discriminators.parameters())
        return [optimizer, second], schedulers

    def on_train_epoch_start(self) -> None:
        """Set the generator's rate of the second phase; a resumed run lands here too."""
        if self.is_adversarial:
            for group in self._optimizer().param_groups:
                group["lr"] = self.adversarial_lr
        self.log("train/adversarial", float(self.is_adversarial))

    def on_train_epoch_end(self) -> None:
        """Step the schedule of the first phase."""
        scheduler: Any = self.lr_schedulers()
        if scheduler is not None and not self.is_adversarial:
            scheduler.step()

    def on_validation_epoch_end(self) -> None:
        """Count the epochs in which the error stayed flat."""
        found = self.trainer.callback_metrics.get("val/completion_l1")
        if found is None or self.trainer.sanity_checking or self.is_adversarial:
            return
        is_better = found < 0.99 * self.best_l1
        self.flat_epochs.copy_(torch.where(is_better, 0, self.flat_epochs + 1))
        self.best_l1.copy_(torch.minimum(self.best_l1, found.to(self.best_l1)))

    def _terms(
        self, image: Tensor, visible: Tensor, known: Tensor, predicted: Tensor, completed: Tensor
    ) -> dict[str, Tensor]:
        """Return the reconstruction and auto-encoding terms; colours count in [-1,1]."""
        kernel = 2 * max(1, round(32 * image.shape[-1] / _PUBLISHED_SIZE)) + 1
        weight = losses.confidence_weights(1 - known, kernel, sigma=self.sigma)
        weight = weight.clamp(min=self.weight_floor) * visible * (1 - known)
        return {
            "reconstruction": losses.weighted_l1(
                2 * (completed - image), weight, (1 - known) * visible
            ),
            "auto_encoding": losses.weighted_l1(2 * (predicted - image), known, known),
        }

    def _realism(self, completed: Tensor, true: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.mrf is not None:
            terms["mrf"] = self.mrf(completed, true)
        if self.discriminators:
            scores = [judge(2 * completed - 1) for judge in self.discriminators.values()]
            terms["adversarial"] = torch.stack([losses.hinge_generator(s) for s in scores]).mean()
        return terms

    def _train_discriminators(self, true: Tensor, completed: Tensor) -> None:
        # Without Lightning's wrapper: the steps of a run are those of the generator.
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer = optimizer[1]
        self.discriminators.requires_grad_(True)
        for _ in range(self.discriminator_steps):
            terms = [
                losses.hinge_discriminator(judge(2 * true - 1), judge(2 * completed - 1))
                for judge in self.discriminators.values()
            ]
            loss = torch.stack(terms).mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.discriminators.requires_grad_(False)  # the generator's step leaves them alone
        self.log("train/loss_discriminator", loss)

    def _log_errors(
        self,
        batch: FaceBatch,
        image: Tensor,
        known: Tensor,
        truth: Tensor,
        where: Tensor,
        name: str,
    ) -> None:
        predicted, hint = self.completer(image, known)
        mean = self.completer.mean_map(image.shape[-1]).expand_as(image)
        found = {"completion": predicted, "hint": hint, "mean_fill": mean}
        area = where.sum().clamp(min=1) * 3
        for kind, maps in found.items():
            error = ((maps - truth).abs() * where).sum() / area
            self.log(
                f"val/{name}{kind}_l1", error, batch_size=len(batch), sync_dist=True,
                prog_bar=kind == "completion",
            )  # fmt: skip

    def _optimizer(self) -> Any:
        optimizers: Any = self.optimizers()
        return optimizers[0] if isinstance(optimizers, list) else optimizers

    def _visible(self, batch: FaceBatch) -> Tensor:
        mask = required(batch.skin_mask, "skin_mask", type(self).__name__)
        return (mask > 0.5).to(batch.image.dtype)

    def _holes(self, batch: FaceBatch, visible: Tensor, borrowed: float) -> Tensor:
        keys = required(batch.random_key, "random_key", type(self).__name__)
        return random_holes(visible > 0.5, keys.tolist(), borrowed, self.coverage).to(visible)
