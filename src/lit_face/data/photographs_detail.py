"""Shading of a procedural photograph's samples: what is finer than a vertex, and gloss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs_light import Lights
from lit_face.data.photographs_samples import Samples
from lit_face.data.photographs_scene import CLOTH, HAIR, Scene
from lit_face.data.photographs_texture import CLOUD, GRAIN, STRAND, map_at, noise_at
from lit_face.data.random import uniform
from lit_face.morphable_models.base import MorphableModel

_OFFSET = 530
_RELIEF_PER_MM = 2.4  # texels of a 512 displacement map per mm, about
_IRIS_RADIUS, _PUPIL_RADIUS = 5.9, 2.3
_LAMPS = (0, 2)  # key and rim give highlights


def shade(
    model: MorphableModel,
    scene: Scene,
    lights: Lights,
    axes: Tensor,
    samples: Samples,
    keys: Tensor,
) -> Tensor:
    """Return linear rgb and skin share (N,4) of the samples.

    Args:
        model: for its fine displacement, where it has one.
        scene: the mesh.
        lights: camera frame.
        axes: (B,3,3) orthogonal, head space to the camera frame.
        samples: points of the mesh.
        keys: (B,).
    """
    count = len(keys)
    fixed = torch.cat([scene.texture, scene.material, scene.iris], dim=1)
    gloss = scene.gloss * (1.4 * scene.shading.mean(-1, keepdim=True)).clamp(0, 1)
    moving = [scene.albedo * scene.shading, scene.skin, scene.normals @ axes.mT, gloss]
    attributes = torch.cat([*moving, fixed.expand(count, -1, -1)], dim=2)
    values = samples.fragments.interpolate(attributes)
    color, skin, normal, gloss = values[:, :3], values[:, 3:4], values[:, 4:7], values[:, 7:8]
    texture, material, iris = values[:, 8:10], values[:, 10], values[:, 11:]
    image = samples.image
    offset = uniform(keys, _OFFSET, 2, high=256.0)
    normal = functional.normalize(normal, dim=-1)
    bumpy, factor = _skin_detail(model, normal, axes, texture, material, lights, image, offset)
    is_hair = ((material - HAIR).abs() < 0.5).nonzero()[:, 0]
    factor = factor.index_copy(0, is_hair, _strands(texture[is_hair], offset[image[is_hair]]))
    is_cloth = ((material - CLOTH).abs() < 0.5).nonzero()[:, 0]
    woven = _weave(scene, texture[is_cloth], offset, image[is_cloth])
    factor = factor.index_copy(0, is_cloth, woven)
    is_eye = (iris.square().sum(-1) < 400).nonzero()[:, 0]
    result = color * factor
    light = scene.shading.detach()
    white = (
        samples.fragments.weights[is_eye, :, None]
        * light.flatten(0, 1)[samples.fragments.vertex[is_eye]]
    )
    eyes = _iris(scene, iris[is_eye], color[is_eye], white.sum(1), image[is_eye])
    result = result.index_copy(0, is_eye, eyes)
    shine = _shine(lights, bumpy, image, is_hair, is_eye) * gloss
    return torch.cat([result + shine, skin], dim=1)


def _skin_detail(
    model: MorphableModel, normal: Tensor, axes: Tensor, texture: Tensor, material: Tensor,
    lights: Lights, image: Tensor, offset: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Normals with the fine displacement (N,3), and the factor (N,1) it and mottling make."""
    u, v = texture.unbind(1)
    x, y = offset[image].unbind(1)
    factor = 1 + 0.018 * noise_at(GRAIN, u * 260 + x, v * 260 + y)
    factor = factor + 0.014 * noise_at(CLOUD, u * 420 + x, v * 420 + y)
    relief = model.texture_detail.get("displacement")
    if relief is None:
        return normal, factor[:, None]
    step = 1.0 / (relief.shape[-1] - 1)
    slope = torch.cat(
        [
            map_at(relief, u + step, v) - map_at(relief, u, v),
            map_at(relief, u, v + step) - map_at(relief, u, v),
        ],
        dim=1,
    )
    slope = slope * (_RELIEF_PER_MM * relief.shape[-1] / 512) * (material < 0.5)[:, None]
    bumpy = normal - slope[:, :1] * axes[image, :, 0] - slope[:, 1:] * axes[image, :, 1]
    bumpy = functional.normalize(bumpy, dim=-1)
    tilt = ((bumpy - normal) * lights.direction[image, 0]).sum(-1)
    return bumpy, (factor * (1 + 0.9 * tilt).clamp(0.5, 1.5))[:, None]


