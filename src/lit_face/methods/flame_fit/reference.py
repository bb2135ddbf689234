"""The fit of photometric_optimization (Feng 2019), its schedule and its renderer, for comparison.

Units are the reference's: metres, model space (y up, z out of the face), NDC (x right, y down).
Kept from it: pose starts at zero and the scale at 5, light at 0, weight decay on everything, colors
shaded as stored (sRGB), normals that are not made unit again, no gradient through normals and
coverage. Not kept: totals are per photo, so that photos do not share regularisers; landmark
distances of 0 have a gradient of 0; vertices are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lit_face.geometry.meshes import face_normals
from lit_face.geometry.precision import fp32_region
from lit_face.methods.flame_fit.light import shading
from lit_face.methods.flame_fit.losses import half_squares, landmark_term, reference_photometric
from lit_face.morphable_models.texture_space import sample_texture
from lit_face.rendering.interpolate import Fragments, fragments_of
from lit_face.rendering.rasterize import rasterize

RATE, DECAY = 0.005, 1e-4
START_SCALE = 5.0
WEIGHTS = {"landmark": 1.0, "identity": 1e-4, "expression": 1e-4, "pose": 0.0, "photometric": 8.0}
_RIGID = ("pose", "camera")
_AREA = 1e-8  # NDC squared
_SHORTEST = 1e-6  # of a vertex normal before it is made unit, m^2


class PosedShape(Protocol):
    """What is fitted: identity, expression and pose (B,6: head, jaw) to vertices and landmarks."""

    def __call__(self, identity: Tensor, expression: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Return vertices (B,V,3) and landmarks (B,68,3), metres, model space."""
        ...


class Surface(NamedTuple):
    """Topology: faces (F,3) and the UV coordinates (F,3,2) of their corners."""

    faces: Tensor
    corner_uv: Tensor


class Rendered(NamedTuple):
    """Pictures (B,C,H,W), 0 where the mesh is not.

    Attributes:
        image: albedo times shading.
        albedo: of the texture.
        shading: of the light.
        alpha: 1 where the mesh is.
        fragments: the covered pixels.
        face: (B,H,W) index, -1 elsewhere.
    """

    image: Tensor
    albedo: Tensor
    shading: Tensor
    alpha: Tensor
    fragments: Fragments
    face: Tensor


def project(points: Tensor, camera: Tensor) -> Tensor:
    """Return scale (x + t_x, y + t_y, z) of points (B,N,3), y and z negated: NDC, y down."""
    moved = points + torch.cat([camera[:, 1:], torch.zeros_like(camera[:, :1])], 1)[:, None]
    result: Tensor = camera[:, :1, None] * moved * points.new_tensor([1.0, -1.0, -1.0])
    return result


