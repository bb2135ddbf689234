"""Generator and discriminator of GMCNN.

Source: Wang, Tao, Qi, Shen & Jia (NeurIPS 2018), "Image inpainting via generative multi-column
convolutional neural networks"; layers as in its PyTorch release.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_INIT_STD = 0.02  # of the release
_INPUTS = 4  # RGB and where the hole is
_REDUCTION = 4  # the columns work at a quarter of the size


class GMCNNGenerator(nn.Module):
    """Three columns of convolutions with large, middle and small kernels, and one that merges them.

    Fully convolutional. The published sizes have 12 561 891 weights.

    Args:
        width: channels c of the first layers; 4c at a quarter of the size.
        kernels: odd sides of the columns' kernels, texels.
        dilations: of the layers in the middle of each column.
        init_std: standard deviation of the weights before training; None chooses it by the number
            of inputs (He et al. 2015) and starts the last layer at 0, for narrow networks, in
            which 0.02 lets nothing through.

    Raises:
        ValueError: other than three odd kernels.
    """

    def __init__(
        self,
        width: int = 32,
        kernels: Sequence[int] = (7, 5, 3),
        dilations: Sequence[int] = (2, 4, 8, 16),
        init_std: float | None = _INIT_STD,
    ) -> None:
        super().__init__()
        if problem := kernel_problem(kernels):
            raise ValueError(problem)
        self.smallest_size = smallest_size(kernels, dilations)
        self.columns = nn.ModuleList(
            nn.Sequential(*_encoder(width, kernel, dilations), *_decoder(width, kernel, place))
            for place, kernel in enumerate(kernels)
        )
        half = max(width // 2, 1)
        self.last = _conv(half, 3, 3)
        self.merge = nn.Sequential(_conv(7 * width, half, 3), nn.ELU(), self.last)
        self._start(init_std)

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        """Return pictures (B,3,H,W) in [-1,1].

        Args:
            image: (B,3,H,W) in [-1,1], the holes filled with 0 or a hint.
            hole: (B,1,H,W) 1 where texels are missing.

        Raises:
            ValueError: too small for the reflecting borders, or no multiple of 4.
        """
        if problem := size_problem(min(image.shape[-2:]), self.smallest_size):
            raise ValueError(problem)
        if problem := size_problem(max(image.shape[-2:]), self.smallest_size):
            raise ValueError(problem)
        inputs = torch.cat([image, hole], dim=1)
        features = torch.cat([column(inputs) for column in self.columns], dim=1)
        output: Tensor = self.merge(features)
        return output.clamp(-1, 1)

    def _start(self, std: float | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if std is None:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        if std is None:
            nn.init.zeros_(self.last.weight)


class Discriminator(nn.Module):
    """Tells completed from true maps: four strided convolutions and a linear layer, 1-Lipschitz.

    Args:
        size: side of the maps, texels.
        width: channels d of the first layer.
    """

    def __init__(self, size: int, width: int = 64) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [spectral_norm(nn.Conv2d(before, after, 5, stride=2, padding=2)), nn.ELU()]
        side = size
        for _ in range(4):
            side = -(-side // 2)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.judge = spectral_norm(nn.Linear(channels[-1] * side * side, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return (B,1), larger for what looks true."""
        score: Tensor = self.judge(self.features(image))
        return score


def kernel_problem(kernels: Sequence[int]) -> str | None:
    """Say what is wrong with the columns' kernels, if anything."""
    if len(kernels) != 3 or any(kernel < 3 or kernel % 2 == 0 for kernel in kernels):
        return f"network.kernels should be three odd numbers from 3 on, found {list(kernels)}."
    return None


def smallest_size(kernels: Sequence[int], dilations: Sequence[int]) -> int:
    """Return the side that maps need at least: a reflected border must fit into the picture."""
    padding = max(kernels) // 2 * max([1, *dilations])
    return _REDUCTION * (padding + 1)


def size_problem(size: int, smallest: int) -> str | None:
    """Say what is wrong with the side of a map, if anything."""
    if size < smallest:
        return (
            f"maps of {size} texels are too small for this network: its kernels and dilations "
            f"need at least {smallest}; take larger maps or lower network.dilations."
        )
    if size % _REDUCTION:
        return f"the side of a map should be a multiple of {_REDUCTION}, found {size}."
    return None


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(
        inputs, outputs, kernel, stride, padding, dilation, padding_mode="reflect"
    )  # fmt: skip


def _encoder(width: int, kernel: int, dilations: Sequence[int]) -> list[nn.Module]:
    c = width
    layers = [
        _conv(_INPUTS, c, kernel),
        _conv(c, 2 * c, kernel, stride=2),
        _conv(2 * c, 2 * c, kernel),
        _conv(2 * c, 4 * c, kernel, stride=2),
        _conv(4 * c, 4 * c, kernel),
        _conv(4 * c, 4 * c, kernel),
        *(_conv(4 * c, 4 * c, kernel, dilation=dilation) for dilation in dilations),
        _conv(4 * c, 4 * c, kernel),
        _conv(4 * c, 4 * c, kernel),
    ]
    return [module for layer in layers for module in (layer, nn.ELU())]


def _decoder(width: int, kernel: int, place: int) -> list[nn.Module]:
    """The first column only enlarges, the second has one level of layers, the third two."""
    layers: list[nn.Module] = []
    channels = 4 * width
    for _ in range(place):
        layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        for inputs, outputs in ((channels, channels // 2), (channels // 2, channels // 2)):
            layers += [_conv(inputs, outputs, kernel), nn.ELU()]
        channels //= 2
    left = _REDUCTION // 2**place
    if left > 1:
        layers.append(nn.Upsample(scale_factor=left, mode="bilinear", align_corners=True))
    return layers
