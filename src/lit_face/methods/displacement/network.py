"""The generator: from a facial texture to its mesoscopic displacement."""

from __future__ import annotations

from torch import Tensor, nn

from lit_face.io.network_weights import load_network
from lit_face.io.start_weights import weights_come_later


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions over reflected borders, added to what came in.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Map (B,C,H,W) to the same shape."""
        added: Tensor = features + self.conv_block(features)
        return added


class GlobalGenerator(nn.Module):
    """The global generator of pix2pixHD (Wang et al., CVPR 2018), as FaceScape's release uses it.

    State dict names are those of `dpmap_single_net_G.pth`.

    Args:
        width: channels of the first layer; doubled by each halving of the side. Released: 64.
        downs: halvings. Released: 4.
        blocks: residual blocks at the smallest side. Released: 9.
        weights: a run of displacement, its checkpoint, or the released dpmap_single_net_G.pth to
            start from.
    """

    def __init__(
        self, width: int = 64, downs: int = 4, blocks: int = 9, weights: str | None = None
    ) -> None:
        super().__init__()
        self.downs = downs
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), *_norm(width)]
        channels = width
        for _ in range(downs):
            layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1), *_norm(2 * channels)]
            channels *= 2
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        for _ in range(downs):
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1),
                *_norm(channels // 2),
            ]
            channels //= 2
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.02)
        if weights is not None and not weights_come_later():
            load_network(self, weights, "method.network.weights", "predictor.network.")

    def forward(self, texture: Tensor) -> Tensor:
        """Map textures (B,3,H,W), RGB in [-1,1], to displacement (B,1,H,W) in (-1,1).

        Raises:
            ValueError: sides that `downs` halvings do not divide, or that vanish.
        """
        problem = size_problem(min(texture.shape[-2:]), self.downs) or size_problem(
            max(texture.shape[-2:]), self.downs
        )
        if problem:
            raise ValueError(problem)
        found: Tensor = self.model(texture)
        return found


def size_problem(side: int, downs: int) -> str | None:
    """Say why a texture of a side does not fit a generator, or None."""
    step = 2**downs
    if side % step == 0 and side >= 2 * step:
        return None
    return (
        f"a texture's side should be a multiple of {step} (2 to the power of downs), at least "
        f"{2 * step}, found {side}."
    )


def _norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU()
