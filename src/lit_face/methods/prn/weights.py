"""Loss weights of the position map's texels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_face.geometry.uv import uv_resampling
from lit_face.io.images import read_image
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.position_maps import PositionMaps


@dataclass
class WeightMask:
    """How much every texel counts: the paper's 16 : 4 : 3 : 0 unless told otherwise.

    Attributes:
        landmarks: weight of the 68 landmarks' texels.
        features: weight of eyes, nose and mouth.
        face: weight of the rest of the face; everything else (neck, ears) weighs 0.
        prnet_folder: folder with PRNet's own `uv_weight_mask.png` and `uv_face_mask.png`, whose
            values then replace the three weights; for the topology of the Basel Face Model only.
    """

    landmarks: float = 16.0
    features: float = 4.0
    face: float = 3.0
    prnet_folder: str | None = None

    def __call__(self, model: MorphableModel, position_maps: PositionMaps) -> Tensor:
        """Compute the weights (S,S) float32 for a model's map."""
        if self.prnet_folder is not None:
            return self._prnet(position_maps)
        size, texels = position_maps.size, position_maps.texels
        weights = self.face * position_maps.mask.flatten().float()
        resampling = uv_resampling(model.uv, model.map_faces, size)
        for name in ("eyes", "nose", "mouth"):
            if name in model.regions:
                inside = resampling.apply(model.regions[name][:, None].float())[:, 0] >= 0.5
                weights[resampling.texels[inside]] = self.features
        weights *= position_maps.mask.flatten()
        landmark_uv = model.uv[model.landmark_index]
        nearest = torch.cdist(landmark_uv, position_maps.texel_uv).argmin(dim=1)
        weights[texels[nearest]] = self.landmarks
        return weights.view(size, size)

    def _prnet(self, position_maps: PositionMaps) -> Tensor:
        folder = Path(str(self.prnet_folder))
        weight, face = (
            read_image(folder / f"uv_{kind}_mask.png")[:, :, 0] for kind in ("weight", "face")
        )
        if weight.shape != (position_maps.size, position_maps.size):
            raise ValueError(
                f"{folder / 'uv_weight_mask.png'} is {weight.shape[0]} texels wide, but "
                f"method.network.uv_size is {position_maps.size}; they must be equal."
            )
        return torch.as_tensor(prnet_loss_weight(weight, face))


def prnet_loss_weight(weight_mask: np.ndarray, face_mask: np.ndarray) -> np.ndarray:
    """Turn PRNet's released pictures into loss weights.

    The released mask holds 16 times the weight (255 stands for 256) and forgets that the neck
    weighs nothing, which the face mask adds.

    Args:
        weight_mask: (S,S) uint8, `uv_weight_mask.png`.
        face_mask: (S,S) uint8, `uv_face_mask.png`, 0 outside the face.

    Returns:
        (S,S) float32: 16 at the landmarks, 4 at eyes, nose and mouth, 3 on the rest of the face.
    """
    weight = weight_mask.astype(np.float32)
    weight[weight_mask == 255] = 256.0
    return weight / 16.0 * (face_mask > 0)
