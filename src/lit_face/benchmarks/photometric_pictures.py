"""Strips of a reconstruction: photo, picture, geometry, albedo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lit_face.benchmarks.photometric_render import finite_rows, render, rows_of
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.drawing import mesh_overlay, to_pixels
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import can_be_rendered, material_of
from lit_face.types import FaceBatch, Reconstruction

CAPTION = "photo, render, geometry, diffuse albedo, specular albedo x 5"
_PANELS = 5
_SPECULAR_GAIN = 5.0


@torch.no_grad()
def strips(
    renderer: RasterMaterialRenderer, face: Reconstruction, batch: FaceBatch
) -> list[np.ndarray]:
    """Return one strip (H, 5 W, 3) uint8 a picture; what a method does not estimate is black."""
    photos = to_pixels(batch.image)
    height, width = photos.shape[1:3]
    sheet = np.zeros((len(batch), height, _PANELS, width, 3), np.uint8)
    sheet[:, :, 0] = photos
    rows = finite_rows(face)
    if bool(rows.any()):
        kept = rows.cpu().numpy()
        for column, panel in enumerate(_panels(renderer, rows_of(face, rows), batch.image[rows])):
            sheet[kept, :, column + 1] = to_pixels(panel)
    return [strip.reshape(height, _PANELS * width, 3) for strip in sheet]


def _panels(renderer: RasterMaterialRenderer, face: Reconstruction, photo: Tensor) -> list[Tensor]:
    geometry = mesh_overlay(torch.zeros_like(photo), face.image_vertices, face.faces, 1.0)
    if not can_be_rendered(face) or not isinstance(face.light, Tensor):
        return [torch.zeros_like(photo), geometry]
    size = (photo.shape[-2], photo.shape[-1])
    picture = render(renderer, face, size)
    over = picture.mask * picture.image.clamp(0, 1)
    textures = dict(face.textures or {})
    gloss = material_of(face).specular * _SPECULAR_GAIN
    plain = renderer_of_albedo()
    maps = [textures["diffuse"], gloss.expand(-1, 3, -1, -1)]
    white = torch.zeros_like(face.light)
    white[:, 0] = float(np.sqrt(4 * np.pi))
    shown = [
        render(
            plain,
            replace(face, light=white, textures=textures | {"diffuse": albedo}, transfer=None),
            size,
        )
        for albedo in maps
    ]
    panels = [over, *(part.image.clamp(0, 1) for part in shown)]
    first, diffuse, specular = (linear_to_srgb(panel) for panel in panels)
    behind = photo * (1 - picture.mask)
    return [first * picture.mask + behind, geometry, diffuse, specular]


def renderer_of_albedo() -> RasterMaterialRenderer:
    """Return a renderer that shows albedo under white light of radiance 1."""
    return RasterMaterialRenderer(specular="none")
