"""From a crop to the attributes of the picture: shape, pose, camera, light, albedo maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDTHS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625)  # of the decoder's blocks, share of the first
_SMALLEST = 8  # channels
BOTTOM = 4  # side of the decoder's first map
POSE = {"rotation": 3, "translation": 3, "focal": 1}


class SHBRDFNetwork(nn.Module):
    """A convolutional encoder, one linear head an attribute, and two decoders of albedo residuals.

    Every head and the last layer of the decoders start at 0: the first output is the mean face.

    Args:
        backbone: a torchvision network that ends in a linear layer, or in `classifier`: resnet18,
            resnet50, resnet152, mobilenet_v3_small, ...
        identity: coefficients. expression: likewise. albedo: likewise.
        bands: of the light's spherical harmonics; bands squared coefficients a channel.
        map_size: side of the residual maps, texels: 4 times a power of two, 256 at most.
        decoder_width: channels of the decoders' first block.
        thumbnail: side of a small copy of the picture that joins the latent code, pixels; 0 for
            none. Light and skin tone are in it at once, where features have to learn to keep them.
        pretrained: start from torchvision's ImageNet weights, which are downloaded once.

    Raises:
        ValueError: no such backbone, or a map size that does not fit.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        identity: int = 80,
        expression: int = 64,
        albedo: int = 80,
        bands: int = 9,
        map_size: int = 256,
        decoder_width: int = 512,
        thumbnail: int = 8,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if problems := map_size_problems(map_size):
            raise ValueError(problems[0])
        self.options: dict[str, Any] = {
            "backbone": backbone,
            "identity": identity,
            "expression": expression,
            "albedo": albedo,
            "bands": bands,
            "map_size": map_size,
            "decoder_width": decoder_width,
            "thumbnail": thumbnail,
        }
        self.encoder, features = build_encoder(backbone, pretrained)
        features += 3 * thumbnail**2
        sizes = {"identity": identity, "expression": expression, "albedo": albedo, **POSE}
        sizes["light"] = 3 * bands * bands
        self.heads = nn.ModuleDict({name: nn.Linear(features, k) for name, k in sizes.items()})
        for head in self.heads.values():
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.diffuse_decoder = MapDecoder(features, map_size, decoder_width)
        self.specular_decoder = MapDecoder(features, map_size, decoder_width)

    @property
    def map_size(self) -> int:
        """Side of the residual maps, texels."""
        return int(self.options["map_size"])

    def encode(self, image: Tensor) -> Tensor:
        """Map images (B,3,H,W) in [0,1] to latent codes (B,D)."""
        image = 2 * image - 1
        code: Tensor = self.encoder(image)
        if thumbnail := self.options["thumbnail"]:
            small = F.adaptive_avg_pool2d(image, thumbnail).flatten(1)
            code = torch.cat([code, small.to(code)], dim=1)
        return code

    def attributes(self, code: Tensor) -> dict[str, Tensor]:
        """Read raw attributes from latent codes; zeros are the mean face.

        Returns:
            identity, expression, albedo (B,K); rotation, translation (B,3), focal (B,1); light
            (B,bands^2,3).
        """
        found = {name: head(code) for name, head in self.heads.items()}
        found["light"] = found["light"].unflatten(1, (-1, 3))
        return found

    def residuals(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the residual maps (B,3,S,S) of diffuse and specular albedo, in [-0.5,0.5]."""
        return self.diffuse_decoder(code), self.specular_decoder(code)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return all `attributes`, and the maps `residual_diffuse` and `residual_specular`."""
        code = self.encode(image)
        diffuse, specular = self.residuals(code)
        maps = {"residual_diffuse": diffuse, "residual_specular": specular}
        return {**self.attributes(code), **maps}


class MapDecoder(nn.Module):
    """A latent code to a map (B,3,S,S) in [-0.5,0.5]; seven convolutions for S = 256.

    Nearest upsampling and 3 x 3 convolutions leave no checkerboard.
    """

    def __init__(self, features: int, map_size: int, width: int) -> None:
        super().__init__()
        blocks = int(math.log2(map_size // BOTTOM))
        channels = [max(_SMALLEST, int(width * share)) for share in _WIDTHS[:blocks]]
        self.first = nn.Linear(features, channels[0] * BOTTOM**2)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([channels[0], *channels]):
            layers += [
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(math.gcd(8, after), after),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels[-1], 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, code: Tensor) -> Tensor:
        """Draw maps of latent codes (B,D)."""
        bottom = self.first(code).unflatten(1, (-1, BOTTOM, BOTTOM))
        return 0.5 * torch.tanh(self.last(self.blocks(bottom)))


def map_size_problems(map_size: int) -> list[str]:
    """Say why residual maps of this side cannot be drawn, in the words of the option."""
    largest = BOTTOM * 2 ** len(_WIDTHS)
    fits = 2 * BOTTOM <= map_size <= largest and math.log2(map_size / BOTTOM).is_integer()
    if fits:
        return []
    return [f"network.map_size must be 8, 16, 32, ... or {largest}, got {map_size}."]


def build_encoder(name: str, pretrained: bool) -> tuple[nn.Module, int]:
    """Return torchvision's network without its last layer, and the length of its code.

    Raises:
        ValueError: the network is unknown or ends in another way.
        RuntimeError: the weights cannot be downloaded.
    """
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(
            f"network.backbone '{name}' is unknown; use a classifier of torchvision.models such as "
            "'resnet18', 'resnet50' or 'resnet152'."
        )
    get_model = torchvision.models.get_model
    network: Any = _with_weights(get_model, name) if pretrained else get_model(name, weights=None)
    last = "fc" if hasattr(network, "fc") else "classifier"
    layer = getattr(network, last, None)
    modules = [] if layer is None else layer.modules()
    linear = next((m for m in modules if isinstance(m, nn.Linear)), None)
    if linear is None:
        raise ValueError(f"network.backbone '{name}' has no linear layer at its end; use a ResNet.")
    setattr(network, last, nn.Identity())
    return network, linear.in_features


def _with_weights(get_model: Callable[..., nn.Module], name: str) -> nn.Module:
    try:
        return get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError) as error:  # no network, or a file cut short
        raise RuntimeError(
            f"network.pretrained: torchvision's weights of {name} cannot be had ({error}). Set "
            "network.pretrained=false, or put the file into torch's hub cache."
        ) from error
