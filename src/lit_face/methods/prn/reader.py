"""From position maps to faces: everything that does not depend on the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from lit_face.geometry.alignment import procrustes
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.meshes import grid_faces
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.types import Reconstruction

NEIGHBOURS = 4  # texels around a landmark
REGIONS = ("eyes", "nose", "mouth", "face")


class PositionMapReader(nn.Module):
    """Reads meshes, landmarks and pose from position maps, without the morphable model.

    Built empty from plain numbers, it is filled by its state_dict; `of_model` fills it from a
    morphable model.

    Args:
        uv_size: side S of the maps, texels.
        texels: T, texels of the face.
        faces: F, triangles between them.
        regions: names of the UV maps of regions, some of 'eyes', 'nose', 'mouth', 'face'.
        unit: of the mean face, 'mm' or 'normalised'.
        persistent: whether the state_dict holds the buffers. A method in training, which has the
            morphable model, leaves them out.

    Attributes:
        texels: (T,) int64 flat indices (row * S + column), ascending.
        texel_uv: (T,2) their UV coordinates.
        faces: (F,3) int64 triangles between the texels.
        mean_face: (T,3) mean face, head space, in `unit`.
        landmark_texels: (68,4) int64 positions in `texels` around each landmark.
        landmark_weights: (68,4) their weights.
    """

    texels: Tensor
    texel_uv: Tensor
    faces: Tensor
    mean_face: Tensor
    landmark_texels: Tensor
    landmark_weights: Tensor

    def __init__(
        self,
        uv_size: int,
        texels: int,
        faces: int,
        regions: Sequence[str] = (),
        unit: str = "mm",
        persistent: bool = True,
    ) -> None:
        super().__init__()
        self.uv_size, self.unit, self.region_names = uv_size, unit, tuple(regions)
        buffers = {
            "texels": torch.zeros(texels, dtype=torch.int64),
            "texel_uv": torch.zeros(texels, 2),
            "faces": torch.zeros(faces, 3, dtype=torch.int64),
            "mean_face": torch.zeros(texels, 3),
            "landmark_texels": torch.zeros(68, NEIGHBOURS, dtype=torch.int64),
            "landmark_weights": torch.zeros(68, NEIGHBOURS),
        }
        for name in self.region_names:
            buffers[f"region_{name}"] = torch.zeros(uv_size, uv_size)
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=persistent)

    @classmethod
    def of_model(
        cls, model: MorphableModel, maps: PositionMaps, persistent: bool = True
    ) -> PositionMapReader:
        """Build the reader of a morphable model's position maps."""
        resampling = uv_resampling(model.uv, model.map_faces, maps.size)
        regions = {
            name: resampling(model.regions[name][:, None].float())[0] * maps.mask
            for name in REGIONS
            if name in model.regions
        }
        landmarks = maps.neighbours(model.uv[model.landmark_index])
        return cls.of_arrays(
            maps.mask, maps.mean_face, landmarks, regions, model.unit, persistent=persistent
        )

    @classmethod
    def of_arrays(
        cls,
        mask: Tensor,
        mean_face: Tensor,
        landmarks: tuple[Tensor, Tensor],
        regions: dict[str, Tensor],
        unit: str,
        *,
        faces: Tensor | None = None,
        persistent: bool = True,
    ) -> Self:
        """Build a reader of a map's layout.

        Args:
            mask: (S,S) bool, the texels of the face.
            mean_face: (T,3) at those texels, head space, in `unit`.
            landmarks: (68,4) positions among those texels, and their weights.
            regions: (S,S) in [0,1] by name.
            unit: 'mm' or 'normalised'.
            faces: (F,3) between those texels; the grid's, unless given.
            persistent: see the class.
        """
        size, texels = len(mask), mask.flatten().nonzero().squeeze(1)
        faces = grid_faces(mask) if faces is None else faces
        reader = cls(size, len(texels), len(faces), tuple(regions), unit, persistent)
        rows = torch.div(texels, size, rounding_mode="floor")
        values = {
            "texels": texels,
            "texel_uv": torch.stack([texels % size, size - 1 - rows], dim=1) / (size - 1),
            "faces": faces,
            "mean_face": mean_face,
            "landmark_texels": landmarks[0],
            "landmark_weights": landmarks[1],
            **{f"region_{name}": value for name, value in regions.items()},
        }
        for name, value in values.items():
            getattr(reader, name).copy_(value)
        return reader

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty reader is built."""
        return {
            "_target_": "lit_face.methods.prn.reader.PositionMapReader",
            "uv_size": self.uv_size,
            "texels": len(self.texels),
            "faces": len(self.faces),
            "regions": list(self.region_names),
            "unit": self.unit,
        }

    @property
    def regions(self) -> dict[str, Tensor]:
        """UV maps (S,S) in [0,1] of eyes, nose, mouth and face, where the model has them."""
        return {name: getattr(self, f"region_{name}") for name in self.region_names}

    @fp32_region()
    def forward(self, maps: Tensor) -> Reconstruction:
        """Read position maps (B,3,S,S) in pixels: x right, y down, z towards the viewer.

        The pose is the similarity between the points and the mean face.
        """
        points = maps.float().flatten(2)[:, :, self.texels].mT
        points = points * points.new_tensor([1.0, 1.0, -1.0])
        pose = procrustes(self.mean_face.expand(len(points), -1, -1), points)
        vertices = (points - pose.translation[:, None]) @ pose.rotation
        return Reconstruction(
            image_vertices=points,
            vertices=vertices / pose.scale[:, None, None],
            faces=self.faces,
            uv=self.texel_uv,
            landmarks=(points[:, self.landmark_texels] * self.landmark_weights[..., None]).sum(2),
            unit=self.unit,
            camera=AffineCamera.orthographic(pose.scale, pose.rotation, pose.translation),
        )
