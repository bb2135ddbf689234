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
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.rendering.brdf import GRAZING, blinn_phong, schlick, smith

LOWEST_ROUGHNESS = 0.02  # the tables' first; rougher light than that has no finer bands anyway
LOWEST_COSINE = 0.02  # of n.v in the tables
_ROUGHNESS_NODES, _COSINE_NODES = 24, 32


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
    """Return (1,2,R,V) of A and B and (1,bands,1,R) blur factors, at even steps of sqrt(a)."""
    with torch.inference_mode(False), torch.no_grad():
        steps = torch.linspace(LOWEST_ROUGHNESS**0.5, 1, _ROUGHNESS_NODES, dtype=torch.float64)
        cosine = torch.linspace(LOWEST_COSINE, 1, _COSINE_NODES, dtype=torch.float64)
        integrals = lobe_integrals(cosine, steps**2, (96, 48)).permute(2, 1, 0)[None]
        factors = lobe_bands(steps**2, bands)
        factors = (factors / factors[:, :1]).mT[None, :, None]
        return integrals.to(device, dtype), factors.to(device, dtype)


def _roughness_node(roughness: Tensor) -> Tensor:
    first = LOWEST_ROUGHNESS**0.5
    step = (1 - first) / (_ROUGHNESS_NODES - 1)
    return (roughness.clamp(LOWEST_ROUGHNESS, 1).sqrt() - first) / step


@fp32_region()
def reflected_share(cosine: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """Return A and B by table; under light 1 the lobe sends back ks A + B.

    Args:
        cosine: (B,N) of n.v; below 0.02 as at 0.02.
        roughness: (B,N); below 0.02 as at 0.02.
    """
    table, _ = _tables(9, cosine.dtype, cosine.device)
    node = (cosine.clamp(LOWEST_COSINE, 1) - LOWEST_COSINE) * (
        (_COSINE_NODES - 1) / (1 - LOWEST_COSINE)
    )
    points = torch.stack([node, _roughness_node(roughness)], dim=-1)
    first, second = sample_image(table, points[None], padding="border")[0]
    return first, second


@fp32_region()
def blur_factors(roughness: Tensor, bands: int) -> Tensor:
    """Return (N,bands): what the lobe of each roughness (N,) leaves of a band, by table."""
    _, table = _tables(bands, roughness.dtype, roughness.device)
    node = _roughness_node(roughness)
    points = torch.stack([node, torch.zeros_like(node)], dim=-1)[None]
    return sample_image(table, points, padding="border")[0].mT


@fp32_region()
def dominant_direction(normals: Tensor, view: Tensor, roughness: Tensor) -> Tensor:
    """Return the direction (...,3) that a lobe of roughness (...,1) looks at, unit."""
    mirrored = 2 * (normals * view).sum(-1, keepdim=True) * normals - view
    rough = roughness.clamp(LOWEST_ROUGHNESS, 1)
    share = (1 - rough) * ((1 - rough).clamp(min=1e-6).sqrt() + rough)
    return F.normalize(normals + share * (mirrored - normals), dim=-1, eps=1e-8)


def _gauss(count: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Legendre quadrature on [0,1], float64."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
