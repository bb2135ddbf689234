"""Shading of a procedural photograph's samples: what is finer than a vertex, and gloss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs.light import Lights
from lit_face.data.photographs.samples import Samples
from lit_face.data.photographs.scene import CLOTH, HAIR, Scene
from lit_face.data.photographs.texture import CLOUD, GRAIN, MOTTLE, STRAND, map_at, noise_at
from lit_face.data.random import uniform
from lit_face.morphable_models.base import MorphableModel

_OFFSET = 530
_RELIEF_PER_MM = 2.4  # texels of a 512 displacement map per mm, about
_IRIS_RADIUS, _PUPIL_RADIUS = 5.9, 2.3


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
    fixed = torch.cat([scene.texture, scene.material, scene.iris], dim=1)
    gloss = scene.gloss * (1.4 * scene.shading.mean(-1, keepdim=True)).clamp(0, 1)
    moving = [scene.albedo * scene.shading, scene.skin, scene.normals @ axes.mT, gloss]
    attributes = torch.cat([*moving, scene.density, fixed.expand(len(keys), -1, -1)], dim=2)
    values = samples.interpolate(attributes)
    color, skin = values[:, :3], values[:, 3:4]
    normal = functional.normalize(values[:, 4:7], dim=-1)
    gloss, density, texture = values[:, 7:8], values[:, 8], values[:, 9:11]
    material, iris = values[:, 11], values[:, 12:]
    image, offset = samples.image, uniform(keys, _OFFSET, 2, high=256.0)
    factor = torch.ones_like(gloss)
    is_skin = (material < 0.5).nonzero()[:, 0]
    bumpy, mottled = _skin_detail(
        model, normal[is_skin], axes, texture[is_skin], lights, image[is_skin], offset
    )
    normal = normal.index_copy(0, is_skin, bumpy)
    is_hair = ((material - HAIR).abs() < 0.5).nonzero()[:, 0]
    is_cloth = ((material - CLOTH).abs() < 0.5).nonzero()[:, 0]
    is_eye = (iris.square().sum(-1) < 400).nonzero()[:, 0]
    factor[is_skin] = mottled
    factor[is_hair] = _strands(scene, texture[is_hair], offset, image[is_hair])
    factor[is_cloth] = _weave(scene, texture[is_cloth], offset, image[is_cloth])
    result = color * factor
    result, skin = _thin_hair(scene, samples, density, result, skin, factor, is_hair)
    light = samples.interpolate(scene.shading, is_eye)
    result[is_eye] = _iris(scene, iris[is_eye], color[is_eye], light, image[is_eye])
    shine = _shine(lights, normal, image, is_hair, is_eye) * gloss
    return torch.cat([result + shine, skin], dim=1)


def _skin_detail(
    model: MorphableModel, normal: Tensor, axes: Tensor, texture: Tensor, lights: Lights,
    image: Tensor, offset: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Normals with the fine displacement (N,3), and the factor (N,1) it and mottling make."""
    u, v = texture.unbind(1)
    x, y = offset[image].unbind(1)
    factor = 1 + 0.015 * noise_at(MOTTLE, u * 260 + x, v * 260 + y)
    relief = model.texture_detail.get("displacement")
    if relief is None:
        return normal, factor[:, None]
    relief = relief[0] * (_RELIEF_PER_MM * relief.shape[-1] / 512)
    # Slope to the subject's left and up; rows of the map run down.
    slopes = torch.stack([relief.roll(-1, 1) - relief, relief.roll(1, 0) - relief], dim=-1)
    slope = map_at(slopes, u, v)
    bumpy = normal - slope[:, :1] * axes[image, :, 0] - slope[:, 1:] * axes[image, :, 1]
    bumpy = functional.normalize(bumpy, dim=-1)
    tilt = ((bumpy - normal) * lights.direction[image, 0]).sum(-1)
    return bumpy, (factor * (1 + 0.6 * tilt).clamp(0.5, 1.5))[:, None]


def _strands(scene: Scene, texture: Tensor, offset: Tensor, image: Tensor) -> Tensor:
    """Factor (N,1) of hair: fine strands and locks from the crown down; knitting on hats."""
    u, v = texture.unbind(1)
    x, y = offset[image].unbind(1)
    factor = 1 + 0.26 * noise_at(STRAND, u * 1.9 + x, v * 1.1 + y)
    factor = factor + 0.10 * noise_at(CLOUD, u * 1.3 + y, v * 1.3 + x)
    knit = 1 + 0.10 * (v * 1.6).sin() + 0.05 * noise_at(GRAIN, u * 1.5 + x, v * 1.5 + y)
    factor = torch.where(scene.hat[image] > 0, knit, factor)
    return factor.clamp(0.2, 2.5)[:, None]


def _thin_hair(
    scene: Scene, samples: Samples, density: Tensor, color: Tensor, skin: Tensor, factor: Tensor,
    is_hair: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Let the skin show between the strands where hair begins (N,3), (N,1)."""
    thin = is_hair[density[is_hair] < 1]
    share = (1.9 * density[thin] - 0.9 * (factor[thin, 0] - 0.45)).clamp(0, 1)[:, None]
    light = samples.interpolate(scene.shading, thin)
    below = 0.85 * scene.skin_color[samples.image[thin]] * light
    color = color.index_copy(0, thin, torch.lerp(below, color[thin], share))
    return color, skin.index_copy(0, thin, 1 - share)


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
    """Blinn-Phong highlights (N,3) of the key light; hair has a band across its strands.

    Source: Blinn (1977), "Models of light reflection"; Kajiya & Kay (1989) for hair.
    """
    direction, color = lights.direction[:, 0], lights.color[:, 0]
    half = functional.normalize(direction + direction.new_tensor([0.0, 0.0, -1.0]), dim=-1)
    lamp = torch.cat([half, direction, color], dim=1).index_select(0, image)
    half, direction, color = lamp[:, :3], lamp[:, 3:6], lamp[:, 6:]
    aligned = (normal * half).sum(-1).clamp_(0, 1)
    fourth = aligned.square().square()
    wide = fourth * fourth.square()  # power 12
    lobe = 0.045 * wide + 0.16 * wide.square().square() * aligned.square()  # and 50
    strand = -normal[is_hair, 1:2] * normal[is_hair]
    strand[:, 1] += 1
    along = (functional.normalize(strand, dim=-1) * half[is_hair]).sum(-1)
    band = (1 - along * along).clamp(min=0) ** 40 * (0.3 + 0.7 * aligned[is_hair])
    lobe[is_hair] = 0.08 * band
    lobe[is_eye] = 6.0 * aligned[is_eye] ** 260
    facing = (normal * direction).sum(-1).mul_(4).clamp_(0, 1)
    return (lobe * facing)[:, None] * color


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
    white = base.new_tensor([0.52, 0.48, 0.45]) * shading
    around = base + smeared * (torch.maximum(white, base) - base)
    return torch.lerp(around, color * shading * lid, inside)
