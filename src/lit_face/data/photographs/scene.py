"""The scene of a procedural photograph: head, hair and clothes as one lit mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_face.data.photographs.clothes import dress
from lit_face.data.photographs.hair import grow_hair, hide_ears
from lit_face.data.photographs.light import BANDS, Lights, irradiance
from lit_face.data.random import normal
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.ict_facekit import ICTFaceKit
from lit_face.morphable_models.procedural import ProceduralHead
from lit_face.rendering.color import srgb_to_linear

_SPECULAR = 520
SKIN, HAIR, CLOTH = range(3)  # materials
_NO_IRIS = 50.0


@dataclass(eq=False)
class Scene:
    """One mesh for a batch, with all that the pictures need at its vertices.

    Attributes:
        vertices: (B,V,3) head space, mm. normals: (B,V,3) unit, head space. faces: (F,3).
        part: (F,) which object a face belongs to.
        albedo, shading: (B,V,3) linear. gloss: (B,V,1) specular albedo.
        skin: (B,V,1) 1 = skin of the head. material: (V,1) SKIN, HAIR or CLOTH.
        density: (B,V,1) 1, less where hair is thin.
        texture: (V,2) coordinates of fine detail: UV on the skin, else degrees and mm.
        iris: (V,2) mm from the middle of an iris.
        iris_color, skin_color, neck_color: (B,3) linear.
        cloth: (B,2,3) two colours of the clothes. pattern: (B,).
        hat: (B,) 1 where the hair is a hat or a scarf.
    """

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    part: Tensor
    albedo: Tensor
    shading: Tensor
    gloss: Tensor
    skin: Tensor
    density: Tensor
    material: Tensor
    texture: Tensor
    iris: Tensor
    iris_color: Tensor
    skin_color: Tensor
    neck_color: Tensor
    pattern: Tensor
    cloth: Tensor
    hat: Tensor


def build_scene(
    model: MorphableModel,
    coefficients: Mapping[str, Tensor],
    keys: Tensor,
    lights: Lights,
    camera_to_head: Tensor,
    hair: bool = True,
    shown: Tensor | None = None,
) -> Scene:
    """Pose nothing, light everything: the mesh stays in head space, the light turns into it.

    Args:
        model: any morphable model; the procedural head and ICT-FaceKit also get hair and clothes.
        coefficients: identity, expression, albedo and perhaps specular, (B,K).
        keys: (B,).
        lights: camera frame.
        camera_to_head: (B,3,3) orthogonal, directions of the camera frame to head space.
        hair: whether to add hair, hats and clothes.
        shown: (V,) what of the head counts as skin; the model's region without it.
    """
    vertices = model(coefficients["identity"], coefficients["expression"])
    albedo = srgb_to_linear(model.albedo(coefficients["albedo"]).clamp(0.01, 1))
    radiance = lights.coefficients(camera_to_head)
    regions = model.regions
    ones = torch.ones_like(model.uv[:, :1])
    normals = vertex_normals(vertices, model.faces)
    scene = Scene(
        vertices=vertices,
        normals=normals,
        faces=model.faces,
        part=torch.zeros_like(model.faces[:, 0]),
        albedo=albedo,
        shading=irradiance(normals, radiance),
        gloss=_gloss(model, coefficients, keys),
        skin=(regions.get("skin", ones[:, 0]) if shown is None else shown)[None, :, None].expand(
            len(keys), -1, -1
        ),
        density=ones.expand(len(keys), -1, -1),
        material=ones * SKIN,
        texture=model.uv,
        iris=ones * _NO_IRIS * ones.new_ones(2),
        iris_color=albedo.mean(1),
        skin_color=_weighted(albedo, regions.get("nose", ones[:, 0])),
        neck_color=_weighted(albedo, _bare_neck(regions, ones[:, 0])),
        pattern=torch.zeros_like(keys),
        cloth=albedo.new_zeros(len(keys), 2, 3),
        hat=albedo.new_zeros(len(keys)),
    )
    if isinstance(model, ProceduralHead | ICTFaceKit):
        scene.shading = scene.shading * _shadow(model, radiance)
        radius = model.iris_offset.norm(dim=1)
        scene.iris = model.iris_offset
        scene.iris_color = _weighted(albedo, ((radius > 2.6) & (radius < 4.6)).float())
        if hair:
            on_grid = _grid_copy(model, vertices, normals, albedo)
            _add_hair(scene, model, on_grid, keys, radiance)
            _add_clothes(scene, on_grid, keys, radiance, isinstance(model, ICTFaceKit))
    return scene


@dataclass(frozen=True, eq=False)
class _GridCopy:
    """The same heads on the procedural head's grid, which carries hair and clothes.

    Attributes:
        head: for the grid. vertices, normals, albedo: (B,G,3) at its vertices.
    """

    head: ProceduralHead
    vertices: Tensor
    normals: Tensor
    albedo: Tensor


def _grid_copy(
    model: ProceduralHead | ICTFaceKit, vertices: Tensor, normals: Tensor, albedo: Tensor
) -> _GridCopy:
    if isinstance(model, ProceduralHead):
        return _GridCopy(model, vertices, normals, albedo)
    joint = model.grid_on_model.carry(torch.cat([vertices, normals, albedo], dim=2))
    return _GridCopy(model.grid, *joint.split(3, dim=2))


def _weighted(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight[:, None]).sum(1) / weight.sum().clamp(min=1e-6)


def _bare_neck(regions: Mapping[str, Tensor], everything: Tensor) -> Tensor:
    """Weights (V,) of the neck where no hair grows; everything if the model names no neck."""
    if "neck" not in regions:
        return everything
    return regions["neck"] * (1 - regions.get("scalp", torch.zeros_like(everything)))


def _gloss(model: MorphableModel, coefficients: Mapping[str, Tensor], keys: Tensor) -> Tensor:
    """Specular albedo (B,V,1): as given, else drawn, else a plain skin's."""
    if model.specular_mean is None or model.specular_basis is None:
        return torch.full((len(keys), len(model.mean), 1), 0.3, device=keys.device)
    basis = model.specular_basis[:, 0]
    values = coefficients.get("specular")
    if values is None:
        values = 0.8 * normal(keys, _SPECULAR, basis.shape[1])
    return (model.specular_mean + (values @ basis[:, : values.shape[1]].mT)[..., None]).clamp(0, 1)


