"""From a map with holes to a whole one: the hint, the network, the blend at the seam."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_face.methods.texture_completion.hint import MeanMap, feathered, fill_hint, resized
from lit_face.methods.texture_completion.network import GMCNNGenerator

_SEAM = 8.0  # texels at 256 over which known texels give way to completed ones


class TextureCompleter(nn.Module):
    """Fills the holes of albedo maps.

    Args:
        generator: the network.
        size: side of the maps that it learns from, texels.
        mirror: fill holes from the face's other side (u -> 1 - u) before the network sees them.
        residual: the network gives the difference to what the holes were filled with.
    """

    def __init__(
        self, generator: GMCNNGenerator, size: int, mirror: bool = True, residual: bool = True
    ) -> None:
        super().__init__()
        self.generator = generator
        self.size, self.mirror, self.residual = size, mirror, residual
        self.mean_map = MeanMap(size)

    def hint(self, image: Tensor, known: Tensor) -> Tensor:
        """Return maps (B,3,S,S) whose holes are filled without the network."""
        return fill_hint(image, known, self.mean_map(image.shape[-1]), self.mirror)

    def forward(self, image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Predict whole maps.

        Args:
            image: (B,3,S,S) sRGB values in [0,1]; what it holds where it is not known is ignored.
            known: (B,1,S,S) 1 = known.

        Returns:
            The prediction and the hint, (B,3,S,S) in [0,1].
        """
        hint = self.hint(image, known)
        signed = 2 * hint - 1
        if not self.residual and not self.mirror:
            signed = signed * known
        output = self.generator(signed, 1 - known).float()
        predicted = (output + 1) / 2
        if self.residual:
            predicted = (hint + output).clamp(0, 1)
        return predicted, hint

    @torch.no_grad()
    def complete(self, image: Tensor, known: Tensor, seam: float = _SEAM) -> Tensor:
        """Return whole maps of any size; arguments as in `forward`.

        The network works at the size it learnt from; larger maps get its correction of the hint,
        enlarged, so that the detail of the mirrored side stays. Known texels fade into completed
        ones over `seam` texels (at 256) on the known side.
        """
        size = image.shape[-1]
        share = resized(known, self.size)
        small = resized(image * known, self.size) / share.clamp(min=1e-6)
        predicted, hint = self(small, (share > 0.5).float())
        whole = self.hint(image, known) + resized(predicted - hint, size)
        weight = feathered(known, seam * size / 256)
        return (weight * image + (1 - weight) * whole).clamp(0, 1)
