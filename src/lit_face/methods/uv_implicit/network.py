"""Photos to features, and the variance of features over views to a matching cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["group", "batch"]


class _ConvBlock(nn.Module):
    """Convolution without bias, normalisation (named `bn` whichever it is), ReLU."""

    def __init__(self, before: int, after: int, norm: Norm, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 1, 1, bias=False)
        self.bn = nn.GroupNorm(groups, after) if norm == "group" else nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class FeatureNet(nn.Module):
    """Features at half the photo's size: index i of the map sits on pixel 2i.

    Source: Xiao et al., AAAI 2022, released code; a feature sees 33 pixels of the photo.

    Args:
        width: channels of the first layers, 32 in the release; then twice as many.
        channels: of the features.
        norm: 'group' (the release's) or 'batch'.
        groups: of the group normalisation.
    """

    stride = 2

    def __init__(
        self, width: int = 32, channels: int = 128, norm: Norm = "group", groups: int = 32
    ) -> None:
        super().__init__()
        if width % groups:
            raise ValueError(f"width should be a multiple of groups={groups}, found {width}.")
        wide = 2 * width
        self.conv0 = nn.Conv2d(3, width, 5, 2, 2)
        self.conv2 = _ConvBlock(width, width, norm, groups)
        self.conv3 = _ConvBlock(width, width, norm, groups)
        self.conv4 = _ConvBlock(width, wide, norm, groups)
        self.conv5 = _ConvBlock(wide, wide, norm, groups)
        self.conv6 = _ConvBlock(wide, wide, norm, groups)
        self.conv7 = _ConvBlock(wide, wide, norm, groups)
        self.feature = nn.Conv2d(wide, channels, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map photos (B,3,H,W), BGR in 0..255 as in the release, to (B,C,ceil(H/2),ceil(W/2))."""
        x = self.conv0(image)
        for block in (self.conv2, self.conv3, self.conv4, self.conv5, self.conv6, self.conv7):
            x = block(x)
        return self.feature(x)  # type: ignore[no-any-return]


class SurfaceClassifier(nn.Module):
    """A perceptron at every point, as convolutions of width 1; the cost in [0,1].

    Args:
        sizes: of its layers, input and output among them; (129, 1024, 512, 256, 128, 1) in the
            release.
    """

    def __init__(self, sizes: Sequence[int] = (129, 1024, 512, 256, 128, 1)) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.layers = len(sizes) - 1
        for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
            setattr(self, f"conv{layer}", nn.Conv1d(before, after, 1))

    def forward(self, points: Tensor) -> Tensor:
        """Map (B,C,N) to (B,N)."""
        for layer in range(self.layers):
            points = getattr(self, f"conv{layer}")(points)
            if layer < self.layers - 1:
                points = nn.functional.leaky_relu(points, 0.01)
        return torch.sigmoid(points[:, 0])


class ImplicitNetwork(nn.Module):
    """Both networks under the names of the released checkpoints.

    Args:
        width: see `FeatureNet`.
        channels: see `FeatureNet`.
        hidden: widths between the perceptron's input and its output.
        norm: see `FeatureNet`.
        groups: see `FeatureNet`.
    """

    def __init__(
        self,
        width: int = 32,
        channels: int = 128,
        hidden: Sequence[int] = (1024, 512, 256, 128),
        norm: Norm = "group",
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.image_filter = FeatureNet(width, channels, norm, groups)
        self.surface_classifier = SurfaceClassifier((channels + 1, *hidden, 1))