def unit_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Return vertex normals (B,V,3); shorter than a square millimetre they stay below unit."""
    normals = face_normals(vertices, faces, unit=False)
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums = sums.index_add(1, faces[:, corner], normals)
    result: Tensor = sums / sums.norm(dim=-1, keepdim=True).clamp(min=_SHORTEST)
    return result


@fp32_region()
def render(
    vertices: Tensor,
    ndc: Tensor,
    surface: Surface,
    texture: Tensor,
    light: Tensor,
    size: int,
) -> Rendered:
    """Show textured heads under light.

    Args:
        vertices: (B,V,3) model space.
        ndc: (B,V,3) `project`.
        surface: topology.
        texture: (B,3,S,S) texel-centred, sRGB.
        light: (B,9,3) on sRGB values (`light.shading`).
        size: side of the pictures, pixels.
    """
    points = _to_pixels(ndc, size)
    face = rasterize(points, surface.faces, (size, size))
    face = _strictly_inside(_to_pixels(ndc.double(), size), surface.faces, face)
    fragments = _shrunk(fragments_of(points, surface.faces, face), points, size)
    seen = face.flatten()[fragments.pixel]
    uv = 0.5 + (fragments.weights[..., None] * (surface.corner_uv[seen] - 0.5)).sum(1)
    photo = torch.div(fragments.pixel, size * size, rounding_mode="floor")
    albedo = _read(texture, uv, photo)
    with torch.no_grad():
        normals = fragments.interpolate(unit_normals(vertices, surface.faces))
    lit = (shading(normals[:, None], light[photo]))[:, 0]
    alpha = torch.ones_like(albedo[:, :1])
    show = fragments.to_image
    return Rendered(show(albedo * lit), show(albedo), show(lit), show(alpha), fragments, face)


class Trace(NamedTuple):
    """A fit: values by name, and weighted terms and `total` (B,steps) by name."""

    values: dict[str, Tensor]
    terms: dict[str, Tensor]


@torch.enable_grad()
@fp32_region()
def reference_fit(
    shape: PosedShape,
    surface: Surface,
    textures: Callable[[Tensor], Tensor],
    sizes: tuple[int, int, int],
    image: Tensor,
    mask: Tensor,
    landmarks: Tensor,
    rigid_steps: int = 200,
    steps: int = 800,
) -> Trace:
    """Fit as the released code does.

    Args:
        shape: model.
        surface: its topology.
        textures: code (B,K) to textures (B,3,S,S).
        sizes: numbers of identity, expression and texture coefficients.
        image: (B,3,S,S) sRGB in [0,1].
        mask: (B,1,S,S).
        landmarks: (B,68,2) NDC.
        rigid_steps: on pose and camera, with landmarks 17 to 67.
        steps: on everything.

    Returns:
        `identity`, `expression`, `texture`, `pose` (B,6), `camera` (B,3), `light` (B,9,3).
    """
    zeros, count = image.new_zeros, len(image)
    names = ("identity", "expression", "texture")
    values = {name: zeros(count, size) for name, size in zip(names, sizes, strict=True)}
    values |= {"pose": zeros(count, 6), "camera": zeros(count, 3), "light": zeros(count, 9, 3)}
    values["camera"][:, 0] = START_SCALE

    def terms(with_photo: bool) -> dict[str, Tensor]:
        vertices, points = shape(values["identity"], values["expression"], values["pose"])
        start = 0 if with_photo else 17
        found = project(points[:, start:], values["camera"])
        result = {"landmark": landmark_term(found, landmarks[:, start:])}
        if with_photo:
            for name in ("identity", "expression", "pose"):
                result[name] = half_squares(values[name])
            ndc = project(vertices, values["camera"])
            texture = textures(values["texture"])
            picture = render(vertices, ndc, surface, texture, values["light"], image.shape[-1])
            result["photometric"] = reference_photometric(picture.image, image, mask)
        return {name: WEIGHTS[name] * value for name, value in result.items()}

    rows = _descend([values[name] for name in _RIGID], lambda: terms(False), rigid_steps)
    rows += _descend(list(values.values()), lambda: terms(True), steps)
    zero = zeros(count)
    stacked = {
        name: torch.stack([row.get(name, zero) for row in rows], 1) for name in (*WEIGHTS, "total")
    }
    return Trace({name: value.detach() for name, value in values.items()}, stacked)


def _descend(
    free: list[Tensor], terms: Callable[[], dict[str, Tensor]], steps: int
) -> list[dict[str, Tensor]]:
    optimizer = torch.optim.Adam(
        [value.requires_grad_() for value in free], lr=RATE, weight_decay=DECAY
    )
    rows = []
    for _ in range(steps):
        row = terms()
        total = torch.stack(list(row.values())).sum(0)
        optimizer.zero_grad()
        total.sum().backward()
        optimizer.step()
        rows.append({name: value.detach() for name, value in (row | {"total": total}).items()})
    return rows


def _to_pixels(ndc: Tensor, size: int) -> Tensor:
    return torch.cat([((ndc[..., :2] + 1) * size - 1) / 2, ndc[..., 2:]], -1)


@torch.no_grad()
def _strictly_inside(points: Tensor, faces: Tensor, face: Tensor) -> Tensor:
    """Empty the pixels whose centre lies on an edge, as the reference's rasteriser does."""
    fragments = fragments_of(points, faces, face)
    on_edge = fragments.pixel[(fragments.weights <= 0).any(1)]
    return face.flatten().index_fill(0, on_edge, -1).view_as(face)


def _shrunk(fragments: Fragments, points: Tensor, size: int) -> Fragments:
    """Add the reference's 1e-8 to the doubled area: weights of small faces sum to less than 1."""
    a, b, c = points[..., :2].flatten(0, 1)[fragments.vertex].unbind(1)
    first, second = b - a, c - a
    doubled = first[:, 1] * second[:, 0] - first[:, 0] * second[:, 1]
    share = doubled / (doubled + _AREA * (size / 2) ** 2)
    return replace(fragments, weights=fragments.weights * share[:, None])


def _read(texture: Tensor, uv: Tensor, photo: Tensor) -> Tensor:
    """Return (N,3) of textures (B,3,S,S) at (N,2) of their photos (N,)."""
    values = texture.new_zeros(len(uv), 3)
    for row in range(len(texture)):
        of_row = (photo == row).nonzero()[:, 0]
        read = sample_texture(texture[row : row + 1], uv[of_row][None])[0].T
        values = values.index_copy(0, of_row, read)
    return values
