"""The critic: how much a picture looks like a photo."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.methods.gcn.layers import he_normal_

Norm = Literal["layer", "none", "batch"]
_STAGES = ((1, 16), (3, 32), (3, 64), (3, 128), (3, 256), (3, 512))  # kernel, channels


class ShiftedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with an offset and no scale, as TensorFlow's contrib layer has it.

    Its moving statistics start at mean 0 and variance 1 (TensorFlow takes the start out again).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.1, affine=False)
        self.offset = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised features (B,C,H,W)."""
        return super().forward(input) + self.offset[:, None, None]


class ImageCritic(nn.Module):
    """Six convolutions and one score a picture, for a Wasserstein distance.

    Args:
        image_size: side of the square pictures, pixels; a multiple of 32.
        norm: 'layer': each picture for itself; 'none'; 'batch': as in the reference. With 'batch' a
            picture's score depends on the others, so that its gradient penalty has no meaning.

    Raises:
        ValueError: a size or a norm that cannot be.
    """

    def __init__(self, image_size: int = 224, norm: Norm = "layer") -> None:
        super().__init__()
        if image_size % 32 or image_size < 32:
            raise ValueError(f"image_size should be a multiple of 32, found {image_size}.")
        if norm not in get_args(Norm):
            raise ValueError(f"norm should be one of {', '.join(get_args(Norm))}; found {norm!r}.")
        channels = (3, *(width for _, width in _STAGES))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[stage], width, kernel, padding="same")
            for stage, (kernel, width) in enumerate(_STAGES)
        )
        self.norms = nn.ModuleList(_norm_of(norm, width) for _, width in _STAGES)
        self.score = nn.Conv2d(channels[-1], 1, image_size // 32)
        for layer in (*self.convolutions, self.score):
            he_normal_(layer.weight, layer.weight[0].numel())
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores (B,1), higher for photos, of pictures (B,3,S,S) in [-1,1]."""
        features = image
        for stage, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            features = F.leaky_relu(norm(convolution(features)), 0.2)
            if stage < len(_STAGES) - 1:
                features = F.max_pool2d(features, 2)
        scores: Tensor = self.score(features)
        return scores.flatten(1)


def _norm_of(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return ShiftedBatchNorm(channels)
    return nn.GroupNorm(1, channels) if norm == "layer" else nn.Identity()
