"""ArcFace's residual networks, under the names of their published weights.

Source: Deng et al. (CVPR 2019), "ArcFace"; layers and names as the `backbone.pth` files of
insightface's arcface_torch have them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.identity.state_files import load_weights
from lit_face.io.start_weights import weights_come_later

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
_CHANNELS = (64, 128, 256, 512)
_LAST_SIDE = 7  # of 112 pixels


class ArcFaceResNet(nn.Module):
    """Aligned faces to 512 features.

    Args:
        depth: 18, 34, 50 or 100, insightface's iresnet of that number.
        weights: `backbone.pth` of that network. Without it the network knows nothing.

    Raises:
        ValueError: no such depth, or a file that does not fit.
        FileNotFoundError: no such file.
    """

    def __init__(self, depth: int = 50, weights: str | None = None) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise ValueError(f"embedder.depth should be 18, 34, 50 or 100, found {depth}.")
        self.depth = depth
        first, last = _CHANNELS[0], _CHANNELS[-1]
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.prelu = nn.PReLU(first)
        before = first
        for level, (after, count) in enumerate(zip(_CHANNELS, _BLOCKS[depth], strict=True), 1):
            blocks = [_Block(before, after, 2)] + [
                _Block(after, after, 1) for _ in range(count - 1)
            ]
            self.add_module(f"layer{level}", nn.Sequential(*blocks))
            before = after
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last * _LAST_SIDE**2, 512)
        self.features = nn.BatchNorm1d(512)
        self.features.weight.requires_grad_(False)  # it is 1 in all published files
        if weights is not None and not weights_come_later():
            load_weights(self, weights, "embedder.weights")

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty network is built."""
        return {"_target_": "lit_face.identity.ArcFaceResNet", "depth": self.depth}

    @fp32_region()
    def forward(self, face: Tensor) -> Tensor:
        """Map (B,3,112,112) RGB in [-1,1] to features (B,512), not normalised; in float32."""
        found = self.prelu(self.bn1(self.conv1(face.float())))
        for level in range(1, len(_CHANNELS) + 1):
            found = self.get_submodule(f"layer{level}")(found)
        result: Tensor = self.features(self.fc(self.bn2(found).flatten(1)))
        return result


class _Block(nn.Module):
    """Two convolutions beside a shortcut; only the second one strides."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if before != after or stride != 1:
            shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, values: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,C',H/s,W/s)."""
        found = self.prelu(self.bn2(self.conv1(self.bn1(values))))
        found = self.bn3(self.conv2(found))
        result: Tensor = found + (values if self.downsample is None else self.downsample(values))
        return result
