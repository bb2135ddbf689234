"""Read a photo into the texels of a fitted mesh: colours, what is visible, and how well.

The maps are texel-centred (texel i of S lies at (i + 0.5) / S) if the resampling is; see
`extractor_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import UVResampling, centred_resampling
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

_FACING = 0.2  # smallest cosine between normal and view of a visible texel
_STEEPEST = 0.05  # smallest cosine that the allowance for slanted surfaces divides by


@dataclass(eq=False)
class TexelGeometry:
    """Where the texels of a UV map lie in the pictures of a batch.

    Attributes:
        points: (B,T,3) pixels, and depth in pixels, of the covered texels.
        normals: (B,T,3) camera frame, interpolated between vertices and not normalised again, as
            shading takes them.
        visible: (B,1,S,S) bool: seen, facing the camera, inside the mask.
        confidence: (B,1,S,S) cosine between normal and view, 0 where invisible.
    """

    points: Tensor
    normals: Tensor
    visible: Tensor
    confidence: Tensor


@dataclass(eq=False)
class ExtractedTexture:
    """What a photo shows of a UV map.

    Attributes:
        color: (B,3,S,S) values of the photo, 0 where no face is.
        normals: (B,3,S,S) see `TexelGeometry`.
        visible: (B,1,S,S) bool.
        confidence: (B,1,S,S) in [0,1].
    """

    color: Tensor
    normals: Tensor
    visible: Tensor
    confidence: Tensor


class TextureExtractor(nn.Module):
    """Reads photos into UV maps; where texels lie on the mesh is found once.

    Args:
        resampling: texels of the map on the mesh.
        faces: (F,3) int64, the surface that hides.
        depth_tolerance: how far a texel may lie behind the visible surface, share of the
            picture's width (0.01 is about 3 mm where a head fills the picture), beside what a
            slanted surface needs within a pixel.
    """

    faces: Tensor

    def __init__(
        self, resampling: UVResampling, faces: Tensor, depth_tolerance: float = 0.01
    ) -> None:
        super().__init__()
        self.resampling, self.depth_tolerance = resampling, depth_tolerance
        self.register_buffer("faces", faces, persistent=False)

    @fp32_region()
    def forward(
        self, photo: Tensor, image_vertices: Tensor, mask: Tensor | None = None, erosion: int = 2
    ) -> ExtractedTexture:
        """Extract textures; colours are differentiable in the photo and in the vertices.

        Args:
            photo: (B,C,H,W) in any unit, sRGB or linear: values are taken as given.
            image_vertices: (B,V,3) pixels of the photo, depth in the same scale.
            mask: (B,1,H,W), counted from 0.5 on; None for all.
            erosion: texels taken off the border of what is visible.
        """
        size = (photo.shape[-2], photo.shape[-1])
        found = self.locate(image_vertices, size, mask, erosion)
        values = sample_image(photo.to(found.points.dtype), found.points[..., :2])
        to_map = self.resampling.to_map
        return ExtractedTexture(
            to_map(values.mT), to_map(found.normals), found.visible, found.confidence
        )

    @fp32_region()
    def locate(
        self,
        image_vertices: Tensor,
        size: tuple[int, int],
        mask: Tensor | None = None,
        erosion: int = 2,
    ) -> TexelGeometry:
        """Find where texels lie and which are visible; arguments as in `forward`."""
        normals = vertex_normals(image_vertices, self.faces)
        points = self.resampling.apply(image_vertices)
        texel_normals = self.resampling.apply(normals)
        with torch.no_grad():
            unit = F.normalize(texel_normals, dim=-1)
            seen = self._seen(image_vertices, points, unit, size, mask)
            visible = self.resampling.to_map(seen[..., None].to(points.dtype))
            if erosion:
                visible = _eroded(visible, erosion)
            facing = self.resampling.to_map(unit[..., 2:].abs())
        return TexelGeometry(points, texel_normals, visible > 0.5, facing * visible)

    def _seen(
        self,
        image_vertices: Tensor,
        points: Tensor,
        unit: Tensor,
        size: tuple[int, int],
        mask: Tensor | None,
    ) -> Tensor:
        """Return (B,T) bool: front-facing, inside the picture and mask, not behind the surface."""
        height, width = size
        column, row = (points[..., axis] + 0.5 for axis in (0, 1))
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixel = (row.floor() * width + column.floor()).where(inside, torch.zeros_like(row)).long()
        buffer = _depth_buffer(image_vertices, self.faces, size).flatten(1)
        facing = unit[..., 2].abs().clamp(min=_STEEPEST)
        slack = self.depth_tolerance * width + unit[..., :2].norm(dim=-1) / facing
        seen = inside & (unit[..., 2] < -_FACING)
        seen &= points[..., 2] - buffer.gather(1, pixel) <= slack
        if mask is not None:
            seen &= mask.flatten(1).gather(1, pixel) >= 0.5
        return seen


def extractor_of(uv: Tensor, faces: Tensor, map_faces: Tensor, size: int) -> TextureExtractor:
    """Return the extractor of texel-centred maps, as FLAME's texture files have them.

    Args:
        uv: (V,2) in [0,1], u right, v up.
        faces: (F,3) int64, the surface that hides.
        map_faces: (G,3) int64, faces that own texels.
        size: S, texels.
    """
    return TextureExtractor(centred_resampling(uv, map_faces, size), faces)


def divide_shading(color: Tensor, shading: Tensor, smallest: float = 0.1) -> Tensor:
    """Return albedo: colour over shading, both in the light that the shading is meant for."""
    return color / shading.clamp(min=smallest)


def _depth_buffer(image_vertices: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    face_index = rasterize(image_vertices, faces, size)
    fragments = fragments_of(image_vertices, faces, face_index)
    buffer = torch.full(
        face_index.shape, torch.inf, dtype=image_vertices.dtype, device=image_vertices.device
    )
    buffer.view(-1)[fragments.pixel] = fragments.interpolate(image_vertices)[:, 2]
    return buffer


def _eroded(mask: Tensor, texels: int) -> Tensor:
    """Shrink masks (B,1,S,S); what lies outside of the map does not shrink them."""
    return -F.max_pool2d(-mask, 2 * texels + 1, stride=1, padding=texels)
