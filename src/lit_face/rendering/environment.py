"""Light from far away on latitude-longitude maps: from and to spherical harmonics.

Texel (row i, column j) of an H x W map lies at the polar angle t = pi (i + 0.5) / H from camera +y
(down in the picture) and the azimuth f = 2 pi (j + 0.5) / W, f = atan2(x, -z).
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.spherical_harmonics import band_count, sh_basis

GRID = (32, 64)  # texels of the map on which negative light is judged


def environment_directions(size: tuple[int, int]) -> Tensor:
    """Return (H,W,3) float64 unit directions of the texels, camera frame."""
    height, width = size
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    azimuth = (torch.arange(width, dtype=torch.float64) + 0.5) * (2 * math.pi / width)
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    ring = polar.sin()
    return torch.stack([ring * azimuth.sin(), polar.cos(), -ring * azimuth.cos()], dim=-1)


def environment_weights(size: tuple[int, int]) -> Tensor:
    """Return (H,W) float64 solid angles that integrate harmonics of fewer than H bands exactly.

    Source: Fejer's first quadrature rule, in the cosine of the polar angle.
    """
    height, width = size
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    order = torch.arange(1, height // 2 + 1, dtype=torch.float64)
    waves = (2 * order * polar[:, None]).cos() / (4 * order * order - 1)
    rows = (2 / height) * (1 - 2 * waves.sum(1))
    return (rows * (2 * math.pi / width))[:, None].expand(-1, width)


@functools.lru_cache(maxsize=32)
def basis_matrix(
    size: tuple[int, int], bands: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return (H*W,K) harmonics at the texels; shared, never to be written to."""
    with torch.inference_mode(False), torch.no_grad():
        basis = sh_basis(environment_directions(size).flatten(0, 1), bands)
        result: Tensor = basis.to(device=device, dtype=dtype)
        return result


@functools.lru_cache(maxsize=32)
def projection_matrix(
    size: tuple[int, int], bands: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return (K,H*W) that turns texels into coefficients; shared, never to be written to."""
    with torch.inference_mode(False), torch.no_grad():
        weights = environment_weights(size).flatten()
        basis = sh_basis(environment_directions(size).flatten(0, 1), bands)
        return (basis * weights[:, None]).mT.contiguous().to(device=device, dtype=dtype)


@fp32_region()
def sh_to_environment(
    coefficients: Tensor, size: tuple[int, int] = (64, 128), clamp: bool = True
) -> Tensor:
    """Draw light given by spherical harmonics on a map.

    Args:
        coefficients: (B,K,C) radiance, house order.
        size: height and width of the map, texels.
        clamp: light is never negative; false shows the harmonics as they are.

    Returns:
        (B,C,H,W) linear radiance.

    Raises:
        ValueError: K is not a square.
    """
    bands = band_count(coefficients)
    matrix = basis_matrix(size, bands, coefficients.dtype, coefficients.device)
    maps = (matrix @ coefficients).mT.reshape(len(coefficients), -1, *size)
    return maps.clamp(min=0) if clamp else maps


@fp32_region()
def environment_to_sh(environment: Tensor, bands: int = 9) -> Tensor:
    """Project maps on spherical harmonics; exact for maps that `sh_to_environment` drew unclamped.

    Args:
        environment: (B,C,H,W) linear radiance.
        bands: of the result.

    Returns:
        (B, bands * bands, C).

    Raises:
        ValueError: the map is too small for so many bands.
    """
    size = (environment.shape[-2], environment.shape[-1])
    if min(size) < 2 * bands - 1:
        raise ValueError(
            f"an environment map of {bands} bands needs at least {2 * bands - 1} rows and columns, "
            f"found {size[0]} x {size[1]}; ask for fewer bands or enlarge the map."
        )
    matrix = projection_matrix(size, bands, environment.dtype, environment.device)
    return matrix @ environment.flatten(2).mT


@fp32_region()
def clamped_light(coefficients: Tensor, bands: int = 13) -> Tensor:
    """Return the harmonics (B, bands * bands, C) of max(light, 0), judged on the fixed grid.

    More bands than the light has: the clamp makes new ones. With 13, irradiance is right to 4e-4 of
    its maximum on harsh lights (docs/shading.md).
    """
    return environment_to_sh(sh_to_environment(coefficients, GRID), bands)


@fp32_region()
def negative_light(coefficients: Tensor) -> Tensor:
    """Return the mean of max(-radiance, 0)^2 over batch, channels and the fixed 32 x 64 texels."""
    maps = sh_to_environment(coefficients, GRID, clamp=False)
    return (-maps).clamp(min=0).square().mean()


def wrap_environment(environment: Tensor) -> Tensor:
    """Surround (B,C,H,W) maps, W even, by one texel: (B,C,H+2,W+2), for `environment_points`.

    Columns go around the azimuth; beyond a pole lies the same row, half a turn away.
    """
    over = environment[:, :, [0, -1]].roll(environment.shape[-1] // 2, -1)
    padded = torch.cat([over[:, :, :1], environment, over[:, :, 1:]], dim=2)
    return torch.cat([padded[..., -1:], padded, padded[..., :1]], dim=3)


@fp32_region()
def environment_points(directions: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B,N,2) pixels of the wrapped map at which to read (B,3,N) unit directions.

    Args:
        directions: camera frame, planes of x, y and z.
        size: of the map before it was wrapped.

    Differentiable everywhere: next to a pole the gradient of the azimuth, which is not defined
    there, is held finite.
    """
    height, width = size
    x, y, z = directions.unbind(1)
    squared = x * x + z * z
    polar = torch.atan2(squared.clamp(min=1e-12).sqrt(), y)
    azimuth = torch.atan2(-x.detach(), z.detach())  # half a turn on, so that it starts at 0
    if directions.requires_grad:
        # The gradient of atan2, limited within half a texel of the poles; the value stays.
        floor = math.sin(math.pi / (2 * height)) ** 2
        turn = x.detach() * z - z.detach() * x
        azimuth = azimuth + turn / squared.detach().clamp(min=floor)
    # Texel centres lie at half steps, and the wrapped map has one column and row before the first.
    columns = azimuth * (width / (2 * math.pi)) + (width / 2 + 0.5)
    return torch.stack([columns, polar * (height / math.pi) + 0.5], dim=-1)


def sample_environment(environment: Tensor, directions: Tensor) -> Tensor:
    """Read (B,C,H,W) maps, W even, in (B,3,N) unit directions, bilinearly: (B,C,N).

    Differentiable in both (`environment_points`).
    """
    size = (environment.shape[-2], environment.shape[-1])
    points = environment_points(directions, size)
    return sample_image(wrap_environment(environment), points)
