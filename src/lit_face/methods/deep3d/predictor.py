"""What using a trained regressor needs, and nothing of training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lit_face.methods.deep3d.face import Deep3DFace
from lit_face.methods.deep3d.regressor import Deep3DRegressor
from lit_face.types import Reconstruction


class Deep3DPredictor(nn.Module):
    """Crops in, faces out. Its state_dict holds all it needs: no morphable model's files.

    Args:
        network: crops to coefficients.
        face: coefficients to faces.
        image_size: side of the square crops that it takes, pixels.
        follow_contour: jaw points lie on the visible contour, not on fixed vertices.
    """

    def __init__(
        self,
        network: Deep3DRegressor,
        face: Deep3DFace,
        image_size: int,
        follow_contour: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.face = network, face
        self.image_size, self.follow_contour = image_size, follow_contour

    @property
    def margin(self) -> float:
        """Side of the crop over the size of the landmarks' box."""
        return self.face.margin

    @property
    def alignment(self) -> str:
        """How crops lie about faces, see `Deep3DFace`."""
        return self.face.alignment

    @property
    def standard_points(self) -> Tensor:
        """(5,3), of crops by five points."""
        return self.face.standard_points

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty predictor is built (`lit_face.config.instantiate`)."""
        return {
            "_target_": "lit_face.methods.deep3d.predictor.Deep3DPredictor",
            "network": {
                "_target_": "lit_face.methods.deep3d.regressor.Deep3DRegressor",
                **self.network.options,
            },
            "face": self.face.config,
            "image_size": self.image_size,
            "follow_contour": self.follow_contour,
        }

    def persistent_copy(self) -> Deep3DPredictor:
        """Return a copy whose state_dict holds everything; it shares the network's weights."""
        face = self.face.persistent_copy()
        return Deep3DPredictor(self.network, face, self.image_size, self.follow_contour)

    def forward(self, image: Tensor) -> Reconstruction:
        """Reconstruct crops (B,3,image_size,image_size) in [0,1], in their pixels."""
        face: Reconstruction = self.face(self.network(image), image.shape[-1], self.follow_contour)
        return face
