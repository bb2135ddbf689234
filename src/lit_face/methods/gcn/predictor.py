"""What using a trained refiner needs, and nothing of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.data.skin_masks import LandmarkSkinMasks
from lit_face.methods.gcn.refiner import MeshRefiner
from lit_face.types import Reconstruction


class GCNPredictor(nn.Module):
    """Crops in, faces with fine colours out. Its state_dict holds all it needs.

    Args:
        refiner: coarse face and generator.
        image_size: side of the square crops that it takes, pixels.
    """

    takes_skin_mask = True

    def __init__(self, refiner: MeshRefiner, image_size: int) -> None:
        super().__init__()
        self.refiner, self.image_size = refiner, image_size
        self.mask_skin = LandmarkSkinMasks()

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty predictor is built (`lit_face.config.instantiate`)."""
        return {
            "_target_": "lit_face.methods.gcn.predictor.GCNPredictor",
            "refiner": self.refiner.config,
            "image_size": self.image_size,
        }

    @property
    def margin(self) -> float:
        """Side of the crop over the size of the landmarks' box."""
        return float(self._coarse.margin)

    @property
    def alignment(self) -> str:
        """How crops lie about faces: as the coarse regressor's."""
        return str(self._coarse.alignment)

    @property
    def standard_points(self) -> Tensor:
        """(5,3), of crops by five points."""
        points: Tensor = self._coarse.standard_points
        return points

    @torch.no_grad()
    def forward(self, image: Tensor, skin_mask: Tensor | None = None) -> Reconstruction:
        """Reconstruct crops.

        Args:
            image: (B,3,image_size,image_size) in [0,1].
            skin_mask: (B,1,image_size,image_size) in [0,1]; None finds the skin by the coarse
                face's landmarks and the colour of its cheeks (`LandmarkSkinMasks`).
        """
        looked = self.refiner.look(image)
        if skin_mask is None:
            skin_mask = self._skin(image, looked[0].landmarks)
        return self.refiner.reconstruct(image, skin_mask, looked)

    @property
    def _coarse(self) -> Any:
        return self.refiner.coarse

    def _skin(self, image: Tensor, landmarks: Tensor) -> Tensor:
        pictures = (image.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        masks = []
        for picture, points in zip(
            pictures, landmarks[..., :2].double().cpu().numpy(), strict=True
        ):
            try:
                masks.append(self.mask_skin(np.ascontiguousarray(picture), points))
            except ValueError:  # the face lies outside: nothing is seen
                masks.append(np.zeros(picture.shape[:2], np.uint8))
        found = torch.from_numpy(np.stack(masks))[:, None]
        return (found > 0).to(image)
