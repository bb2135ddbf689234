"""What fills a hole before the network sees it: the mirrored side, then the mean of other maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PRIOR_GAIN = 0.05  # weight of 'as the mean' beside the visible texels, in variances of colour
_FEATHER = 16  # texels at 256


class MeanMap(nn.Module):
    """The mean of maps over those that show a texel, gathered while training.

    Args:
        size: side of the map, texels.
    """

    total: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3, size, size))
        self.register_buffer("count", torch.zeros(1, size, size))

    @torch.no_grad()
    def update(self, image: Tensor, known: Tensor) -> None:
        """Add maps (B,3,S,S) where they are known (B,1,S,S)."""
        self.total += (image * known).sum(0).float()
        self.count += known.sum(0).float()

    @torch.no_grad()
    def forward(self, size: int) -> Tensor:
        """Return the mean (3,size,size); texels that no map showed continue those around them."""
        known = (self.count > 0).float()[None]
        values = (self.total / self.count.clamp(min=1))[None]
        whole = torch.where(known > 0, values, spread(values, known))
        return resized(whole, size)[0]


@torch.no_grad()
def fill_hint(
    image: Tensor, known: Tensor, mean: Tensor, mirror: bool, feather: int = _FEATHER
) -> Tensor:
    """Fill holes: by the mirrored side where that is known, else by the mean in the map's colours.

    The mean is brought to the map's colours by a gain and an offset a channel, and what then still
    differs at the hole's border fades into it.

    Args:
        image: (B,3,S,S).
        known: (B,1,S,S) 1 = known.
        mean: (3,S,S) from `MeanMap`.
        mirror: whether u -> 1 - u is the face's other side; without it only the mean is used.
        feather: width of the blend between mirrored texels and the mean, at 256 texels.

    Returns:
        (B,3,S,S), equal to `image` where that is known.
    """
    seen, values = known, image
    if mirror:
        other = image.flip(-1)
        softness = feathered(known.flip(-1), feather * image.shape[-1] / 256)
        seen = torch.maximum(known, known.flip(-1))
        values = torch.where(known > 0, image, other)
    adapted = adapted_mean(mean, values, seen)
    adapted = adapted + spread(values - adapted, seen)
    if mirror:
        adapted = adapted + softness * (other - adapted)
    return torch.where(known > 0, image, adapted)


def adapted_mean(mean: Tensor, image: Tensor, known: Tensor) -> Tensor:
    """Return the mean (3,S,S) with each channel's gain and offset fitted to known texels."""
    weight = known / known.mean(dim=(2, 3), keepdim=True).clamp(min=1e-6)

    def average(values: Tensor) -> Tensor:
        return (weight * values).mean(dim=(2, 3), keepdim=True)

    other = mean.expand_as(image)
    middle, own = average(other), average(image)
    spread_of = average((other - middle).square())
    prior = _PRIOR_GAIN * (mean - mean.mean(dim=(1, 2), keepdim=True)).square().mean() + 1e-6
    gain = (average((other - middle) * (image - own)) + prior) / (spread_of + prior)
    is_seen = known.amax(dim=(2, 3), keepdim=True)
    return torch.where(is_seen > 0, own + gain * (other - middle), other)


def spread(values: Tensor, weight: Tensor) -> Tensor:
    """Continue values (B,C,H,W) from where their weight (B,1,H,W) is 1 into the rest, smoothly.

    Pull-push over halved pictures (Gortler et al. 1996, "The lumigraph").
    """
    size = values.shape[-2:]
    if max(size) <= 1:
        return values
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    share = F.interpolate(weight, half, mode="area")
    coarse = F.interpolate(values * weight, half, mode="area") / share.clamp(min=1e-6)
    coarse = spread(coarse, (4 * share).clamp(max=1))
    below = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return weight * values + (1 - weight) * below


def feathered(mask: Tensor, width: float) -> Tensor:
    """Return a mask (B,1,H,W) that falls to 0 over `width` texels inside of its border."""
    reach = max(1, round(width / 2))
    share = F.avg_pool2d(
        mask, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False
    )  # fmt: skip
    return (2 * share - 1).clamp(0, 1) * mask


def resized(image: Tensor, size: int) -> Tensor:
    """Resample texel-centred maps (B,C,S,S): areas where they shrink, bilinear where they grow."""
    if image.shape[-1] == size:
        return image
    if image.shape[-1] > size:
        return F.interpolate(image, (size, size), mode="area")
    return F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
