"""What a face is made of and lit by: albedo maps, light, and pictures that show them apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.inference.outputs.export import Export
from lit_face.inference.scene import FaceScene, over
from lit_face.io.images import write_exr, write_image, write_linear_png
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.scene import is_matte

TURNS_DEG = (-120, -60, 0, 60, 120, 180)  # of the light
YAWS_DEG = (-45, -30, -15, 0, 15, 30, 45)
_LIGHT_AXES = (
    "real orthonormal spherical harmonics with the Condon-Shortley sign, index l*l + l + m; "
    "pole = camera +y (down), azimuth = atan2(x, -z); camera x right, y down, z forward; linear RGB"
)


def write_maps(export: Export, folder: Path) -> None:
    """Write diffuse.png (sRGB, 8 bits), specular.png and roughness.png (linear, 16 bits).

    Of a matte face only diffuse.png.
    Corner-aligned UV maps: the first and last texel's centres are at u, v = 0 and 1.
    """
    material = export.scene.material
    write_image(folder / "diffuse.png", _bytes(linear_to_srgb(material.diffuse)))
    if is_matte(export.face.reconstruction):
        return
    side = material.diffuse.shape[-1]
    specular = material.specular.expand(-1, 3, -1, -1)
    write_linear_png(folder / "specular.png", _rows(specular))
    roughness = material.roughness.expand(-1, 1, side, side)
    write_linear_png(folder / "roughness.png", _rows(roughness)[..., 0])


def write_light(export: Export, folder: Path) -> None:
    """Write light.exr and light.png (latitude-longitude), and light.npz.

    The pictures are what the camera would see all around (`FaceScene.light_map`); light.npz has
    `coefficients` (K,3) and says what they are.
    """
    scene = export.scene
    environment = scene.light_map().numpy()
    write_exr(folder / "light.exr", environment)
    encoded = linear_to_srgb(torch.from_numpy(environment)).clamp(0, 1).numpy()
    write_image(folder / "light.png", np.rint(encoded * 255).astype(np.uint8))
    np.savez_compressed(
        folder / "light.npz",
        coefficients=scene.light[0].numpy(),
        convention=np.array(_LIGHT_AXES),
    )


def write_strip(export: Export, folder: Path) -> None:
    """Write strip.jpg: input, overlay, render, geometry, diffuse, specular, light."""
    write_image(folder / "strip.jpg", draw_strip(export.scene))


def draw_strip(scene: FaceScene) -> NDArray[np.uint8]:
    """Return the pictures of a strip side by side, (S,7 S,3)."""
    photo, render = scene.photo, scene.render()
    black = torch.zeros_like(photo)
    side = photo.shape[-1]
    panels = [photo, over(render, photo)]
    panels += [over(p, black) for p in (render, scene.geometry(), scene.albedo(), scene.specular())]
    pixels = [_bytes(panel) for panel in panels]
    light = linear_to_srgb(scene.light_map()).clamp(0, 1).numpy()
    height = side // 2
    small = cv2.resize(np.rint(light * 255).astype(np.uint8), (side, height))
    framed = np.full((side, side, 3), 24, np.uint8)
    framed[(side - height) // 2 :][:height] = small
    return np.concatenate([*pixels, framed], axis=1)


def write_relit(export: Export, folder: Path) -> None:
    """Write relit.jpg: the face with its light turned around it, 60 degrees a picture."""
    scene = export.scene
    pictures = [_bytes(over(scene.relit(turn), scene.photo)) for turn in TURNS_DEG]
    write_image(folder / "relit.jpg", np.concatenate(pictures, axis=1))


def write_reposed(export: Export, folder: Path) -> None:
    """Write reposed.jpg: the face turned from one side to the other, lit and as geometry."""
    scene = export.scene
    cameras = [scene.reposed_camera(yaw) for yaw in YAWS_DEG]
    black = torch.zeros_like(scene.photo)
    rows = [
        np.concatenate([_bytes(over(show(camera), black)) for camera in cameras], axis=1)
        for show in (lambda camera: scene.render(camera=camera), scene.geometry)
    ]
    write_image(folder / "reposed.jpg", np.concatenate(rows, axis=0))


def _rows(maps: Tensor) -> NDArray[np.float32]:
    """Turn (1,C,H,W) into (H,W,C) in [0,1]."""
    return np.asarray(maps[0].permute(1, 2, 0).clamp(0, 1).numpy(), np.float32)


def _bytes(maps: Tensor) -> NDArray[np.uint8]:
    return np.rint(_rows(maps) * 255).astype(np.uint8)
