"""Specular reflection of spherical-harmonics light: pre-integrated, or summed over a fixed lobe.

Radiance sent to the camera is the integral of L F D G / (4 n.v) (`lit_face.rendering.brdf`).
Pre-integrated: L blurred by the lobe, read in the lobe's dominant direction, times ks A + B, where
A and B are the integrals of the lobe under light 1 (F is linear in ks).
Source: Karis (2013), "Real shading in Unreal Engine 4"; dominant direction: Lagarde & de Rousiers
(2014), "Moving Frostbite to physically based rendering".
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.spherical_harmonics import band_count
from lit_face.rendering.brdf import GRAZING, blinn_phong, schlick, smith
from lit_face.rendering.environment import (
    environment_points,
    sample_environment,
    wrap_environment,
)
from lit_face.rendering.light_maps import MAP_SIZE, prefiltered_map

LOWEST_ROUGHNESS = 0.02  # the tables' first; rougher light than that has no finer bands anyway
LOWEST_COSINE = 0.02  # of n.v in the tables
LEVELS = 8  # of roughness, baked where it varies over the face
_ROUGHNESS_NODES, _COSINE_NODES = 24, 32
_PART = 8  # half vectors at a time


def lobe_integrals(cosine: Tensor, roughness: Tensor, nodes: tuple[int, int]) -> Tensor:
    """Integrate the lobe under light 1.

    Args:
        cosine: (V,) of n.v, above 0.
        roughness: (R,).
        nodes: of the quadrature, in the polar angle and in half a turn of azimuth.

    Returns:
        (V,R,2) A and B in float64: the reflected share is ks A + B.
    """
    polar, polar_weight = _gauss(nodes[0])
    turn, turn_weight = _gauss(nodes[1])
    azimuth = math.pi * turn**2  # dense around the mirror direction
    light = polar[:, None].expand(-1, len(turn)).flatten()
    weight = (polar_weight[:, None] * (4 * math.pi * turn * turn_weight)).flatten()
    across = ((1 - polar**2).sqrt()[:, None] * azimuth.cos()).flatten()
    view = cosine.double()[:, None, None]
    rough = roughness.double()[:, None]
    between = across * (1 - view**2).clamp(min=0).sqrt() + light * view  # v.l
    length = (2 + 2 * between).clamp(min=1e-30).sqrt()
    lobe = blinn_phong((light + view) / length, rough) * smith(view, rough) * smith(light, rough)
    lobe = lobe * (weight * (light > GRAZING)) / (4 * view)
    fresnel = schlick(length / 2)
    return torch.stack([(lobe * (1 - fresnel)).sum(-1), (lobe * fresnel).sum(-1)], dim=-1)


def lobe_bands(roughness: Tensor, bands: int = 9, nodes: int = 192) -> Tensor:
    """Integrate the lobe at normal incidence against the Legendre polynomials.

    Args:
        roughness: (R,).
        bands: of the result.
        nodes: of the quadrature.

    Returns:
        (R,bands) in float64; divided by the first they are the factors that blur light.
    """
    cosine, weight = _gauss(nodes)
    rough = roughness.double()[:, None]
    half = ((1 + cosine) / 2).sqrt()
    view = torch.ones(1, dtype=torch.float64)
    lobe = blinn_phong(half, rough) * smith(view, rough) * smith(cosine, rough)
    lobe = lobe * (2 * math.pi * weight / 4 * (cosine > GRAZING))
    legendre = np.polynomial.legendre.legvander(cosine.numpy(), bands - 1)
    return lobe @ torch.from_numpy(legendre)


@functools.lru_cache(maxsize=16)
def _tables(bands: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (1,2,R,V) of A and B and (1,bands,1,R) blur factors."""
    with torch.inference_mode(False), torch.no_grad():
        roughness = _roughness_nodes(_ROUGHNESS_NODES)
        cosine = torch.linspace(LOWEST_COSINE, 1, _COSINE_NODES, dtype=torch.float64)
        integrals = lobe_integrals(cosine, roughness, (96, 48)).permute(2, 1, 0)[None]
        factors = lobe_bands(roughness, bands)
        factors = (factors / factors[:, :1]).mT[None, :, None]
        return integrals.to(device, dtype), factors.to(device, dtype)


def _roughness_nodes(count: int) -> Tensor:
    """Return (count,) float64 at even steps of the fourth root: lobes change fast while narrow."""
    return torch.linspace(LOWEST_ROUGHNESS**0.25, 1, count, dtype=torch.float64) ** 4


