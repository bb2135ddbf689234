"""Layers of mesh networks. Features are (V,B,C): the vertices of a level, the batch, channels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.methods.gcn.chebyshev import chebyshev_sum
from lit_face.methods.gcn.sparse import SymmetricMatrix

ORDER = 6  # Chebyshev terms of every convolution but shortcuts


def he_normal_(weight: Tensor, fan_in: int) -> Tensor:
    """Draw from a normal distribution cut at two standard deviations, of variance 2 / fan_in."""
    spread = math.sqrt(2 / fan_in) / 0.8796  # cutting takes 0.8796 of the spread
    return nn.init.trunc_normal_(weight, std=spread, a=-2 * spread, b=2 * spread)


class ChebyshevConv(nn.Module):
    """Graph convolution with a polynomial of the Laplacian; no bias, no activation.

    Source: Defferrard et al. (2016), "Convolutional neural networks on graphs with fast localized
    spectral filtering".

    Args:
        in_channels: of the input.
        out_channels: of the output.
        laplacian: of the level, scaled; layers of one level share it.
        order: number of polynomials; with 1 a vertex sees only itself.
    """

    def __init__(
        self, in_channels: int, out_channels: int, laplacian: SymmetricMatrix, order: int = ORDER
    ) -> None:
        super().__init__()
        self.laplacian = laplacian
        self.weight = nn.Parameter(torch.empty(order, in_channels, out_channels))
        he_normal_(self.weight, in_channels * order)

    def forward(self, features: Tensor) -> Tensor:
        """Return (V,B,C_out) for (V,B,C)."""
        return chebyshev_sum(features, self.weight, self.laplacian)

    def extra_repr(self) -> str:
        """Name the channels and the order."""
        order, channels, out_channels = self.weight.shape
        return f"{channels}, {out_channels}, order={order}"


class BiasedELU(nn.Module):
    """ELU of the input plus one bias a channel.

    Paper: ReLU. Reference code: ELU. We follow the code, whose numbers we have.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return F.elu(features + self.bias)


class ConvBlock(nn.Sequential):
    """A convolution, then `BiasedELU`."""

    def __init__(self, in_channels: int, out_channels: int, laplacian: SymmetricMatrix) -> None:
        super().__init__(
            ChebyshevConv(in_channels, out_channels, laplacian), BiasedELU(out_channels)
        )


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which is a linear map where channels change."""

    def __init__(self, in_channels: int, out_channels: int, laplacian: SymmetricMatrix) -> None:
        super().__init__()
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else ChebyshevConv(in_channels, out_channels, laplacian, order=1)
        )
        self.first = ConvBlock(in_channels, out_channels, laplacian)
        self.second = ChebyshevConv(out_channels, out_channels, laplacian)
        self.activation = BiasedELU(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return (V,B,C_out) for (V,B,C)."""
        inner = self.second(self.first(features))
        result: Tensor = self.activation(inner + self.shortcut(features))
        return result


class Linear(nn.Linear):
    """A layer over whole vectors, with the reference's start: `he_normal_`, no bias."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        he_normal_(self.weight, self.in_features)
        nn.init.zeros_(self.bias)
