"""What a texture space cannot show: an offset map, in closed form from the fitted light."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear

_DARKEST = 0.1  # shading below it says nothing about albedo


def albedo_of(color: Tensor, shading: Tensor) -> Tensor:
    """Return the sRGB albedo in [0,1] that looks like sRGB colors under linear shading."""
    return linear_to_srgb(srgb_to_linear(color) / shading.clamp(min=_DARKEST)).clamp(0, 1)


@torch.no_grad()
@fp32_region()
def offset_map(
    difference: Tensor,
    weight: Tensor,
    uv: Tensor,
    size: int,
    smooth: float,
    shrink: float,
    steps: int,
) -> Tensor:
    """Spread differences of pixels over a map: regularised least squares by conjugate gradients.

    Minimises weight (map(uv) - difference)^2 + smooth (neighbours' difference)^2 + shrink map^2;
    texels that no pixel shows go smoothly to 0. Photos share nothing.

    Args:
        difference: (B,C,N) albedo that pixels have over the texture.
        weight: (B,N) of the pixels.
        uv: (B,N,2) of the pixels.
        size: side of the map, texel-centred.
        smooth: weight of neighbouring texels.
        shrink: weight of the map itself.
        steps: of the conjugate gradients.

    Returns:
        (B,C,size,size).

    Source: Hestenes & Stiefel (1952), "Methods of conjugate gradients for solving linear systems".
    """
    texel, share = _corners(uv, size)
    batch, channels = difference.shape[:2]
    texel = texel[:, None].expand(-1, channels, -1, -1)

    def spread(values: Tensor) -> Tensor:
        maps = values.new_zeros(batch, channels, size * size)
        return maps.scatter_add(2, texel.flatten(2), (values[..., None] * share).flatten(2))

    def product(maps: Tensor) -> Tensor:
        read = maps.gather(2, texel.flatten(2)).view(*texel.shape)
        data = spread((read * share).sum(-1) * weight[:, None])
        rough = _roughness(maps.view(batch, channels, size, size)).flatten(2)
        return data + smooth * rough + shrink * maps

    rest = spread(difference * weight[:, None])
    found, direction = torch.zeros_like(rest), rest
    length = rest.square().sum((1, 2), keepdim=True)
    for _ in range(steps):
        image = product(direction)
        stride = length / (direction * image).sum((1, 2), keepdim=True).clamp(min=1e-20)
        found, rest = found + stride * direction, rest - stride * image
        shorter = rest.square().sum((1, 2), keepdim=True)
        direction = rest + shorter / length.clamp(min=1e-20) * direction
        length = shorter
    return found.view(batch, channels, size, size)


def _corners(uv: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the four texels (B,N,4) around points and their bilinear shares (B,1,N,4)."""
    x = (uv[..., 0] * size - 0.5).clamp(0, size - 1)
    y = ((1 - uv[..., 1]) * size - 0.5).clamp(0, size - 1)
    left, top = x.floor().clamp(max=size - 2), y.floor().clamp(max=size - 2)
    right, down = x - left, y - top
    first = (top * size + left).long()
    texel = torch.stack([first, first + 1, first + size, first + size + 1], -1)
    share = [(1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down]
    return texel, torch.stack(share, -1)[:, None]


def _roughness(maps: Tensor) -> Tensor:
    """Return the gradient of half the squared differences of neighbours, (B,C,S,S)."""
    result = torch.zeros_like(maps)
    across, down = maps[..., 1:] - maps[..., :-1], maps[:, :, 1:] - maps[:, :, :-1]
    result[..., 1:] += across
    result[..., :-1] -= across
    result[:, :, 1:] += down
    result[:, :, :-1] -= down
    return result
