"""From a texture of the core to the displacement of the core, whatever the network was shown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.geometry.sampling import sample_image
from lit_face.io.displacement_maps import CANVAS, RANGE_MM, core_box, facial_window
from lit_face.methods.displacement.network import size_problem


class DisplacementPredictor(nn.Module):
    """Runs the generator in mm.

    Args:
        network: the generator.
        window: the network knows the facial window (released weights, TU models), not the core.
        side: texels that textures are brought to before; None leaves them. Released: 1024.
    """

    def __init__(self, network: nn.Module, window: bool = False, side: int | None = None) -> None:
        super().__init__()
        self.network, self.window, self.side = network, window, side
        problem = size_problem(side, self.downs) if side else None
        if problem:
            raise ValueError(f"method.side={side}: {problem}")

    @property
    def downs(self) -> int:
        """How often the network halves the side."""
        return int(getattr(self.network, "downs", 0))

    def network_mm(self, texture: Tensor) -> Tensor:
        """Return displacement (B,1,H,W) in mm of what the network is made for, (B,3,H,W) [0,1]."""
        found: Tensor = self.network(2 * texture - 1)
        return RANGE_MM * found.float()

    def forward(self, texture: Tensor) -> Tensor:
        """Return displacement (B,1,T,T) in mm of core textures (B,3,T,T) in [0,1].

        Beyond the facial window, where the network knows nothing, it is 0.
        """
        size = texture.shape[-1]
        if not self.window and self.side in (None, size):
            return self.network_mm(texture)
        inside = sample_image(
            texture, _places(self.side or size, size, self.window, texture), padding="border"
        )
        found = self.network_mm(inside)
        places = _places(size, found.shape[-1], self.window, found, is_back=True)
        return sample_image(found, places, padding="zeros" if self.window else "border")


def _places(to: int, origin: int, window: bool, like: Tensor, is_back: bool = False) -> Tensor:
    """Return (B,to,to,2): where texels of a picture of `to` lie in one of `origin` texels.

    From the core into the window, or back; both are boxes of FaceScape's canvas.
    """
    core, face = core_box(CANVAS), facial_window(CANVAS)
    source, target = (core, face if window else core)
    if is_back:
        source, target = target, source
    place = (torch.arange(to, device=like.device, dtype=like.dtype) + 0.5) / to
    axes = []
    for box, goal in zip(source, target, strict=True):  # rows, columns
        canvas = goal.start + place * (goal.stop - goal.start)
        axes.append((canvas - box.start) / (box.stop - box.start) * origin - 0.5)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([columns, rows], dim=-1).expand(len(like), -1, -1, -1)
