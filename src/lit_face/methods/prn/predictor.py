"""What using a trained network needs, and nothing of training."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lit_face.methods.prn.network import PRNNetwork
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.types import Reconstruction

POSITION_SCALE = 1.1  # positions are divided by 1.1 * input_size, so that a sigmoid reaches them


class PRNPredictor(nn.Module):
    """Crops in, faces out. Its state_dict holds all it needs: no morphable model's files.

    Args:
        network: image to a map in (0,1).
        reader: map to a face.
        margin: side of the crop over the size of the 68 landmarks' box (PRNet's is 1.6).

    Attributes:
        image_size: side of the square crops that it takes, pixels.
    """

    def __init__(self, network: PRNNetwork, reader: PositionMapReader, margin: float = 1.6) -> None:
        super().__init__()
        if network.uv_size != reader.uv_size:
            raise ValueError(
                f"The network draws maps of {network.uv_size} texels, the reader reads "
                f"{reader.uv_size}; they must be equal."
            )
        self.network, self.reader, self.margin = network, reader, margin

    @property
    def image_size(self) -> int:
        """Side of the square crops, pixels."""
        return self.network.input_size

    @property
    def regions(self) -> dict[str, Tensor]:
        """UV maps (S,S) in [0,1] of eyes, nose, mouth and face."""
        return self.reader.regions

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty predictor is built (`lit_face.config.instantiate`)."""
        return {
            "_target_": "lit_face.methods.prn.predictor.PRNPredictor",
            "network": {"_target_": "lit_face.methods.prn.PRNNetwork", **self.network.options},
            "reader": self.reader.config,
            "margin": self.margin,
        }

    def position_maps(self, image: Tensor) -> Tensor:
        """Draw position maps (B,3,S,S) in pixels of crops (B,3,image_size,image_size)."""
        maps: Tensor = _PositionMaps(self.network)(image)
        return maps

    def fused(self) -> PRNPredictor:
        """Return a copy for speed, with the same results to rounding; not to be saved."""
        return PRNPredictor(self.network.fused(), self.reader, self.margin).eval()

    def stages(self) -> tuple[nn.Module, nn.Module]:
        """Return what makes a tensor of crops, and what makes a `Reconstruction` of the tensor.

        Other runtimes run the first; the second has `config`, and a state_dict of its own.
        """
        return _PositionMaps(self.network), self.reader

    def forward(self, image: Tensor) -> Reconstruction:
        """Reconstruct crops (B,3,image_size,image_size) in [0,1], in their pixels."""
        reconstruction: Reconstruction = self.reader(self.position_maps(image))
        return reconstruction


def position_scale(network: PRNNetwork) -> float:
    """Return the pixels that the network's 1.0 stands for."""
    return POSITION_SCALE * network.input_size


class _PositionMaps(nn.Module):
    """Crops (B,3,H,H) to position maps (B,3,S,S) in pixels."""

    def __init__(self, network: PRNNetwork) -> None:
        super().__init__()
        self.network, self.scale = network, position_scale(network)

    def forward(self, image: Tensor) -> Tensor:
        normalised: Tensor = self.network(image)
        return normalised.float() * self.scale