def _strands(texture: Tensor, offset: Tensor) -> Tensor:
    """Factor (N,1) of hair: fine strands and locks along the level lines' normals."""
    u, v = texture.unbind(1)
    x, y = offset.unbind(1)
    factor = 1 + 0.26 * noise_at(STRAND, u * 1.9 + x, v * 1.1 + y)
    factor = factor + 0.10 * noise_at(CLOUD, u * 1.3 + y, v * 1.3 + x)
    return factor.clamp(0.2, 2.5)[:, None]


def _weave(scene: Scene, texture: Tensor, offset: Tensor, image: Tensor) -> Tensor:
    """Factor (N,1) of cloth: yarn, and stripes across or down for some."""
    u, v = texture.unbind(1)
    x, y = offset[image].unbind(1)
    yarn = 1 + 0.06 * noise_at(GRAIN, u * 1.5 + x, v * 1.5 + y)
    pattern = scene.pattern[image]
    across, down = (v * 0.35 + x).sin(), (u * 0.55 + x).sin()
    stripe = torch.where(pattern == 1, across, torch.where(pattern == 2, down, -1.0)) > 0.2
    ratio = (scene.cloth[:, 1].mean(1) / scene.cloth[:, 0].mean(1).clamp(min=0.01)).clamp(0.3, 3)
    return (yarn * torch.where(stripe, ratio[image], 1.0))[:, None]


def _shine(
    lights: Lights, normal: Tensor, image: Tensor, is_hair: Tensor, is_eye: Tensor
) -> Tensor:
    """Blinn-Phong highlights (N,3) of the key and rim lights; hair has a band across its strands.

    Source: Blinn (1977), "Models of light reflection"; Kajiya & Kay (1989) for hair.
    """
    total = torch.zeros_like(normal)
    viewer = normal.new_tensor([0.0, 0.0, -1.0])
    down = normal.new_tensor([0.0, 1.0, 0.0])
    hair_normal = normal[is_hair]
    strand = functional.normalize(down - hair_normal[:, 1:2] * hair_normal, dim=-1)
    for lamp in _LAMPS:
        half = functional.normalize(lights.direction[:, lamp] + viewer, dim=-1)[image]
        facing = (normal * lights.direction[image, lamp]).sum(-1).mul_(4).clamp_(0, 1)
        aligned = (normal * half).sum(-1).clamp_(0, 1)
        wide = aligned.square().square().square() * aligned.square().square()  # power 12
        lobe = 0.09 * wide + 0.20 * wide.square().square() * aligned.square()  # and 50
        along = (strand * half[is_hair]).sum(-1)
        band = (1 - along * along).clamp(min=0) ** 24 * (0.3 + 0.7 * aligned[is_hair])
        lobe = lobe.index_copy(0, is_hair, 0.12 * band)
        lobe = lobe.index_copy(0, is_eye, 6.0 * aligned[is_eye] ** 260)
        total += (lobe * facing)[:, None] * lights.color[image, lamp]
    return total


def _iris(scene: Scene, iris: Tensor, base: Tensor, shading: Tensor, image: Tensor) -> Tensor:
    """Sharp irises (N,3): pupil, radial fibres, dark rim, the shadow of the lid; white outside."""
    radius = iris.norm(dim=-1)
    angle = torch.atan2(iris[:, 1], iris[:, 0])
    fibre = 1 + 0.16 * noise_at(GRAIN, angle * (180 / math.pi) * 0.5 + 90, radius * 0.7)
    profile = (1.15 - 0.10 * radius) * fibre
    rim = ((radius - (_IRIS_RADIUS - 1.3)) / 1.3).clamp(0, 1)
    color = scene.iris_color[image] * (profile * (1 - 0.65 * rim))[:, None]
    pupil = ((_PUPIL_RADIUS - radius) / 0.5 + 0.5).clamp(0, 1)[:, None]
    color = color * (1 - pupil) + 0.004 * pupil
    lid = 1 - 0.35 * ((iris[:, 1:] - 1.5) / 4).clamp(0, 1)
    inside = ((_IRIS_RADIUS - radius) / 0.6 + 0.5).clamp(0, 1)[:, None]
    # Vertices smear the iris over its rim; there the white is guessed from the light.
    smeared = ((7.6 - radius) / 1.2).clamp(0, 1)[:, None]
    white = base.new_tensor([0.61, 0.57, 0.54]) * shading
    around = base + smeared * (torch.maximum(white, base) - base)
    return around * (1 - inside) + color * shading * lid * inside
