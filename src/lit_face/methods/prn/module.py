"""Position map regression as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.methods.prn.losses import LossKind, Reduction, position_map_loss
from lit_face.methods.prn.network import PRNNetwork, size_problems
from lit_face.methods.prn.predictor import PRNPredictor, position_scale
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.methods.prn.weights import WeightMask
from lit_face.metrics.nme import NormalizedMeanError
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.types import FaceBatch, Reconstruction, required


class PRNModule(pl.LightningModule):
    """Regress a position map from an image (Feng et al., ECCV 2018).

    Args:
        network: image (B,3,H,H) to a map (B,3,S,S) in (0,1).
        morphable_model: the model of the data's coefficients; gives targets and topology.
        optimizer: parameters to an optimiser.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        weight_mask: the loss weight of every texel.
        loss: see `position_map_loss`.
        reduction: see `position_map_loss`.
        compile_network: run `torch.compile` on the network.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "coefficients", "camera", "landmarks"})
    weights: Tensor

    def __init__(
        self,
        network: PRNNetwork,
        morphable_model: MorphableModel,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        weight_mask: WeightMask | None = None,
        loss: LossKind = "mse",
        reduction: Reduction = "all",
        compile_network: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.loss, self.reduction = loss, reduction
        self.position_maps = PositionMaps(morphable_model, network.uv_size)
        weights = (weight_mask or WeightMask())(morphable_model, self.position_maps)
        self.register_buffer("weights", weights, persistent=False)
        self.reader = PositionMapReader.of_model(
            morphable_model, self.position_maps, persistent=False
        )
        self.val_nme = NormalizedMeanError()
        if compile_network:
            # On CPUs the channels-last layout that the compiler prefers meets the crash that
            # PRNNetwork.forward avoids.
            self.network.compile(options={"layout_optimization": torch.cuda.is_available()})

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        network = method["network"]
        problems = size_problems(network["depth"], network["input_size"], network["uv_size"])
        if data.get("image_size", network["input_size"]) != network["input_size"]:
            problems.append(
                f"network.input_size is {network['input_size']} but data.image_size is "
                f"{data['image_size']}; they must be equal."
            )
        return [f"method.{problem}" for problem in problems]

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the weighted loss of the batch, whose targets are made here on the device."""
        loss, target = self._loss(batch)
        masks = self.position_maps.masks(self._camera(batch))[:, None]
        outside = ((target < 0) | (target > 1)) & masks
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log("train/unreachable", outside.float().mean() / masks.float().mean())
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log the loss and the NME of the 68 landmarks (2D, box size, percent)."""
        loss, _ = self._loss(batch)
        landmarks = required(batch.landmarks, "landmarks", type(self).__name__)
        self.val_nme.update(self.predict_step(batch).landmarks, landmarks)
        self.log("val/loss", loss, batch_size=len(batch), sync_dist=True)
        self.log("val/nme", self.val_nme, batch_size=len(batch), prog_bar=True)

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Reconstruction:
        """Reconstruct a batch of cropped faces, in pixels of `batch.image`."""
        return self.reconstruct(self.network(batch.image).float() * self._scale)

    def reconstruct(self, maps: Tensor) -> Reconstruction:
        """Read meshes, landmarks and pose from position maps (B,3,S,S) in pixels."""
        reconstruction: Reconstruction = self.reader(maps)
        return reconstruction

    def predictor(self) -> PRNPredictor:
        """Return what using the network needs; it shares the network's weights."""
        reader = PositionMapReader(
            **{key: value for key, value in self.reader.config.items() if key != "_target_"}
        ).to(self.device)
        for name, value in self.reader.named_buffers():
            getattr(reader, name).copy_(value)
        return PRNPredictor(self.network, reader).train(self.training)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where one is configured, the schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    @property
    def _scale(self) -> float:
        return position_scale(self.network)

    def _loss(self, batch: FaceBatch) -> tuple[Tensor, Tensor]:
        predicted = self.network(batch.image)
        with fp32_region(), torch.no_grad():
            coefficients = required(batch.coefficients, "coefficients", type(self).__name__)
            camera = self._camera(batch)
            target = self.position_maps(coefficients, camera) / self._scale
            mirrored = torch.linalg.det(camera.matrix[:, :, :3].float()) < 0
            weight = torch.where(mirrored[:, None, None], self.weights.flip(-1), self.weights)
        with fp32_region():
            loss = position_map_loss(predicted.float(), target, weight, self.loss, self.reduction)
        return loss, target

    def _camera(self, batch: FaceBatch) -> AffineCamera:
        camera = required(batch.camera, "camera", type(self).__name__)
        if not isinstance(camera, AffineCamera):
            raise ValueError(
                f"{type(self).__name__} learns from affine cameras, found {type(camera).__name__}."
            )
        return camera
