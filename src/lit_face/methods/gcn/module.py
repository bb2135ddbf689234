"""Training of the mesh refiner as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.data.random import uniform
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import Mode
from lit_face.identity import feature_size, weights_digest
from lit_face.methods.gcn import losses
from lit_face.methods.gcn.generator import MeshGenerator
from lit_face.methods.gcn.predictor import GCNPredictor
from lit_face.methods.gcn.refiner import MeshRefiner, Observed
from lit_face.methods.gcn.sampling import mirror_pairs
from lit_face.methods.gcn.schedule import Objective, Ramps, ramps
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.mesh_hierarchy import MeshHierarchy
from lit_face.types import FaceBatch, Reconstruction, required

TERMS = (
    "vertex", "project", "pixel", "identity", "symmetry", "variance", "decay", "adversarial",
)  # fmt: skip
_MIX = 700  # stream of random numbers


class _Drawn(NamedTuple):
    """Fine colours (B,V,3) in [-1,1], the same lit, and pictures (B,3,H,W) in [0,1]."""

    colours: Tensor
    lit: Tensor
    picture: Tensor


class GCNModule(pl.LightningModule):
    """Learn fine colours of a mesh from photos with masks of the skin (Lin et al. 2020).

    Args:
        coarse: a morphable model to the coarse face's predictor, which is frozen.
        hierarchy: a morphable model to the levels of its mesh.
        generator: hierarchy and embedding size to the generator.
        morphable_model: of the coarse face.
        optimizer: parameters to an optimiser, of the generator.
        weights: of the loss terms, by name (`TERMS`); what is left out or 0 is not computed.
        image_size: side of the photos, pixels.
        embedder: identity network for `identity` and for the decoder, see `MeshRefiner`.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch, for both.
        critic: pictures in [-1,1] to scores; needed where `adversarial` has a weight.
        critic_optimizer: parameters to an optimiser, of the critic.
        critic_steps: batches that the critic learns from for each that the generator does, once
            pictures count.
        objective: 'released', as the authors' code, or 'paper'; see `README.md`.
        ramp_epochs: epochs until the photo counts in full; None for 5.
        clip: largest norm of each parameter's gradient, of the generator.
        delit: see `MeshRefiner`.
        depth_test: likewise.
        interpolation: likewise.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "skin_mask"})
    freezes_weights: ClassVar[bool] = True
    pairs: Tensor
    skin: Tensor

    def __init__(
        self,
        coarse: Callable[[MorphableModel], nn.Module],
        hierarchy: Callable[[MorphableModel], MeshHierarchy],
        generator: Callable[[MeshHierarchy, int], MeshGenerator],
        morphable_model: MorphableModel,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        weights: dict[str, float],
        image_size: int,
        embedder: nn.Module | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        critic: nn.Module | None = None,
        critic_optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None,
        critic_steps: int = 5,
        objective: Objective = "released",
        ramp_epochs: float | None = None,
        clip: float = 5.0,
        delit: bool = True,
        depth_test: bool = True,
        interpolation: Mode = "bilinear",
    ) -> None:
        super().__init__()
        is_adversarial = bool(weights.get("adversarial"))
        if problems := weight_problems(weights, embedder, critic, critic_optimizer):
            raise ValueError(problems[0])
        self.automatic_optimization = not is_adversarial
        self.weights = {name: float(value) for name, value in weights.items() if value}
        self.image_size, self.critic_steps, self.clip = image_size, critic_steps, clip
        self.objective: Objective = objective
        self.ramp_epochs = ramp_epochs
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.make_critic_optimizer = critic_optimizer
        face: Any = coarse(morphable_model)
        size = face.network.feature_size + (0 if embedder is None else feature_size(embedder))
        mesh = generator(hierarchy(morphable_model), size)
        self.refiner = MeshRefiner(face, mesh, embedder, delit, depth_test, interpolation)
        self.critic = critic if is_adversarial else None
        pairs = mirror_pairs(morphable_model.mean)
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("skin", face.face.skin.clone(), persistent=False)

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        problems = weight_problems(
            method["weights"], method["embedder"], method["critic"], method["critic_optimizer"]
        )
        if data.get("image_size", method["image_size"]) != method["image_size"]:
            problems.append(
                f"image_size is {method['image_size']} but data.image_size is "
                f"{data['image_size']}; they must be equal."
            )
        if method["critic_steps"] < 1:
            problems.append(f"critic_steps should be at least 1, found {method['critic_steps']}.")
        return [f"method.{problem}" for problem in problems]

    @property
    def alignment(self) -> str:
        """How crops lie about faces: as the coarse regressor's."""
        return self._face.alignment  # type: ignore[no-any-return]

    @property
    def standard_points(self) -> Tensor:
        """(5,3), of crops by five points."""
        return self._face.standard_points  # type: ignore[no-any-return]

    @property
    def training_embedder_digests(self) -> set[str]:
        """Which identity networks this one has learnt from: they cannot judge it alone."""
        embedder = self.refiner.embedder
        return set() if embedder is None else {weights_digest(embedder)}

    def on_fit_start(self) -> None:
        """Refuse what two optimisers cannot do.

        Raises:
            ValueError: 16-bit floats that need a loss scale.
        """
        if self.critic is not None and self.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision=16-mixed scales losses, which the two optimisers of gcn with "
                "an adversarial term do not share; use bf16-mixed or 32-true."
            )

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Take a step of the generator, of the critic, or of both; return the last one's loss."""
        observed = self.refiner.observe(batch.image, self._skin(batch))
        now = self._ramps(batch_idx)
        if self.critic is None:
            return self._loss(batch.image, observed, self._draw(batch.image, observed), now)
        is_turn = now.rise == 0 or (batch_idx + 1) % self.critic_steps == 0
        with torch.set_grad_enabled(is_turn):
            drawn = self._draw(batch.image, observed)
        if now.rise > 0:
            loss = self._train_critic(batch, drawn.picture.detach())
        if is_turn:
            optimizer: Any = self.optimizers()
            optimizer = optimizer[0]
            optimizer.zero_grad()
            loss = self._loss(batch.image, observed, drawn, now)
            self.manual_backward(loss)
            optimizer.step()
        return loss.detach()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Shorten the gradient of each of the generator's parameters."""
        for parameter in self.refiner.generator.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.clip)

    def on_train_batch_start(self, batch: FaceBatch, batch_idx: int) -> None:
        """Bring the schedules to this epoch, where Lightning does not.

        A run that resumes at the end of an epoch passes no hook of epochs, so each batch looks.
        """
        if self.automatic_optimization or self.make_scheduler is None:
            return
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers:
            while scheduler.last_epoch < self.current_epoch:
                scheduler.step()

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log errors of the pictures (mean over channels, sRGB in [0,1]), coarse and fine."""
        observed = self.refiner.observe(batch.image, self._skin(batch))
        for name, colours in (
            ("photo", self.refiner(observed).colours), ("coarse_photo", observed.coarse),
        ):  # fmt: skip
            picture = observed.picture(observed.lit(colours), batch.image)
            error = losses.pixel_l1(batch.image, picture, observed.mask) / 3
            self.log(
                f"val/{name}", error, batch_size=len(batch), sync_dist=True,
                prog_bar=name == "photo",
            )  # fmt: skip

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Reconstruction:
        """Return refined faces in pixels of `batch.image`."""
        return self.refiner.reconstruct(batch.image, self._skin(batch))

    def predictor(self) -> GCNPredictor:
        """Return what using the refiner needs."""
        copy = self.refiner.persistent_copy()
        return GCNPredictor(copy, self.image_size).train(self.training)

    def configure_optimizers(self) -> Any:
        """Build the optimisers of the generator and, where there is one, of the critic."""
        optimizers = [self.make_optimizer(self.refiner.generator.parameters())]
        if self.critic is not None and self.make_critic_optimizer is not None:
            optimizers.append(self.make_critic_optimizer(self.critic.parameters()))
        if self.make_scheduler is None:
            return optimizers
        return optimizers, [self.make_scheduler(optimizer) for optimizer in optimizers]

    @property
    def _face(self) -> Any:
        return self.refiner.coarse.face

    def _ramps(self, batch_idx: int) -> Ramps:
        """Return the factors at a batch of this epoch."""
        done = batch_idx / max(1, float(self.trainer.num_training_batches))
        return ramps(self.current_epoch + done, self.objective, self.ramp_epochs)

    def _skin(self, batch: FaceBatch) -> Tensor:
        return required(batch.skin_mask, "skin_mask", type(self).__name__).float()

    def _draw(self, photo: Tensor, observed: Observed) -> _Drawn:
        colours = self.refiner(observed).colours.float()
        lit = observed.lit(colours)
        return _Drawn(colours, lit, observed.picture(lit, photo))

    def _loss(self, photo: Tensor, observed: Observed, drawn: _Drawn, now: Ramps) -> Tensor:
        """Return the weighted sum of the losses, all of which are logged by name."""
        terms = self._terms(photo, observed, drawn)
        factors = self._factors(now)
        loss = torch.stack(
            [self.weights[name] * factors[name] * value for name, value in terms.items()]
        ).sum()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({f"train/loss_{name}": value for name, value in terms.items()})
        return loss

    def _factors(self, now: Ramps) -> dict[str, float]:
        """Return the factor of each term at this time."""
        factors = dict.fromkeys(TERMS, now.rise) | {"vertex": now.fall, "decay": 1.0}
        if self.objective == "paper":
            return factors | {"project": now.fall}
        return factors | {"adversarial": float(now.rise > 0)}

    @fp32_region()
    def _terms(self, photo: Tensor, observed: Observed, drawn: _Drawn) -> dict[str, Tensor]:
        """Compute every loss that has a weight."""
        colours, lit, picture = drawn
        norm: losses.Norm = "l2" if self.objective == "paper" else "l1"
        lit_coarse = None if self.objective == "paper" else observed.lit(observed.coarse)
        terms: dict[str, Callable[[], Tensor]] = {
            "vertex": lambda: losses.vertex(colours, observed.coarse, norm),
            "project": lambda: losses.project(
                lit, observed.sampled, observed.seen, lit_coarse, norm=norm
            ),
            "pixel": lambda: losses.pixel(photo, picture, observed.mask),
            "identity": lambda: self._identity(picture, observed),
            "symmetry": lambda: losses.symmetry(colours, self.pairs),
            "variance": lambda: losses.variance(colours, self.skin),
            "decay": lambda: losses.dense_decay(self.refiner.generator.dense_parameters()),
            "adversarial": lambda: self._realism(picture),
        }
        return {name: loss() for name, loss in terms.items() if name in self.weights}

    def _identity(self, picture: Tensor, observed: Observed) -> Tensor:
        true = required(observed.identity, "identity", type(self).__name__)
        return losses.identity(true, self.refiner.identity(picture, observed.face))

    def _realism(self, picture: Tensor) -> Tensor:
        critic: Any = self.critic
        critic.requires_grad_(False)  # the generator's step leaves it alone
        return losses.adversarial(critic(2 * picture - 1))

    @fp32_region()
    def _train_critic(self, batch: FaceBatch, picture: Tensor) -> Tensor:
        """Take a step of the critic; a batch's mixtures follow from its random keys."""
        critic: Any = self.critic
        critic.requires_grad_(True)
        real, fake = 2 * batch.image - 1, 2 * picture - 1
        keys = required(batch.random_key, "random_key", type(self).__name__)
        mix = uniform(keys, _MIX).view(-1, 1, 1, 1)
        loss = losses.critic(critic(real), critic(fake))
        penalty = losses.gradient_penalty(critic, real, fake, mix)
        # Without Lightning's wrapper: the steps of a run are those of the generator.
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer = optimizer[1]
        optimizer.zero_grad()
        self.manual_backward(self.weights["adversarial"] * (loss + penalty))
        optimizer.step()
        self.log_dict({"train/critic": loss.detach(), "train/critic_penalty": penalty.detach()})
        return loss


def weight_problems(
    weights: Mapping[str, float], embedder: Any, critic: Any, critic_optimizer: Any
) -> list[str]:
    """Say which weights belong to nothing, and what they miss, in the words of the options."""
    problems = []
    if unknown := sorted(set(weights) - set(TERMS)):
        problems.append(f"weights: there is no {unknown}; there are {', '.join(TERMS)}.")
    if not any(value for name, value in weights.items() if name != "decay"):
        problems.append("weights: all are 0, so there is nothing to learn.")
    if weights.get("identity") and embedder is None:
        problems.append(
            "weights.identity needs an identity network: add +embedder@method.embedder=small, or "
            "set weights.identity=0."
        )
    if weights.get("adversarial") and (critic is None or critic_optimizer is None):
        problems.append("weights.adversarial needs method.critic and method.critic_optimizer.")
    return problems