def _roughness_place(roughness: Tensor, count: int) -> Tensor:
    """Return where roughness lies among the nodes, in [0, count - 1]."""
    first = LOWEST_ROUGHNESS**0.25
    root = roughness.clamp(LOWEST_ROUGHNESS, 1).sqrt().sqrt()
    place: Tensor = (root - first) * ((count - 1) / (1 - first))
    return place


@fp32_region()
def reflected_share(cosine: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """Return A and B by table; under light 1 the lobe sends back ks A + B.

    Args:
        cosine: (B,N) of n.v; 0 and below reflects nothing, up to 0.02 as at 0.02.
        roughness: (B,N) or (B,1); below 0.02 as at 0.02.
    """
    table, _ = _tables(9, cosine.dtype, cosine.device)
    step = (1 - LOWEST_COSINE) / (_COSINE_NODES - 1)
    column = (cosine.clamp(LOWEST_COSINE, 1) - LOWEST_COSINE) / step
    row = _roughness_place(roughness, _ROUGHNESS_NODES).expand_as(column)
    points = torch.stack([column, row], dim=-1).flatten(0, 1)[None]
    integrals = sample_image(table, points)[0].unflatten(1, cosine.shape)
    first, second = integrals * (cosine > 0)
    return first, second


@fp32_region()
def blur_factors(roughness: Tensor, bands: int) -> Tensor:
    """Return (N,bands): what the lobe of each roughness (N,) leaves of a band, by table."""
    _, table = _tables(bands, roughness.dtype, roughness.device)
    node = _roughness_place(roughness, _ROUGHNESS_NODES)
    points = torch.stack([node, torch.zeros_like(node)], dim=-1)[None]
    factors: Tensor = sample_image(table, points)[0].mT
    return factors


@fp32_region()
def dominant_direction(normals: Tensor, view: Tensor, roughness: Tensor) -> Tensor:
    """Return the direction that a lobe looks at, unit.

    Args:
        normals: (B,3,N) unit.
        view: (B,3,N) unit, to the camera.
        roughness: (B,N) or (B,1).

    Returns:
        (B,3,N).
    """
    cosine = (normals * view).sum(1, keepdim=True)
    rough = roughness[:, None].clamp(LOWEST_ROUGHNESS, 1)
    share = (1 - rough) * ((1 - rough).clamp(min=1e-6).sqrt() + rough)
    # From the normal to the mirror direction 2 (n.v) n - v.
    blend = normals * (1 - share + 2 * share * cosine) - share * view
    return blend * (blend * blend).sum(1, keepdim=True).clamp(min=1e-12).rsqrt()


@fp32_region()
def prefiltered_specular(
    light: Tensor, normals: Tensor, view: Tensor, specular: Tensor, roughness: Tensor
) -> Tensor:
    """Reflect light that was blurred beforehand.

    Args:
        light: (B,K,3) radiance, camera frame, house order.
        normals: (B,3,N) unit, camera frame.
        view: (B,3,N) unit, to the camera.
        specular: (B,1,N) or (B,3,N) reflectance at normal incidence.
        roughness: (B,N), or (B,1) where it is the same everywhere: one map an image is baked
            instead of 8, and read once instead of twice.

    Returns:
        (B,3,N) radiance.
    """
    bands = band_count(light)
    direction = dominant_direction(normals, view, roughness)
    if roughness.shape[1] == 1:
        maps = prefiltered_map(light, blur_factors(roughness[:, 0], bands))
        gathered = sample_environment(maps, direction)
    else:
        gathered = _between_levels(light, direction, roughness)
    cosine = (normals * view).sum(1)
    share, rest = reflected_share(cosine, roughness)
    return gathered * (specular.clamp(min=0) * share[:, None] + rest[:, None])


def _between_levels(light: Tensor, direction: Tensor, roughness: Tensor) -> Tensor:
    """Read the maps of the two baked levels around each roughness (B,N): (B,3,N)."""
    levels = _roughness_nodes(LEVELS).to(light)
    factors = blur_factors(levels, band_count(light))
    batch, bands = len(light), factors.shape[1]
    stacked = light.repeat_interleave(LEVELS, dim=0)
    factors = factors.expand(batch, -1, -1).reshape(-1, bands)
    maps = wrap_environment(prefiltered_map(stacked, factors))
    rows = maps.shape[2]
    tall = maps.unflatten(0, (batch, LEVELS)).transpose(1, 2).flatten(2, 3)
    place = _roughness_place(roughness, LEVELS)
    lower = place.detach().floor().clamp(0, LEVELS - 2)
    points = environment_points(direction, MAP_SIZE)
    at_lower = points + torch.stack([torch.zeros_like(lower), lower * rows], dim=-1)
    share = (place - lower)[:, None]
    below = sample_image(tall, at_lower)
    above = sample_image(tall, at_lower + points.new_tensor([0.0, rows]))
    between: Tensor = below + share * (above - below)
    return between


@fp32_region()
def lobe_specular(
    environment: Tensor,
    normals: Tensor,
    view: Tensor,
    specular: Tensor,
    roughness: Tensor,
    samples: int = 64,
) -> Tensor:
    """Reflect a map of light by a fixed set of half vectors, drawn as the lobe is dense.

    Args:
        environment: (B,3,H,W) radiance, W even; clamp it if light shall not be negative.
        normals: (B,3,N) unit, camera frame.
        view: (B,3,N) unit, to the camera.
        specular: (B,1,N) or (B,3,N) reflectance at normal incidence.
        roughness: (B,N) or (B,1).
        samples: half vectors; the same for every point, so there is no noise but a bias.

    Returns:
        (B,3,N) radiance.
    """
    size = (environment.shape[-2], environment.shape[-1])
    wrapped = wrap_environment(environment)
    index = torch.arange(samples, dtype=normals.dtype, device=normals.device)
    height, turn = (index + 0.5) / samples, index * (math.pi * (3 - math.sqrt(5)))
    scene = (wrapped, normals, view, specular.clamp(min=0), roughness[:, None])
    total = torch.zeros_like(normals)
    for heights, turns in zip(height.split(_PART), turn.split(_PART), strict=True):
        # Computed again in the backward pass: N * samples directions do not fit in memory.
        part = functools.partial(_reflect_part, heights[:, None], turns[:, None], size)
        total = total + checkpoint(part, *scene, use_reentrant=False)
    return total / samples


def _reflect_part(
    height: Tensor, turn: Tensor, size: tuple[int, int], wrapped: Tensor, normals: Tensor,
    view: Tensor, specular: Tensor, roughness: Tensor,
) -> Tensor:  # fmt: skip
    """Return (B,3,N), the sum over some half vectors (K,1)."""
    cosine = (normals * view).sum(1, keepdim=True)
    exponent = (2 / roughness - 2).clamp(min=0)
    tilt = height ** (1 / (exponent + 2))  # (B,K,N) or (B,K,1): normal to half vector
    ring = (1 - tilt * tilt).clamp(min=1e-12).sqrt()
    right, up = _tangents(normals)
    half = (
        tilt[:, None] * normals[:, :, None]
        + (ring * turn.cos())[:, None] * right[:, :, None]
        + (ring * turn.sin())[:, None] * up[:, :, None]
    )  # (B,3,K,N)
    to_half = (half * view[:, :, None]).sum(1)
    direction = 2 * to_half[:, None] * half - view[:, :, None]
    to_light = (direction * normals[:, :, None]).sum(1)
    weight = smith(cosine, roughness) * smith(to_light, roughness) * to_half
    weight = weight / (cosine.clamp(min=LOWEST_COSINE) * tilt)
    lit = (to_light > GRAZING) & (to_half > 0) & (cosine > 0)
    weight = torch.where(lit, weight, 0.0)
    points = environment_points(direction.flatten(2), size)
    radiance: Tensor = sample_image(wrapped, points).unflatten(2, to_half.shape[1:])
    fresnel = schlick(to_half)
    share, rest = weight * (1 - fresnel), weight * fresnel
    return specular * (radiance * share[:, None]).sum(2) + (radiance * rest[:, None]).sum(2)


def _tangents(normals: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unit vectors (B,3,N) across each normal, smooth wherever the camera can see it.

    Source: Frisvad (2012), "Building an orthonormal basis from a 3D unit vector without
    normalization", with its one singular direction pointing away from the camera (+z).
    """
    x, y, z = normals.unbind(1)
    scale = -1 / (1 - z).clamp(min=1e-6)
    cross = x * y * scale
    right = torch.stack([1 + x * x * scale, cross, x], dim=1)
    return right, torch.stack([cross, 1 + y * y * scale, y], dim=1)


def _gauss(count: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Legendre quadrature on [0,1], float64."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
