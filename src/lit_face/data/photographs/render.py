"""Procedural "photographs": the morphable model's heads with light, hair, clothes, surroundings.

Every picture depends on its key alone (`lit_face.data.random`), whatever the batch or the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lit_face.data.photographs.background import backgrounds
from lit_face.data.photographs.camera import develop
from lit_face.data.photographs.detail import shade
from lit_face.data.photographs.light import sample_lights
from lit_face.data.photographs.occluders import occluders
from lit_face.data.photographs.samples import sample_surface
from lit_face.data.photographs.scene import build_scene
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.morphable_models.base import MorphableModel


@dataclass(frozen=True, eq=False)
class Photographs:
    """Pictures and what is known about them.

    Attributes:
        image: (B,3,H,W) sRGB in [0,1].
        skin_mask: (B,1,H,W) in [0,1]: share of each pixel that shows skin of the head.
        light: (B,9,3) spherical harmonics of the light, linear, camera frame
            (`lit_face.rendering.shade.sh_shading`).
    """

    image: Tensor
    skin_mask: Tensor
    light: Tensor


@fp32_region()
@torch.no_grad()
def render_photographs(
    model: MorphableModel,
    coefficients: Mapping[str, Tensor],
    camera: AffineCamera,
    keys: Tensor,
    size: tuple[int, int],
    occlusion: float = 0.15,
    hair: bool = True,
    response: float = 1.0,
    shown: Tensor | None = None,
) -> Photographs:
    """Take one picture of each head.

    Args:
        model: morphable model; the procedural head and ICT-FaceKit get hair, clothes and soft
            shadows, any other one is lit and put before a background.
        coefficients: identity, expression, albedo and perhaps specular: (B,K).
        camera: B cameras, head space (mm) to pixels; may mirror.
        keys: (B,) int64: the same key gives the same picture.
        size: height and width, pixels.
        occlusion: share of pictures with a hand, a thing or glasses before the face.
        hair: whether heads get hair, hats and clothes.
        response: strength of the camera's own doings (white balance, blur, noise, vignette).
        shown: (V,) in [0,1], what of the head the mask counts; all skin without it.

    Returns:
        Pictures, skin masks and the light.

    Raises:
        ValueError: as many keys as cameras and faces are needed.
    """
    count = len(keys)
    if len(camera) != count or any(len(value) != count for value in coefficients.values()):
        sizes = {name: len(value) for name, value in coefficients.items()}
        raise ValueError(
            f"render_photographs needs as many keys as cameras and coefficients, found {count} "
            f"keys, {len(camera)} cameras, {sizes}."
        )
    lights = sample_lights(keys)
    axes = functional.normalize(camera.matrix[:, :, :3], dim=2)
    scene = build_scene(model, coefficients, keys, lights, axes.mT, hair, shown)
    image_vertices = camera.project(scene.vertices)
    samples = sample_surface(image_vertices, scene.faces, scene.part, size)
    layers, coverage = samples.resolve(shade(model, scene, lights, axes, samples, keys))
    color, skin = layers[:, :3], layers[:, 3:]
    color = color + (1 - coverage) * backgrounds(keys, size)
    landmarks = model.landmarks(image_vertices)
    hidden, opacity = occluders(keys, landmarks, scene.skin_color, size, occlusion)
    color = color + opacity * (hidden - color)
    return Photographs(
        image=develop(color, keys, response),
        skin_mask=(skin * (1 - opacity)).clamp(0, 1),
        light=lights.coefficients()[:, :9],
    )
