"""Texture of a surface from its photos, and the relief that a trained network sees in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_face.data.facescape_dataset import FaceScapeViews, collate_views
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.cost_volumes import displaced
from lit_face.geometry.detailed_mesh import DetailedMesh, detailed_mesh
from lit_face.geometry.surface_maps import SurfaceMaps, enlarged_maps
from lit_face.rendering.texture_blending import blend_texture
from lit_face.types import FaceBatch, required

Array = NDArray[np.float32]


def surface_maps(batch: FaceBatch, displacement: Tensor, size: int) -> SurfaceMaps:
    """Return the maps of the first sample's displaced base mesh at another side, mm.

    Args:
        batch: with `uv_maps`.
        displacement: (S,S) mm along the normals.
        size: side of the maps, texels.
    """
    maps = required(batch.uv_maps, "uv_maps", "the texture of a surface")
    return enlarged_maps(_moved(maps, displacement), maps["normal"][0], maps["mask"][0, 0], size)


def surface_texture(batch: FaceBatch, surface: SurfaceMaps) -> Tensor:
    """Blend the photos of a batch's first sample: (3,T,T) in [0,1]."""
    maps = required(batch.uv_maps, "uv_maps", "the texture of a surface")
    camera = required(batch.camera, "camera", "the texture of a surface")
    if not isinstance(camera, PerspectiveCamera):
        raise ValueError("The texture of a surface needs perspective cameras.")
    one = PerspectiveCamera(camera.intrinsics[0], camera.rotation[0], camera.translation[0])
    return blend_texture(surface, batch.image[0], one, maps["visibility"][0]).color


def surface_mesh(
    batch: FaceBatch, displacement: Tensor, relief: Tensor | None = None, levels: int = 0
) -> DetailedMesh:
    """Make the mesh of the first sample's displaced base mesh, world frame, mm.

    Args:
        batch: with `uv_maps`.
        displacement: (S,S) mm along the normals.
        relief: (T,T) mm of finer relief on top.
        levels: how often triangles are split for that.
    """
    maps = required(batch.uv_maps, "uv_maps", "the mesh of a surface")
    moved, outward, mask = (
        value.cpu() for value in (_moved(maps, displacement), maps["normal"][0], maps["mask"][0, 0])
    )
    fine = None if relief is None else relief.cpu()
    return detailed_mesh(moved.movedim(0, -1), mask, fine, levels, outward.movedim(0, -1))


def _moved(maps: Mapping[str, Tensor], displacement: Tensor) -> Tensor:
    """Return the position map (3,S,S) of the first sample's displaced base mesh, mm."""
    position, normal, mask = (maps[name][:1] for name in ("position", "normal", "mask"))
    return displaced(position, normal, displacement.to(position)[None, None], mask)[0]


def full_batch(views: FaceScapeViews, sample: str) -> FaceBatch:
    """Read one sample as a batch, its photos in [0,1]."""
    batch = collate_views([views[views.sample_ids.index(sample)]])
    batch.image = batch.image.float() / 255
    return batch


class Relief(NamedTuple):
    """What a photo's texture adds to a surface.

    Attributes:
        texture: (3,T,T) in [0,1].
        displacement: (T,T) mm.
        mesh: with that relief.
    """

    texture: Tensor
    displacement: Tensor
    mesh: DetailedMesh


class ReliefMeshes:
    """Adds relief to the surfaces of a benchmark.

    Args:
        predictor: textures (B,3,T,T) to displacement (B,1,T,T), mm.
        views: the samples with photos as sharp as they are.
        texture_size: T.
        levels: how often triangles are split.
    """

    def __init__(
        self, predictor: nn.Module, views: FaceScapeViews, texture_size: int, levels: int = 2
    ) -> None:
        self.predictor, self.views = predictor, views
        self.texture_size, self.levels = texture_size, levels

    @torch.no_grad()
    def relief(self, sample: str, displacement: Tensor) -> Relief:
        """Return the relief of a sample on a surface (S,S), mm along the base mesh's normals."""
        batch = full_batch(self.views, sample)
        surface = surface_maps(batch, displacement.cpu(), self.texture_size)
        texture = surface_texture(batch, surface)
        device = next(self.predictor.parameters()).device
        found = self.predictor(texture[None].to(device))[0, 0].cpu()
        mesh = surface_mesh(batch, displacement, found, self.levels)
        return Relief(texture, found, mesh)

    def detailed_mesh(
        self, batch: FaceBatch, displacement: Tensor
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Return vertices (V,3) mm and faces (F,3) of each sample, world frame of its cameras."""
        found = []
        for sample, height in zip(batch.sample_id, displacement[:, 0], strict=True):
            mesh = self.relief(sample, height).mesh
            found.append((mesh.vertices.numpy(), mesh.faces.numpy()))
        return found
