"""What using a trained network needs, and nothing of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lit_face.methods.sh_brdf.head import SHADOW_BANDS, StatisticalHead
from lit_face.methods.sh_brdf.network import SHBRDFNetwork
from lit_face.methods.sh_brdf.reader import AttributeReader, with_valid_maps
from lit_face.methods.sh_brdf.refinement import Refined, Refinement
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import Reconstruction


class SHBRDFPredictor(nn.Module):
    """Crops in, faces out. Its state_dict holds all it needs: no morphable model's files.

    Args:
        network: image to attributes and residual maps.
        reader: attributes to faces.
        image_size: side of the square crops that it takes, pixels.
        follow_contour: jaw points lie on the visible contour, not on fixed vertices.
    """

    def __init__(
        self,
        network: SHBRDFNetwork,
        reader: AttributeReader,
        image_size: int,
        follow_contour: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.reader = network, reader
        self.image_size, self.follow_contour = image_size, follow_contour

    @property
    def margin(self) -> float:
        """Side of the crop over the size of the landmarks' box."""
        return self.reader.margin

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty predictor is built (`lit_face.config.instantiate`)."""
        network = {
            "_target_": "lit_face.methods.sh_brdf.network.SHBRDFNetwork",
            **self.network.options,
        }
        return {
            "_target_": "lit_face.methods.sh_brdf.predictor.SHBRDFPredictor",
            "network": network,
            "reader": self.reader.config,
            "image_size": self.image_size,
            "follow_contour": self.follow_contour,
        }

    def attributes(self, image: Tensor) -> dict[str, Tensor]:
        """Return raw attributes of crops (B,3,image_size,image_size); a start for refinement."""
        found: dict[str, Tensor] = self.network(image)
        return {name: value.float() for name, value in found.items()}

    def forward(self, image: Tensor) -> Reconstruction:
        """Reconstruct crops (B,3,image_size,image_size) in [0,1], in their pixels."""
        face: Reconstruction = self.reader(
            self.attributes(image), image.shape[-1], self.follow_contour
        )
        return with_valid_maps(face)

    def refine(
        self,
        image: Tensor,
        landmarks: Tensor,
        refinement: Refinement,
        are_detected: bool,
        skin_mask: Tensor | None = None,
    ) -> Refined:
        """Refine crops from the network's estimate.

        Args:
            image: (B,3,image_size,image_size) in [0,1].
            landmarks: (B,68,2) pixels.
            refinement: how.
            are_detected: a detector found the landmarks; else they are the network's own.
            skin_mask: (B,1,image_size,image_size) in [0,1], where there are masks.
        """
        with torch.no_grad():
            start = self.attributes(image)
        follow = self.follow_contour or are_detected
        return refinement(self.reader, image, landmarks, start, skin_mask, follow)


class LandmarkPredictor(nn.Module):
    """Faces from landmarks and the photo, without a network (`init=landmarks`).

    Args:
        morphable_model: shape and albedo.
        image_size: side of the square crops, pixels.
        map_size: side of the UV maps, texels.
        margin: side of the crop over the size of the landmarks' box.
        focal: in sides of the picture.
        roughness: of the whole face.
        shadows: see `SHBRDFModule`.
    """

    starts_from_landmarks = True
    needs_refinement = True

    def __init__(
        self,
        morphable_model: MorphableModel,
        image_size: int = 256,
        map_size: int = 256,
        margin: float = 2.0,
        focal: float = 4.5,
        roughness: float = 0.4,
        shadows: bool = False,
    ) -> None:
        super().__init__()
        head = StatisticalHead.of_model(
            morphable_model, map_size, shadow_bands=SHADOW_BANDS if shadows else 0, persistent=False
        )
        self.reader = AttributeReader(head, margin, focal, roughness)
        self.image_size, self.margin = image_size, margin

    def refine(
        self,
        image: Tensor,
        landmarks: Tensor,
        refinement: Refinement,
        are_detected: bool = True,
        skin_mask: Tensor | None = None,
    ) -> Refined:
        """Fit crops (B,3,image_size,image_size) to landmarks (B,68,2), pixels, and the photo."""
        return refinement(self.reader, image, landmarks, None, skin_mask, are_detected)
