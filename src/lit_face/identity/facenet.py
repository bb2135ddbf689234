"""FaceNet's Inception-ResNet-v1, under the names of facenet-pytorch's published weights.

Source: Schroff et al. (CVPR 2015), "FaceNet"; Szegedy et al. (AAAI 2017), "Inception-v4"; layers
and names as the files of facenet-pytorch have them, whose weights are D. Sandberg's facenet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.geometry.precision import fp32_region
from lit_face.identity.download import facenet_file
from lit_face.identity.state_files import load_weights
from lit_face.io.start_weights import weights_come_later

FACENET_SIZE = 160
POOLED, EMBEDDED = 1792, 512
_OFFSET, _RANGE = 127.5, 128.0  # of grey levels, as these weights were trained

Size = int | tuple[int, int]


class FaceNet(nn.Module):
    """Aligned faces to 512 features, or to the 1792 before the bottleneck.

    The published weights were trained on loose crops by MTCNN. ArcFace's alignment, which every
    network here is given, is tighter; the paper of the mesh GCN gave whole pictures.

    Args:
        weights: a file of facenet-pytorch (`20180402-114759-vggface2.pt`); its classifier is left
            out.
        download: fetch that file (107 MB) into the cache where no `weights` are given.
        bottleneck: false gives the 1792 pooled features, as the GCN's code uses them.

    Raises:
        ValueError: neither weights nor download, or a file that does not fit.
        FileNotFoundError: no such file.
        RuntimeError: the file cannot be downloaded.
    """

    def __init__(
        self, weights: str | None = None, download: bool = False, bottleneck: bool = True
    ) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.conv2d_1a = _Convolution(3, 32, 3, stride=2)
        self.conv2d_2a = _Convolution(32, 32, 3)
        self.conv2d_2b = _Convolution(32, 64, 3, padding=1)
        self.conv2d_3b = _Convolution(64, 80, 1)
        self.conv2d_4a = _Convolution(80, 192, 3)
        self.conv2d_4b = _Convolution(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            branch0=_Convolution(256, 384, 3, stride=2),
            branch1=_chain(256, (192, 1), (192, 3), (256, 3), last_stride=2),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            branch0=_chain(896, (256, 1), (384, 3), last_stride=2),
            branch1=_chain(896, (256, 1), (256, 3), last_stride=2),
            branch2=_chain(896, (256, 1), (256, 3), (256, 3), last_stride=2),
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.2) for _ in range(5)))
        self.block8 = _block8(1.0, ends_linear=True)
        self.last_linear = nn.Linear(POOLED, EMBEDDED, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDED, eps=1e-3)
        if not weights_come_later():
            if weights is None and not download:
                raise ValueError(
                    "FaceNet needs weights: give embedder.weights=FILE (facenet-pytorch's "
                    "20180402-114759-vggface2.pt), or embedder.download=true to fetch it (107 MB)."
                )
            file = facenet_file() if weights is None else weights
            load_weights(self, file, "embedder.weights", ignored=("logits.",))

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty network is built, within `filled_by_checkpoint`."""
        return {"_target_": "lit_face.identity.FaceNet", "bottleneck": self.bottleneck}

    @fp32_region()
    def forward(self, face: Tensor) -> Tensor:
        """Map (B,3,H,W) RGB in [-1,1] to features (B,512) or (B,1792); in float32.

        The 512 are of unit length where the published network normalises them; here they are not.
        """
        values = F.interpolate(
            face.float(), (FACENET_SIZE, FACENET_SIZE), mode="bilinear", align_corners=False
        )
        values = values * (_OFFSET / _RANGE)
        values = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(values)))
        values = F.max_pool2d(values, 3, 2)
        values = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(values)))
        values = self.mixed_6a(self.repeat_1(values))
        values = self.mixed_7a(self.repeat_2(values))
        pooled: Tensor = self.block8(self.repeat_3(values)).mean((2, 3))
        if not self.bottleneck:
            return pooled
        embedded: Tensor = self.last_bn(self.last_linear(pooled))
        return embedded


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, before: int, after: int, size: Size, stride: int = 1, padding: Size = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,C',H',W')."""
        return F.relu(self.bn(self.conv(values)))


class _Residual(nn.Module):
    """Branches side by side, mixed, scaled and added."""

    def __init__(
        self, channels: int, scale: float, branches: Sequence[nn.Module], mixed: int, linear: bool
    ) -> None:
        super().__init__()
        self.scale, self.ends_linear = scale, linear
        self.names = [f"branch{number}" for number in range(len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)
        self.conv2d = nn.Conv2d(mixed, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B,C,H,W) to the same shape."""
        found = torch.cat([self.get_submodule(name)(values) for name in self.names], dim=1)
        found = values + self.scale * self.conv2d(found)
        return found if self.ends_linear else F.relu(found)


class _Reduction(nn.Module):
    """Branches that halve the picture, beside a maximum of 3 x 3."""

    def __init__(self, **branches: nn.Module) -> None:
        super().__init__()
        self.names = list(branches)
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, values: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,C',H/2,W/2)."""
        found = [self.get_submodule(name)(values) for name in self.names]
        return torch.cat([*found, F.max_pool2d(values, 3, 2)], dim=1)


def _chain(before: int, *layers: tuple[int, Size], last_stride: int = 1) -> nn.Sequential:
    """Return convolutions of (channels, size) that keep the size; a strided last one does not."""
    parts = []
    for number, (after, size) in enumerate(layers):
        strides = number == len(layers) - 1 and last_stride > 1
        high, wide = (size, size) if isinstance(size, int) else size
        padding = (0, 0) if strides else (high // 2, wide // 2)
        stride = last_stride if strides else 1
        parts.append(_Convolution(before, after, size, stride, padding))
        before = after
    return nn.Sequential(*parts)


def _block35() -> _Residual:
    branches = [
        _Convolution(256, 32, 1),
        _chain(256, (32, 1), (32, 3)),
        _chain(256, (32, 1), (32, 3), (32, 3)),
    ]
    return _Residual(256, 0.17, branches, 96, linear=False)


def _block17() -> _Residual:
    branches = [_Convolution(896, 128, 1), _chain(896, (128, 1), (128, (1, 7)), (128, (7, 1)))]
    return _Residual(896, 0.10, branches, 256, linear=False)


def _block8(scale: float, ends_linear: bool = False) -> _Residual:
    branches = [
        _Convolution(POOLED, 192, 1),
        _chain(POOLED, (192, 1), (192, (1, 3)), (192, (3, 1))),
    ]
    return _Residual(POOLED, scale, branches, 384, linear=ends_linear)
