"""The simplified Cook-Torrance reflectance of the face methods, point by point.

With n (normal), v (to the camera), l (to the light), m = normalise(v + l) and roughness a in (0,1]:

    f cos = kd (n.l) / pi  +  F D G / (4 n.v)
    D = (s + 2) / (2 pi) max(n.m, 0)^s ,  s = max(2 / a - 2, 0)        (Blinn-Phong)
    F = ks + (1 - ks) (1 - |m.l|)^5                                    (Schlick)
    G = g(v) g(l),  q = 1 / (sqrt(a) tan(theta)),
    g = 1 if q >= 1.6, else (3.535 q + 2.181 q^2) / (1 + 2.276 q + 2.577 q^2)   (Smith, fitted)

The cosine is already in it. It does not conserve energy: with ks = 1 the lobe sends back up to 1.14
at a = 0.7 and n.v = 0.1. Kept, because published face albedos were found with it.

Source: redner's material (Li et al. 2018), as NextFace uses it (Dib et al. 2021); the fit of g is
Walter et al. (2007), "Microfacet models for refraction through rough surfaces".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_face.geometry.precision import fp32_region

GRAZING = 1e-3  # light lower than this cosine over the horizon is left out


def blinn_phong(cosine: Tensor, roughness: Tensor) -> Tensor:
    """Return D for the cosine between normal and half vector."""
    exponent = (2 / roughness - 2).clamp(min=0)
    return (exponent + 2) / (2 * math.pi) * cosine.clamp(min=1e-8) ** exponent


def schlick(cosine: Tensor) -> Tensor:
    """Return (1 - |cosine|)^5, the share of 1 in F; the share of ks is the rest."""
    rest = (1 - cosine.abs()).clamp(min=0)
    square = rest * rest
    return square * square * rest


def smith(cosine: Tensor, roughness: Tensor) -> Tensor:
    """Return g for the cosine between the normal and a direction; 0 at the horizon."""
    safe = cosine.clamp(min=1e-8, max=1 - 1e-7)
    q = safe / ((1 - safe * safe) * roughness).sqrt()
    fit = q * (3.535 + 2.181 * q) / (1 + q * (2.276 + 2.577 * q))
    return torch.where(q < 1.6, fit, 1.0)


@fp32_region()
def brdf(
    normals: Tensor,
    view: Tensor,
    light: Tensor,
    diffuse: Tensor,
    specular: Tensor,
    roughness: Tensor,
) -> Tensor:
    """Evaluate the reflectance times the cosine of the light.

    Args:
        normals: (...,3) unit.
        view: (...,3) unit, to the camera.
        light: (...,3) unit, to the light.
        diffuse: (...,3) albedo, linear; below 0 it counts as 0, above 1 it stays.
        specular: (...,1) or (...,3) reflectance at normal incidence, likewise.
        roughness: (...,1) in (0,1].

    Returns:
        (...,3); 0 where the light is at or below the horizon, or the camera behind the surface.
    """
    half = F.normalize(view + light, dim=-1, eps=1e-8)
    to_view = (normals * view).sum(-1, keepdim=True)
    to_light = (normals * light).sum(-1, keepdim=True)
    lobe = blinn_phong((normals * half).sum(-1, keepdim=True), roughness)
    lobe = lobe * smith(to_view, roughness) * smith(to_light, roughness)
    lobe = lobe / (4 * to_view.clamp(min=1e-8))
    share = schlick((half * light).sum(-1, keepdim=True))
    specular = specular.clamp(min=0)
    value = diffuse.clamp(min=0) * to_light / math.pi + lobe * (specular + (1 - specular) * share)
    return torch.where((to_light > GRAZING) & (to_view > 0), value, 0.0)
