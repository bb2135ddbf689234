"""How a shape shadows itself: precomputed transfer of light, vertex by vertex.

The irradiance of a point is a fixed linear function of the light around it, and for a rigid head
that function does not change: T = integral of V(w) max(n.w, 0) Y(w) dw, V = 0 where the head hides
the light. Source: Sloan, Kautz & Snyder (2002), "Precomputed radiance transfer for real-time
rendering in dynamic, low-frequency lighting environments". Light is direct only.

`lit_face.morphable_models.procedural.transfer` holds a coarser one (5 bands, from depth pictures,
divided by pi) for the built-in photographs.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.spherical_harmonics import lambert_factors, rotate_sh, sh_basis
from lit_face.rendering.visibility import vertex_visibility

Caster = Literal["rays", "pictures"]

_CHUNK = 32  # directions at a time
_PICTURE = 256  # pixels a side of the depth pictures
_LIFT = 1e-4  # of the mesh's extent: where rays start above the surface


def light_transfer(
    vertices: Tensor,
    faces: Tensor,
    bands: int = 9,
    directions: int = 512,
    caster: Caster | None = None,
) -> Tensor:
    """Compute the transfer of one shape.

    What is hidden is summed over fixed directions and taken from the closed form of the open sky,
    so an unshadowed vertex has exactly `lambert_factors * Y(normal)`.

    Args:
        vertices: (V,3) head space, any unit.
        faces: (F,3) int64, counter-clockwise seen from outside.
        bands: of the light.
        directions: on the whole sphere; the noise of a shadowed vertex falls with their number.
        caster: 'rays' (needs the package embreex), 'pictures' (depth pictures: no package, misses
            shadows of what is closer than about 1 % of the head's size), or None for rays where
            the package is there.

    Returns:
        (V, bands * bands) in the dtype of the vertices, for light in the frame of the vertices.

    Raises:
        ImportError: rays without embreex.
        ValueError: unknown caster.
    """
    if caster is None:
        caster = "rays" if importlib.util.find_spec("embreex") else "pictures"
    if caster not in ("rays", "pictures"):
        raise ValueError(f"caster should be 'rays', 'pictures' or None, found {caster!r}.")
    if caster == "rays" and importlib.util.find_spec("embreex") is None:
        raise ImportError("caster='rays' needs the package embreex: pip install embreex.")
    points, triangles = vertices.detach().cpu().double(), faces.cpu()
    normals = vertex_normals(points[None], triangles)[0]
    sky = fibonacci_sphere(directions)
    cosine = (normals @ sky.mT).clamp(min=0)
    hidden = (_hidden_by_rays if caster == "rays" else _hidden_in_pictures)(
        points, triangles, normals, sky
    )
    transfer = sh_basis(normals, bands) * lambert_factors(bands)
    lost = (hidden * cosine) @ sh_basis(sky, bands) * (4 * math.pi / directions)
    return (transfer - lost).to(vertices)


def ambient_occlusion(transfer: Tensor) -> Tensor:
    """Return (V,1) the share of an even sky that reaches each vertex, from (V,K) transfer.

    Given to the renderer as `transfer`, it scales the unshadowed irradiance: no bands, no
    directions, the simplest shadow.
    """
    return transfer[..., :1] * (math.sqrt(4 * math.pi) / math.pi)


@fp32_region()
def shadowed_irradiance(transfer: Tensor, light: Tensor, rotation: Tensor) -> Tensor:
    """Gather light at vertices that shadow each other.

    Args:
        transfer: (V,L) or (B,V,L) head frame, L = bands^2 above 1; fewer bands than the light has
            are the leading ones, and the other way around.
        light: (B,K,3) camera frame.
        rotation: (B,3,3) head axes to camera axes.

    Returns:
        (B,V,3) irradiance.
    """
    count = min(transfer.shape[-1], light.shape[1])
    in_head = rotate_sh(light[:, :count], rotation.mT)
    return transfer[..., :count].to(in_head) @ in_head


def fibonacci_sphere(count: int) -> Tensor:
    """Return (count,3) nearly even unit directions, float64."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    turn = index * (math.pi * (3 - math.sqrt(5)))
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * turn.cos(), ring * turn.sin(), z], dim=1)


def _hidden_by_rays(points: Tensor, faces: Tensor, normals: Tensor, sky: Tensor) -> Tensor:
    """Return (V,N) 1 where the mesh hides the sky above a vertex's horizon."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    extent = float((points.amax(0) - points.amin(0)).max())
    starts = (points + normals * (_LIFT * extent)).numpy()
    mesh = trimesh.Trimesh(points.numpy(), faces.numpy(), process=False)
    caster = RayMeshIntersector(mesh)
    above = (normals @ sky.mT > 0).numpy()
    hidden = np.zeros(above.shape)
    for column, direction in enumerate(sky.numpy()):
        rows = np.flatnonzero(above[:, column])
        rays = np.broadcast_to(direction, (len(rows), 3))
        hidden[rows, column] = caster.intersects_any(starts[rows], rays)
    return torch.from_numpy(hidden)


def _hidden_in_pictures(points: Tensor, faces: Tensor, normals: Tensor, sky: Tensor) -> Tensor:
    """Return (V,N) 1 where a depth picture from far away does not show the vertex."""
    flat = points.float()
    seen = [seen_from(flat, faces, part.float()) for part in sky.split(_CHUNK)]
    return 1 - torch.cat(seen).mT.double()


def seen_from(points: Tensor, faces: Tensor, directions: Tensor) -> Tensor:
    """Visibility (N,V) of the vertices from far away in N directions."""
    helper = torch.where(directions[:, 1:2].abs() < 0.9, 1.0, 0.0).to(directions)
    up = torch.cat([torch.zeros_like(helper), helper, 1 - helper], dim=1)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, directions), dim=1)
    down = torch.linalg.cross(right, directions)
    axes = torch.stack([right, down, -directions], dim=1)
    image = (points - points.mean(0)) @ axes.mT
    extent = image[..., :2].abs().amax()
    image = image * (_PICTURE / 2 - 2) / extent
    image = image + image.new_tensor([_PICTURE / 2, _PICTURE / 2, 0])
    return vertex_visibility(image, faces, (_PICTURE, _PICTURE), tolerance=0.012)
