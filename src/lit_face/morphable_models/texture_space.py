"""Linear spaces of albedo maps: a code to a texture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import centred_resampling, texel_uv
from lit_face.morphable_models.base import MorphableModel

_DARKEST = 1e-4  # linear light
_SKIN = (0.76, 0.58, 0.49)  # plain, RGB
_COLOUR_STD, _SMOOTH_STD = 20 / 255, 10 / 255
_SMOOTH = 20  # components
_TINT = 0.4  # of a smooth component's three colours, beside what they share
_WAVES = 5  # the smoothest cosines, along each side


class TextureSpace(nn.Module):
    """A mean texture and components; everything is a non-persistent buffer.

    Maps are **texel-centred**, as FLAME's files are (texel i of S lies at (i + 0.5) / S), not
    corner-aligned as `lit_face.geometry.uv`; `corner_aligned` converts.

    Args:
        mean: (3,S,S) albedo, RGB, sRGB values in [0,1]; row 0 is v = 1.
        basis: (K,3,S,S) a standard deviation.
        coverage: (S,S) bool, texels that faces cover.
        name: what it is, for messages and files.
    """

    mean: Tensor
    basis: Tensor
    coverage: Tensor

    def __init__(self, mean: Tensor, basis: Tensor, coverage: Tensor, name: str) -> None:
        super().__init__()
        self.name = name
        for key, value in (("mean", mean), ("basis", basis), ("coverage", coverage)):
            self.register_buffer(key, value, persistent=False)

    @property
    def size(self) -> int:
        """Side S of the maps, texels."""
        return self.mean.shape[-1]

    @property
    def components(self) -> int:
        """Number K of components."""
        return len(self.basis)

    def forward(self, code: Tensor) -> Tensor:
        """Return textures (B,3,S,S), not clamped, of codes (B,k), k <= K, standard deviations."""
        code = code.float()
        offsets = code @ self.basis[: code.shape[1]].flatten(1)
        return self.mean + offsets.view(-1, *self.mean.shape)


class LinearLightSpace(TextureSpace):
    """A texture space that is linear in linear light (AlbedoMM): shown with a gamma of 2.2."""

    def forward(self, code: Tensor) -> Tensor:
        """Return sRGB textures (B,3,S,S), clamped below: a power of less than 0 is not a number."""
        return super().forward(code).clamp(min=_DARKEST) ** (1 / 2.2)


TextureSource = TextureSpace | Callable[[MorphableModel], TextureSpace]


def texture_space_of(
    model: MorphableModel, size: int = 256, components: int | None = None
) -> TextureSpace:
    """Return a morphable model's own albedo, interpolated between its vertices.

    Texels that no face covers have the covered texels' mean, and components of 0.
    """
    resampling = centred_resampling(model.uv, model.map_faces, size)
    maps = resampling(torch.cat([model.albedo_mean[..., None], model.albedo_basis], 2).flatten(1))
    maps = maps.view(3, -1, size, size).movedim(1, 0)
    covered = resampling.mask.bool()
    mean = torch.where(covered, maps[0], maps[0][:, covered].mean(1)[:, None, None])
    basis = maps[1:] if components is None else maps[1 : 1 + components]
    return TextureSpace(mean.contiguous(), basis.contiguous(), covered, model.name)


def plain_texture_of(model: MorphableModel, size: int = 256, seed: int = 0) -> TextureSpace:
    """Return the plain space of a model's UV layout; see `plain_texture_space`."""
    covered = centred_resampling(model.uv, model.map_faces, size).mask
    return plain_texture_space(size, covered, seed)


def plain_texture_space(
    size: int = 256, coverage: Tensor | None = None, seed: int = 0
) -> TextureSpace:
    """Return a space without anybody's data: skin colour, three colours, 20 smooth components.

    The smooth ones are random mixes of low cosines, drawn with the seed; each has a root mean
    square of 10 of 255 where the maps are covered, a colour 20 of 255.

    Args:
        size: side of the maps, texels.
        coverage: (size,size) bool texels that faces cover; all without it.
        seed: of the smooth components.
    """
    covered = torch.ones(size, size, dtype=torch.bool) if coverage is None else coverage.cpu()
    generator = torch.Generator().manual_seed(seed)
    place = (torch.arange(size) + 0.5) / size * torch.pi
    waves = torch.cos(torch.arange(_WAVES)[:, None] * place)
    fading = 1 / (1 + torch.arange(_WAVES).float().square())
    grey, own = (torch.randn(_SMOOTH, n, _WAVES, _WAVES, generator=generator) for n in (1, 3))
    mix = grey + _TINT * own  # skin is lighter or darker sooner than of another colour
    mix = mix * fading[:, None] * fading
    mix[..., 0, 0] = 0  # the colours' part
    smooth = torch.einsum("kcij,iy,jx->kcyx", mix, waves, waves)
    spread = smooth[..., covered].square().mean((1, 2)).sqrt()
    smooth = smooth * (_SMOOTH_STD / spread)[:, None, None, None]
    colours = (_COLOUR_STD * torch.eye(3))[..., None, None].expand(3, 3, size, size)
    mean = torch.tensor(_SKIN)[:, None, None].expand(3, size, size)
    return TextureSpace(mean.clone(), torch.cat([colours, smooth]), covered, "plain")


def sample_texture(textures: Tensor, uv: Tensor) -> Tensor:
    """Read texel-centred maps (B,C,S,S) at (B,...,2) UV coordinates: (B,C,...), bilinear."""
    size = textures.shape[-1]
    points = torch.stack([uv[..., 0] * size - 0.5, (1 - uv[..., 1]) * size - 0.5], dim=-1)
    return sample_image(textures, points, padding="border")


def corner_aligned(textures: Tensor) -> Tensor:
    """Resample texel-centred maps (B,C,S,S) to the house's corner-aligned maps of that size."""
    size = textures.shape[-1]
    uv = texel_uv(torch.arange(size * size, device=textures.device), size)
    values = sample_texture(textures, uv.expand(len(textures), -1, -1))
    return values.view(*textures.shape)
