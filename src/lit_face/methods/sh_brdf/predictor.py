"""What using a trained network needs, and nothing of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lit_face.methods.sh_brdf.network import SHBRDFNetwork
from lit_face.methods.sh_brdf.reader import AttributeReader
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


def with_valid_maps(face: Reconstruction) -> Reconstruction:
    """Return a face whose albedo maps lie in [0,1]."""
    textures = {
        name: value if name == "roughness" else value.clamp(0, 1)
        for name, value in (face.textures or {}).items()
    }
    return replace(face, textures=textures)
