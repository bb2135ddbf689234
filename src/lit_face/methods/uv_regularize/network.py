"""A small 3D U-Net over cost volumes, and the expected displacement of what it returns."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lit_face.io.network_weights import load_network
from lit_face.io.start_weights import weights_come_later


class _ConvBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm3d(after)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


def _up(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(before, after, 3, 2, padding=1, output_padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(after),
        nn.ReLU(),
    )


class UNetRegularizer(nn.Module):
    """Cost volume in, scores of the same size out.

    Names of layers are those of the released checkpoints. Source: Xiao et al., AAAI 2022.

    Args:
        channels: of the first level; 1 in the release, which is fragile.
        weights: a run of uv_regularize, its checkpoint, or a released checkpoint_reg.pkl to start
            from.
    """

    def __init__(self, channels: int = 4, weights: str | Path | None = None) -> None:
        super().__init__()
        c = channels
        self.conv0 = _ConvBlock(1, c)
        self.conv1 = _ConvBlock(c, 2 * c, stride=2)
        self.conv2 = _ConvBlock(2 * c, 2 * c)
        self.conv3 = _ConvBlock(2 * c, 4 * c, stride=2)
        self.conv4 = _ConvBlock(4 * c, 4 * c)
        self.conv9 = _up(4 * c, 2 * c)
        self.conv11 = _up(2 * c, c)
        self.last_conv = nn.Conv3d(c, 1, 3, 1, 1)
        for layer in self.modules():  # half the time of a step on a CPU
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                weight = layer.weight.detach()
                layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last_3d))
        if weights is not None and not weights_come_later():
            load_network(self, weights, "method.network.weights", "network.")

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B,D,H,W) to scores (B,D,H,W).

        Raises:
            ValueError: D is not 1 more than a multiple of 4, or a side no multiple of 4.
        """
        planes, height, width = volume.shape[1:]
        if planes % 4 != 1 or height % 4 or width % 4:
            raise ValueError(
                "A volume should have 4 k + 1 planes and sides that are multiples of 4, found "
                f"{planes} planes of {height} x {width} texels."
            )
        fine = self.conv0(volume[:, None])
        middle = self.conv2(self.conv1(fine))
        coarse = self.conv4(self.conv3(middle))
        return self.last_conv(self.conv11(self.conv9(coarse) + middle) + fine)[:, 0]  # type: ignore[no-any-return]


class PlainRegularizer(nn.Module):
    """Five convolutions without activations, which the release has and does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv10 = nn.Conv3d(1, 2, 3, 1, 1)
        self.conv11 = nn.Conv3d(2, 2, 3, 1, 1)
        self.conv20 = nn.Conv3d(2, 4, 3, 1, 1)
        self.conv21 = nn.Conv3d(4, 4, 3, 1, 1)
        self.conv30 = nn.Conv3d(4, 1, 3, 1, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B,D,H,W) to scores (B,D,H,W)."""
        x = volume[:, None]
        for layer in (self.conv10, self.conv11, self.conv20, self.conv21, self.conv30):
            x = layer(x)
        return x[:, 0]
