"""Weakly supervised regression of Deep3D's coefficients as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_face.geometry.precision import fp32_region
from lit_face.identity import align_faces
from lit_face.methods.deep3d import losses
from lit_face.methods.deep3d.build import deep3d_face
from lit_face.methods.deep3d.face import FOCAL, DataAlignment
from lit_face.methods.deep3d.predictor import Deep3DPredictor
from lit_face.methods.deep3d.regressor import Deep3DRegressor
from lit_face.metrics.nme import NormalizedMeanError
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.renderer import RasterRenderer, Rendering
from lit_face.types import FaceBatch, Reconstruction, required

TERMS = ("photo", "landmark", "perceptual", "coefficients", "light", "reflectance")


class Deep3DModule(pl.LightningModule):
    """Learn shape, pose, albedo and light from photos and landmarks (Deng et al. 2019).

    Args:
        network: crops to coefficients.
        morphable_model: shape and albedo; any.
        optimizer: parameters to an optimiser.
        weights: of the loss terms, by name (`TERMS`); what is left out or 0 is not computed.
        coefficient_weights: of identity, expression and albedo within `coefficients`.
        image_size: side of the crops, pixels.
        scheduler: optimiser to a learning rate schedule, stepped once an epoch.
        embedder: aligned faces (B,3,112,112), RGB in [-1,1], to identity features (B,D); frozen.
            Without one there is no perceptual loss.
        linear_light: light multiplies linear colors; false multiplies sRGB values, as Deep3D does.
        follow_contour: jaw points of the data lie on the visible contour (2D annotations).
        map_size: side of the albedo map of reconstructions, texels.
        alignment: how the data's crops lie about faces, see `Deep3DFace`; 'whole' are pictures that
            were cut out by five points already.
        margin: side of the crop over the size of the landmarks' box, with `alignment` 'box'.
        focal: in sides of the picture.
        light_unit: what a raw 1 of light is worth.
        translation_unit: likewise of translation, decimetres.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"image", "landmarks", "skin_mask"})

    def __init__(
        self,
        network: Deep3DRegressor,
        morphable_model: MorphableModel,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        weights: dict[str, float],
        coefficient_weights: dict[str, float],
        image_size: int,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        embedder: nn.Module | None = None,
        linear_light: bool = True,
        follow_contour: bool = True,
        map_size: int = 256,
        alignment: DataAlignment = "five_points",
        margin: float = 1.6,
        focal: float = FOCAL,
        light_unit: float = 1.0,
        translation_unit: float = 1.0,
    ) -> None:
        super().__init__()
        if problems := weight_problems(weights, coefficient_weights):
            raise ValueError(problems[0])
        self.network = network
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.weights = {name: float(value) for name, value in weights.items() if value}
        self.coefficient_weights = dict(coefficient_weights)
        self.image_size, self.follow_contour = image_size, follow_contour
        self.renderer = RasterRenderer(linear_light=linear_light)
        self.embedder = None if embedder is None else embedder.requires_grad_(False).eval()
        self.face = deep3d_face(
            morphable_model,
            map_size,
            network.options,
            alignment,
            margin,
            focal,
            light_unit=light_unit,
            translation_unit=translation_unit,
            persistent=False,
        )
        self.val_nme = NormalizedMeanError()

    @property
    def alignment(self) -> str:
        """How crops lie about faces, see `Deep3DFace`."""
        return self.face.alignment

    @property
    def standard_points(self) -> Tensor:
        """(5,3), of crops by five points."""
        return self.face.standard_points

    @staticmethod
    def check_config(method: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
        """Say which options of the composed config cannot work together."""
        problems = weight_problems(method["weights"], method["coefficient_weights"])
        if data.get("image_size", method["image_size"]) != method["image_size"]:
            problems.append(
                f"image_size is {method['image_size']} but data.image_size is "
                f"{data['image_size']}; they must be equal."
            )
        return [f"method.{problem}" for problem in problems]

    def training_step(self, batch: FaceBatch, batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses, all of which are logged by name."""
        found = self.network(batch.image)
        face, albedo, picture = self._rendered(found, batch)
        terms = self._terms(found, face, albedo, picture, batch)
        loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict({f"train/loss_{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Log errors of the picture (L1 on skin, linear light) and of the landmarks (NME, percent).

        Skin that the face leaves uncovered counts as black: a face that looks away does not win.
        """
        face, _, picture = self._rendered(self.network(batch.image), batch)
        true = required(batch.landmarks, "landmarks", type(self).__name__)
        self.val_nme.update(face.landmarks, true)
        skin = required(batch.skin_mask, "skin_mask", type(self).__name__).float()
        difference = srgb_to_linear(picture.image.clamp(min=0)) - srgb_to_linear(batch.image)
        error = (difference.abs() * skin).sum((1, 2, 3)) / (3 * skin.sum((1, 2, 3))).clamp(min=1)
        self.log("val/photo", error.mean(), batch_size=len(batch), sync_dist=True)
        self.log("val/nme", self.val_nme, batch_size=len(batch), prog_bar=True)

    def predict_step(self, batch: FaceBatch, batch_idx: int = 0) -> Reconstruction:
        """Reconstruct a batch of cropped faces, in pixels of `batch.image`."""
        size = batch.image.shape[-1]
        face: Reconstruction = self.face(self.network(batch.image), size, self.follow_contour)
        return face

    def predictor(self) -> Deep3DPredictor:
        """Return what using the network needs; it shares the network's weights."""
        face = self.face.persistent_copy()
        predictor = Deep3DPredictor(self.network, face, self.image_size, self.follow_contour)
        return predictor.train(self.training)

    def configure_optimizers(self) -> Any:
        """Build the optimiser and, where one is configured, the schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def train(self, mode: bool = True) -> Self:
        """Switch to training; the embedding stays as it is."""
        super().train(mode)
        if self.embedder is not None:
            self.embedder.eval()
        return self

    @fp32_region()
    def _rendered(
        self, found: Mapping[str, Tensor], batch: FaceBatch
    ) -> tuple[Reconstruction, Tensor, Rendering]:
        """Return faces, the albedo of their vertices (sRGB) and their pictures."""
        size = batch.image.shape[-1]
        face = self.face(found, size, self.follow_contour, with_maps=False)
        albedo = self.face.albedo(found["albedo"])
        picture = self.renderer(
            face.vertices, face.faces, face.camera, (size, size), albedo, face.light
        )
        return face, albedo, picture

    @fp32_region()
    def _terms(
        self,
        found: Mapping[str, Tensor],
        face: Reconstruction,
        albedo: Tensor,
        picture: Rendering,
        batch: FaceBatch,
    ) -> dict[str, Tensor]:
        """Compute every loss that has a weight."""
        true = required(batch.landmarks, "landmarks", type(self).__name__)
        known = required(face.coefficients, "coefficients", type(self).__name__)
        gamma = self.face.light_unit * found["light"].float()
        terms: dict[str, Callable[[], Tensor]] = {
            "photo": lambda: losses.photo(picture.image, batch.image, self._mask(picture, batch)),
            "landmark": lambda: losses.landmark(face.landmarks, true, batch.image.shape[-1]),
            "coefficients": lambda: losses.coefficients(known, self.coefficient_weights),
            "light": lambda: losses.light(gamma),
            "reflectance": lambda: losses.reflectance(albedo, self.face.skin),
        }
        if self.embedder is not None:
            terms["perceptual"] = lambda: losses.perceptual(
                self._identity(picture.image, face.landmarks.detach()),
                self._identity(batch.image, true).detach(),
            )
        return {name: loss() for name, loss in terms.items() if name in self.weights}

    def _mask(self, picture: Rendering, batch: FaceBatch) -> Tensor:
        """Return (B,1,H,W): skin of the photo where the front of the face is rendered."""
        skin = required(batch.skin_mask, "skin_mask", type(self).__name__)
        front = self.face.front[picture.face_index.clamp(min=0)].unsqueeze(1)
        return skin * front * picture.mask

    def _identity(self, image: Tensor, landmarks: Tensor) -> Tensor:
        embedder: Any = self.embedder
        features: Tensor = embedder(align_faces(image, landmarks))
        return features


def weight_problems(
    weights: Mapping[str, float], of_coefficients: Mapping[str, float]
) -> list[str]:
    """Say which weights belong to nothing, in the words of the options."""
    pairs = {
        "weights": (weights, TERMS),
        "coefficient_weights": (of_coefficients, tuple(losses.COEFFICIENTS)),
    }
    problems = []
    for option, (given, known) in pairs.items():
        if unknown := sorted(set(given) - set(known)):
            problems.append(f"{option}: there is no {unknown}; there are {', '.join(known)}.")
    if not any(weights.values()):
        problems.append("weights: all are 0, so there is nothing to learn.")
    return problems
