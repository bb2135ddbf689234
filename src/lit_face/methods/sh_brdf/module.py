"""Self-supervised reconstruction with SH light and a BRDF as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_face.geometry.precision import fp32_region
from lit_face.methods.sh_brdf import losses
from lit_face.methods.sh_brdf.head import SHADOW_BANDS, StatisticalHead
from lit_face.methods.sh_brdf.network import SHBRDFNetwork, map_size_problems
from lit_face.methods.sh_brdf.objective import Objective, weight_problem
from lit_face.methods.sh_brdf.predictor import SHBRDFPredictor
from lit_face.methods.sh_brdf.reader import AttributeReader, with_valid_maps
from lit_face.methods.sh_brdf.stages import Schedule, stage_problems
from lit_face.metrics.nme import NormalizedMeanError
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.scene import material_of, render_face
from lit_face.types import FaceBatch, Reconstruction, required


class SHBRDFModule(pl.LightningModule):
    """Learn shape, albedo, light, pose and camera from photos alone (Dib et al., ICCV 2021).

    Args:
        network: image to attributes and residual maps.
        renderer: shades the faces (`conf/renderer`).
        morphable_model: shape and albedo; any that has the parts.
        optimizer: parameter groups to an optimiser; the stages set the learning rates.
        stages: by name, in order: epochs, encoder_lr, decoder_lr, final (`Stage`).
        weights: of the loss terms, by name (`objective.TERMS`).
        image_size: side of the crops, pixels.
        linear_photo: see `Objective`.
        blur_render: see `Objective`.
        consistency_half_life: epochs of learning decoders after which the weight of
            `consistency_diffuse` has halved; the paper has 1.
        follow_contour: jaw points of the data lie on the visible contour (2D annotations).
        margin: of the crops (`AttributeReader`).
        focal: in sides of the picture, before training.
        roughness: of the whole face.
        is_focal_free: whether the focal length is estimated.
        shadows: the rasteriser takes the light from a vertex that the mean face hides from it;
            without, shadows go into the albedo. Ray tracing has them anyway.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "skin_mask"})
    freezes_weights: ClassVar[bool] = True

    def __init__(
        self,
        network: SHBRDFNetwork,
        renderer: nn.Module,
        morphable_model: MorphableModel,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        stages: dict[str, Any],
        weights: dict[str, float],
        image_size: int,
        linear_photo: bool = False,
        blur_render: bool = False,
        consistency_half_life: float = 1.0,
        follow_contour: bool = True,
        margin: float = 1.6,
        focal: float = 4.5,
        roughness: float = 0.4,
        is_focal_free: bool = True,
        shadows: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.renderer = network, renderer
        self.make_optimizer, self.schedule = optimizer, Schedule(stages)
        self.objective = Objective(weights, linear_photo, blur_render)
        self.image_size = image_size
        self.consistency_half_life = consistency_half_life
        self.follow_contour = follow_contour
        options = network.options
        head = StatisticalHead.of_model(
            morphable_model,
            network.map_size,
            options["identity"],
            options["expression"],
            options["albedo"],
            shadow_bands=min(options["bands"], SHADOW_BANDS) if shadows else 0,
            persistent=False,
        )
        self.reader = AttributeReader(head, margin, focal, roughness, is_focal_free)
        self.val_nme = NormalizedMeanError()

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        problems = [
            *map_size_problems(method["network"]["map_size"]),
            *stage_problems(method["stages"]),
        ]
        if data.get("image_size", method["image_size"]) != method["image_size"]:
            problems.append(
                f"image_size is {method['image_size']} but data.image_size is "
                f"{data['image_size']}; they must be equal."
            )
        if problem := weight_problem(method["weights"]):
            problems.append(problem)
        return [f"method.{problem}" for problem in problems]

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses, all of which are logged by name."""
        epoch = self._epoch(batch_idx)
        learnt = self.schedule.decoder_epochs(epoch)
        face = self._reconstruct(batch, with_residuals=learnt is not None)
        rendered, mask = self._render(face, batch)
        terms = self.objective.terms(face, rendered, mask, batch, self.reader.head)
        fade = 0.5 ** ((learnt or 0.0) / self.consistency_half_life)
        loss = self.objective.total(terms, {"consistency_diffuse": fade})
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({f"train/loss_{name}": value for name, value in terms.items()})
        self.log_dict({f"train/{k}": v for k, v in self.objective.shares(face).items()})
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log errors of the picture (L1 on skin, linear light) and of the landmarks (NME, percent).

        Skin that the face leaves uncovered counts as black: a face that looks away does not win.
        `val/photo_statistical` is the picture without residual maps.
        """
        face = self._reconstruct(batch, with_residuals=True)
        landmarks = required(batch.landmarks, "landmarks", type(self).__name__)
        self.val_nme.update(face.landmarks, landmarks)
        photo = srgb_to_linear(batch.image)
        skin = required(batch.skin_mask, "skin_mask", type(self).__name__)
        for suffix, statistical in (("", False), ("_statistical", True)):
            rendered, _ = self._render(face, batch, statistical)
            error = losses.photometric(rendered, photo, skin)
            self.log(f"val/photo{suffix}", error, batch_size=len(batch), sync_dist=True)
        self.log("val/nme", self.val_nme, batch_size=len(batch), prog_bar=True)

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Reconstruction:
        """Reconstruct a batch of cropped faces, in pixels of `batch.image`."""
        reconstruction: Reconstruction = with_valid_maps(self._reconstruct(batch, True))
        return reconstruction

    def predictor(self) -> SHBRDFPredictor:
        """Return what using the network needs; it shares the network's weights."""
        own = self.reader
        head = StatisticalHead(**{k: v for k, v in own.head.config.items() if k != "_target_"})
        for name, value in own.head.named_buffers():
            getattr(head, name).copy_(value)
        reader = AttributeReader(head, own.margin, own.focal, own.roughness, own.is_focal_free)
        return SHBRDFPredictor(
            self.network, reader.to(self.device), self.image_size, self.follow_contour
        ).train(self.training)

    def configure_optimizers(self) -> Optimizer:
        """Build one optimiser of two groups, encoder and decoders; the stages set their rates."""
        return self.make_optimizer([{"params": group} for group in self._parameter_groups()])

    def on_train_epoch_start(self) -> None:
        """Freeze what the stage of this epoch leaves as it is; a resumed run lands here too."""
        moment = self.schedule.at(self.current_epoch)
        rates = (moment.stage.encoder_lr, moment.stage.decoder_lr)
        for group, rate in zip(self._parameter_groups(), rates, strict=True):
            for parameter in group:
                parameter.requires_grad_(rate > 0)
        # A frozen encoder keeps its statistics: they would drift under unchanged weights.
        self.network.encoder.train(moment.stage.encoder_lr > 0)
        self.log("train/stage", float(list(self.schedule.stages).index(moment.name)))

    def on_train_batch_start(self, batch: FaceBatch, batch_idx: int) -> None:
        """Set the learning rates of this moment, and the noise of a renderer that has some."""
        renderer: Any = self.renderer
        if hasattr(renderer, "next_seed"):
            turn = self.global_step * self.trainer.world_size + self.global_rank
            renderer.next_seed = turn * len(batch)
        rates = self.schedule.at(self._epoch(batch_idx)).rates()
        optimizer = self.trainer.optimizers[0]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        network = self.network
        decoders = [*network.diffuse_decoder.parameters(), *network.specular_decoder.parameters()]
        encoder = [*network.encoder.parameters(), *network.heads.parameters()]
        return encoder, decoders

    def _epoch(self, batch_idx: int) -> float:
        return self.current_epoch + batch_idx / max(1, int(self.trainer.num_training_batches))

    def _reconstruct(self, batch: FaceBatch, with_residuals: bool) -> Reconstruction:
        code = self.network.encode(batch.image).float()
        attributes = self.network.attributes(code)
        if with_residuals:
            diffuse, specular = self.network.residuals(code)
            attributes |= {"residual_diffuse": diffuse, "residual_specular": specular}
        face: Reconstruction = self.reader(attributes, batch.image.shape[-1], self.follow_contour)
        return face

    @fp32_region()
    def _render(
        self, face: Reconstruction, batch: FaceBatch, statistical: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the picture, linear, and where it counts: covered, and skin in the photo."""
        size = (batch.image.shape[-2], batch.image.shape[-1])
        picture = render_face(self.renderer, face, size, material_of(face, statistical))
        skin = required(batch.skin_mask, "skin_mask", type(self).__name__)
        return picture.image, picture.mask.detach() * skin
