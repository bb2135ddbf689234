"""The position map regression network (Feng et al., ECCV 2018, section 3.3 and Fig. 4).

Layer sizes, padding and normalisation follow the released TensorFlow graph `resfcn256`, whose
'SAME' padding of even kernels is asymmetric. A transposed convolution of stride 1 equals a
convolution with the padding mirrored and the kernel flipped, and is written as one: it is the
faster form on a CPU. Runs without Lightning and without Hydra.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_KERNEL = 4
_PAD_CONV = (1, 2, 1, 2)  # TensorFlow SAME, kernel 4, stride 1
_PAD_TRANSPOSED = (2, 1, 2, 1)  # its transpose


class _NormRelu(nn.Sequential):
    """A convolution, batch normalisation and, unless told otherwise, ReLU."""

    def __init__(
        self, conv: list[nn.Module], channels: int, momentum: float, *, relu: bool = True
    ) -> None:
        norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum)
        super().__init__(*conv, norm, *([nn.ReLU()] if relu else []))

    def fuse(self) -> None:
        """Fold the normalisation into the convolution before it."""
        places = [i for i, layer in enumerate(self) if isinstance(layer, nn.BatchNorm2d)]
        for place in places:
            conv: Any = self[place - 1]
            norm: Any = self[place]
            transposed = isinstance(conv, nn.ConvTranspose2d)
            self[place - 1] = fuse_conv_bn_eval(conv, norm, transpose=transposed)
            self[place] = nn.Identity()


def _conv(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    if stride == 2:
        return [nn.Conv2d(channels_in, channels_out, _KERNEL, 2, 1, bias=False)]
    return [nn.ZeroPad2d(_PAD_CONV), nn.Conv2d(channels_in, channels_out, _KERNEL, bias=False)]


def _transposed(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    if stride == 2:
        return [nn.ConvTranspose2d(channels_in, channels_out, _KERNEL, 2, 1, bias=False)]
    return [
        nn.ZeroPad2d(_PAD_TRANSPOSED),
        nn.Conv2d(channels_in, channels_out, _KERNEL, bias=False),
    ]


class ResidualBlock(nn.Module):
    """1x1, 4x4, 1x1 bottleneck with normalisation after the addition."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, momentum: float) -> None:
        super().__init__()
        half = channels_out // 2
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
        self.reduce = _NormRelu([nn.Conv2d(channels_in, half, 1, bias=False)], half, momentum)
        self.spatial = _NormRelu(_conv(half, half, stride), half, momentum)
        self.expand = nn.Conv2d(half, channels_out, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3, momentum=momentum)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B,Cin,H,W) to (B,Cout,H/stride,W/stride)."""
        main = self.expand(self.spatial(self.reduce(features)))
        return torch.relu(self.norm(self.shortcut(features) + main))


class PRNNetwork(nn.Module):
    """Image to position map.

    Args:
        width: channels after the first layer (16 in the paper); all others scale with it.
        depth: halvings in the encoder (5 in the paper).
        input_size: side of the square input image, pixels; a multiple of 2**depth.
        uv_size: side of the square position map, texels; (input_size / 2**depth) times a power of
            two.
        backbone: 'resfcn' (the paper's encoder) or the name of a torchvision ResNet
            ('resnet18', 'resnet50', ...), trained from scratch; depth is then 5.
        output_layers: how many of the last layers have three channels only (3 in the paper; 1
            learns faster in short trainings).
        norm_momentum: share of the new batch in the running statistics; 0.001 is TensorFlow's
            decay of 0.999.

    Attributes:
        options: the arguments, plain values.

    Raises:
        ValueError: sizes that do not fit together, or an unknown backbone.
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 5,
        input_size: int = 256,
        uv_size: int = 256,
        backbone: str = "resfcn",
        output_layers: int = 3,
        norm_momentum: float = 0.001,
    ) -> None:
        super().__init__()
        problems = size_problems(depth, input_size, uv_size)
        if problems:
            raise ValueError(" ".join(problems))
        self.input_size, self.uv_size = input_size, uv_size
        self.options: dict[str, int | float | str] = {
            "width": width, "depth": depth, "input_size": input_size, "uv_size": uv_size,
            "backbone": backbone, "output_layers": output_layers, "norm_momentum": norm_momentum,
        }  # fmt: skip
        self.encoder: nn.Module
        if backbone == "resfcn":
            self.encoder = _encoder(width, depth, norm_momentum)
            channels = width << depth
        else:
            if depth != 5:
                raise ValueError(
                    f"network.depth must be 5 with backbone '{backbone}', got {depth}."
                )
            self.encoder, channels = _resnet(backbone)
        ups = int(math.log2(uv_size * 2**depth // input_size))
        layers, channels = _decoder(channels, width, ups, norm_momentum)
        for _ in range(output_layers - 1):
            layers.append(_transposed_layer(channels, 3, 1, norm_momentum))
            channels = 3
        self.decoder = nn.Sequential(*layers)
        self.output = _NormRelu(_transposed(channels, 3, 1), 3, norm_momentum, relu=False)
        self.apply(_glorot)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to position maps (B,3,S,S) in (0,1).

        Multiply by `POSITION_SCALE * input_size` for pixels of the input image.
        """
        if torch.is_grad_enabled():
            # oneDNN of torch 2.13 crashes in the backward pass of a 1x1 convolution of stride 2 on
            # channels-last tensors (CPU), and rendered pictures come in that layout.
            image = image.contiguous()
        return torch.sigmoid(self.output(self.decoder(self.encoder(image))))

    def fused(self) -> PRNNetwork:
        """Return a copy for inference alone: normalisation in the convolutions, channels last.

        The same maps to rounding; on a CPU 1.3 (batch 1) to 1.7 times (16) as fast
        (`bench/tensorflow_network.py`).
        """
        copy = deepcopy(self).eval()
        for layer in copy.modules():
            if isinstance(layer, _NormRelu):
                layer.fuse()
        fused: PRNNetwork = copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return fused


def size_problems(depth: int, input_size: int, uv_size: int) -> list[str]:
    """Say which of the network's sizes do not fit together, in the words of the options."""
    problems = []
    if input_size % 2**depth:
        problems.append(
            f"network.input_size must be a multiple of {2**depth} (2**depth), got {input_size}."
        )
    bottom = max(input_size // 2**depth, 1)
    ratio = uv_size / bottom
    if ratio < 2 or not math.log2(ratio).is_integer():
        problems.append(
            f"network.uv_size must be {bottom} times a power of two (the map grows from "
            f"{bottom} texels by doubling), got {uv_size}."
        )
    return problems


def _encoder(width: int, depth: int, momentum: float) -> nn.Module:
    layers: list[nn.Module] = [_NormRelu(_conv(3, width, 1), width, momentum)]
    for level in range(depth):
        channels = width << level
        layers.append(ResidualBlock(channels, channels * 2, 2, momentum))
        layers.append(ResidualBlock(channels * 2, channels * 2, 1, momentum))
    return nn.Sequential(*layers)


def _transposed_layer(
    channels_in: int, channels_out: int, stride: int, momentum: float
) -> nn.Module:
    return _NormRelu(_transposed(channels_in, channels_out, stride), channels_out, momentum)


def _decoder(channels: int, width: int, ups: int, momentum: float) -> tuple[list[nn.Module], int]:
    """Return the layers up to the map's size, and their channels."""
    layers = [_transposed_layer(channels, channels, 1, momentum)]
    for _ in range(ups):
        following = max(channels // 2, width)
        layers.append(_transposed_layer(channels, following, 2, momentum))
        repeats = 2 if following >= 4 * width else 1
        layers += [_transposed_layer(following, following, 1, momentum) for _ in range(repeats)]
        channels = following
    return layers, channels


def _resnet(name: str) -> tuple[nn.Module, int]:
    import torchvision

    builder: Callable[..., nn.Module] | None = getattr(torchvision.models, name, None)
    if builder is None or not name.startswith("resnet"):
        raise ValueError(
            f"network.backbone '{name}' is unknown; use 'resfcn' or a torchvision ResNet such as "
            "'resnet18' or 'resnet50'."
        )
    network = builder(weights=None)
    classifier = network.get_submodule("fc")
    if not isinstance(classifier, nn.Linear):
        raise TypeError(f"torchvision's {name} should end in a linear layer, found {classifier}.")
    return nn.Sequential(*list(network.children())[:-2]), classifier.in_features


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