def _shadow(head: ProceduralHead | ICTFaceKit, radiance: Tensor) -> Tensor:
    """Share of the light (B,V,3) that reaches each vertex of the average head."""
    open_sky = sh_basis(vertex_normals(head.mean[None], head.faces)[0], BANDS)
    open_sky = open_sky * (lambert_factors(BANDS) / math.pi).to(open_sky)
    floor = 0.04
    lit = (head.light_transfer @ radiance).clamp(min=0)
    share = (lit + floor) / ((open_sky @ radiance).clamp(min=0) + floor)
    # Light bounces inside the mouth; teeth are not black.
    share = torch.maximum(share, 0.75 * head.regions["mouth_interior"][:, None])
    return share.clamp(0.05, 1.1)


def _add_hair(
    scene: Scene, model: ProceduralHead | ICTFaceKit, on_grid: _GridCopy, keys: Tensor,
    radiance: Tensor,
) -> None:  # fmt: skip
    head = on_grid.head
    shell = grow_hair(head, on_grid.vertices, on_grid.normals, on_grid.albedo, keys)
    if head is model:  # ears lie flat under hair that covers them
        scene.vertices = hide_ears(head, scene.vertices, shell.covers_ears)
    bare = shell.bare[:, None, None] * model.regions["scalp"][:, None]
    azimuth, level = head.material.unbind(1)
    forehead = ((azimuth.abs() < 0.6) & (level > 58) & (level < 80)).float()
    skin = _weighted(on_grid.albedo, forehead)[:, None]
    scene.albedo = scene.albedo + (6 * bare).clamp(max=1) * (skin - scene.albedo)
    scene.skin = torch.maximum(scene.skin, bare)
    scene.hat = shell.is_cloth
    count = shell.vertices.shape[1]
    _append(
        scene, shell.vertices, shell.normals, shell.faces,
        shading=irradiance(shell.normals, radiance) * shell.shade[..., None],
        albedo=shell.color[:, None].expand(-1, count, -1),
        gloss=0.5 * (1 - shell.is_cloth)[:, None, None].expand(-1, count, 1),
        texture=shell.texture, material=HAIR, density=shell.density[..., None],
    )  # fmt: skip


def _add_clothes(
    scene: Scene, on_grid: _GridCopy, keys: Tensor, radiance: Tensor, has_chest: bool
) -> None:
    clothes = dress(on_grid.head, on_grid.vertices, keys)
    scene.pattern, scene.cloth = clothes.pattern, clothes.color
    parts = [(clothes.cloth, clothes.color[:, 0], 0.0, CLOTH)]
    if not has_chest:
        parts.append((clothes.chest, scene.neck_color, 0.22, SKIN))
    for surface, color, gloss, material in parts:
        count = surface.vertices.shape[1]
        # The chin and the neck take light away near the collar.
        occlusion = (0.75 + surface.texture[:, 1:] / -120).clamp(0.75, 1)
        _append(
            scene, surface.vertices, surface.normals, surface.faces,
            shading=irradiance(surface.normals, radiance) * occlusion,
            albedo=color[:, None].expand(-1, count, -1),
            gloss=color.new_full((len(keys), count, 1), gloss),
            texture=surface.texture, material=material,
        )  # fmt: skip


def _append(
    scene: Scene, vertices: Tensor, normals: Tensor, faces: Tensor, shading: Tensor, *,
    albedo: Tensor, gloss: Tensor, texture: Tensor, material: int, density: Tensor | None = None,
) -> None:  # fmt: skip
    """Join a part to the mesh; nothing of it counts as skin."""
    scene.faces = torch.cat([scene.faces, faces + scene.vertices.shape[1]])
    part = scene.part.max() + 1
    scene.part = torch.cat([scene.part, part.expand(len(faces))])
    scene.vertices = torch.cat([scene.vertices, vertices], dim=1)
    scene.normals = torch.cat([scene.normals, normals], dim=1)
    scene.shading = torch.cat([scene.shading, shading], dim=1)
    scene.albedo = torch.cat([scene.albedo, albedo], dim=1)
    scene.gloss = torch.cat([scene.gloss, gloss], dim=1)
    scene.skin = torch.cat([scene.skin, torch.zeros_like(gloss)], dim=1)
    density = torch.ones_like(gloss) if density is None else density
    scene.density = torch.cat([scene.density, density], dim=1)
    scene.texture = torch.cat([scene.texture, texture])
    count = len(texture)
    scene.material = torch.cat([scene.material, scene.material.new_full((count, 1), material)])
    scene.iris = torch.cat([scene.iris, scene.iris.new_full((count, 2), _NO_IRIS)])
