"""A small network that tells people apart: half a megabyte, minutes to train."""

from __future__ import annotations

import itertools
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.identity.state_files import load_weights
from lit_face.io.start_weights import weights_come_later

_WIDENING = (1, 2, 3, 4)  # channels of the levels, in widths
_GROUP = 4  # channels that are normalised together
_LAST_SIDE = 7  # of 112 pixels


class SmallEmbedder(nn.Module):
    """Aligned faces to features: a residual network of three levels.

    Group normalisation sees one face at a time, so training and use agree, in batches of any size.

    Args:
        width: channels of the first layer, a multiple of 4.
        blocks: residual blocks a level.
        features: of the result.
        weights: a file of its state dict, or the name of weights that come with lit_face ('small',
            'small_judge'); None is a network that knows nothing.

    Raises:
        ValueError: sizes that are not possible, or a file that does not fit.
        FileNotFoundError: no such file.
    """

    def __init__(
        self, width: int = 16, blocks: int = 1, features: int = 128, weights: str | None = None
    ) -> None:
        super().__init__()
        if width < _GROUP or width % _GROUP or blocks < 1 or features < 1:
            raise ValueError(
                f"width should be a multiple of {_GROUP}, blocks and features at least 1; found "
                f"{width}, {blocks}, {features}."
            )
        self.options = {"width": width, "blocks": blocks, "features": features}
        sizes = [width * factor for factor in _WIDENING]
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        levels: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            levels.append(_Block(before, after, 2))
            levels += [_Block(after, after, 1) for _ in range(blocks - 1)]
        self.levels = nn.Sequential(*levels)
        self.norm = _normalisation(sizes[-1])
        self.pool = nn.Conv2d(sizes[-1], 2 * sizes[-1], _LAST_SIDE, groups=sizes[-1], bias=False)
        self.head = nn.Linear(2 * sizes[-1], features)
        if weights is not None and not weights_come_later():
            load_weights(self, weights, "embedder.weights")

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty network is built."""
        return {"_target_": "lit_face.identity.SmallEmbedder", **self.options}

    def forward(self, face: Tensor) -> Tensor:
        """Map (B,3,112,112) RGB in [-1,1] to features (B,D), not normalised."""
        found = F.relu(self.norm(self.levels(self.stem(face))))
        result: Tensor = self.head(self.pool(found).flatten(1))
        return result


class _Block(nn.Module):
    """Two convolutions beside a shortcut; normalised before each."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = _normalisation(before), _normalisation(after)
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        nn.init.zeros_(self.second.weight)  # a block starts as its shortcut
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            pooled = nn.AvgPool2d(stride)
            self.shortcut = nn.Sequential(pooled, nn.Conv2d(before, after, 1, bias=False))

    def forward(self, values: Tensor) -> Tensor:
        """Map (B,C,H,W) to (B,C',H/s,W/s)."""
        found = self.first(F.relu(self.first_norm(values)))
        found = self.second(F.relu(self.second_norm(found)))
        result: Tensor = self.shortcut(values) + found
        return result


def _normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP, channels)
