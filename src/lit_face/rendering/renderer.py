"""Vertices, colours, camera and light to pictures: the interface of every backend, and ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import Kernel, check_mesh, rasterize
from lit_face.rendering.shade import sh_shading

Camera = AffineCamera | PerspectiveCamera

PLAIN_GREY = 0.7  # sRGB, where no colours are given


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a renderer returns; everything but `mask` and `face_index` is differentiable.

    Attributes:
        image: (B,3,H,W) sRGB on black, not clamped: strong light gives values above 1.
        mask: (B,1,H,W) 1 where the mesh is seen, else 0.
        depth: (B,1,H,W) depth of the camera, smaller = nearer; 0 where empty.
        normals: (B,3,H,W) unit, camera frame (x right, y down, z forward); 0 where empty.
        face_index: (B,H,W) int64, -1 where empty.
        image_vertices: (B,V,3) x, y in pixels, depth.
    """

    image: Tensor
    mask: Tensor
    depth: Tensor
    normals: Tensor
    face_index: Tensor
    image_vertices: Tensor


class RasterRenderer(nn.Module):
    """The built-in renderer: compiled loops on the CPU, plain PyTorch on any other device.

    Args:
        kernel: 'numba', 'torch', or None for the fastest on the device (`rasterize`).
        linear_light: light multiplies linear colours (physical), and the picture is encoded to
            sRGB; false multiplies the sRGB values themselves, as many 3DMM-fitting papers do.
    """

    def __init__(self, kernel: Kernel | None = None, linear_light: bool = True) -> None:
        super().__init__()
        self.kernel, self.linear_light = kernel, linear_light

    def find_faces(
        self, image_vertices: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool
    ) -> Tensor:
        """Return the face seen in each pixel, (B,H,W) int64; a backend overrides this alone."""
        return rasterize(image_vertices, faces, size, kernel=self.kernel, perspective=perspective)

    @fp32_region()
    def forward(
        self,
        vertices: Tensor,
        faces: Tensor,
        camera: Camera,
        size: tuple[int, int],
        colors: Tensor | None = None,
        light: Tensor | None = None,
    ) -> Rendering:
        """Render a batch of meshes that share their faces.

        Args:
            vertices: (B,V,3) head space, mm, float32 or float64.
            faces: (F,3) int64, counter-clockwise seen from outside.
            camera: head space to pixels, B cameras; may mirror (negative determinant).
            size: height and width, pixels.
            colors: (B,V,3) albedo (or, without light, the colour itself), sRGB; None is grey.
            light: (B,K,3) spherical harmonics (`sh_shading`); None shows the colours unlit.

        Returns:
            Pictures and buffers. Gradients reach vertices, camera, colours and light inside the
            silhouette; the silhouette itself has none.

        Raises:
            ValueError: shapes or devices that do not fit.
            TypeError: vertices of half precision.
        """
        check_mesh(vertices, faces)
        perspective = isinstance(camera, PerspectiveCamera)
        image_vertices = camera.project(vertices)
        face_index = self.find_faces(image_vertices.detach(), faces, size, perspective)
        fragments = fragments_of(image_vertices, faces, face_index, perspective)

        normals = normals_to_camera(vertex_normals(vertices, faces), camera)
        normals = fragments.to_image(F.normalize(fragments.interpolate(normals), dim=-1))
        if colors is None:
            mask = (face_index >= 0).unsqueeze(1).to(vertices.dtype)
            image = (PLAIN_GREY * mask).expand(-1, 3, -1, -1)
        else:
            image = fragments.to_image(fragments.interpolate(colors))
        if light is not None:
            shading = sh_shading(normals.permute(0, 2, 3, 1), light).permute(0, 3, 1, 2)
            image = apply_shading(image, shading, self.linear_light)
        return Rendering(
            image=image,
            mask=(face_index >= 0).unsqueeze(1).to(vertices.dtype),
            depth=fragments.to_image(fragments.interpolate(image_vertices[..., 2:])),
            normals=normals,
            face_index=face_index,
            image_vertices=image_vertices,
        )


def apply_shading(image: Tensor, shading: Tensor, linear_light: bool) -> Tensor:
    """Multiply sRGB albedo by shading, in linear light or directly; 0 stays 0."""
    if not linear_light:
        return image * shading
    return linear_to_srgb(srgb_to_linear(image) * shading)


@fp32_region()
def normals_to_camera(normals: Tensor, camera: Camera) -> Tensor:
    """Turn head-space normals (B,V,3) into unit normals of the camera frame; outward stays outward.

    For an affine camera the frame is its image space (x and y in pixels, depth).
    """
    if isinstance(camera, PerspectiveCamera):
        return normals @ camera.rotation.mT
    return F.normalize(normals @ torch.linalg.inv(camera.matrix[:, :, :3]), dim=-1)


def build_renderer(name: str = "raster", **options: Any) -> nn.Module:
    """Build a renderer by name.

    Args:
        name: 'raster' (built in) or 'pytorch3d' (needs that package).
        options: arguments of the renderer's class.

    Raises:
        ValueError: unknown name.
        ImportError: the package of the backend is not installed; says how to get it.
    """
    if name == "raster":
        return RasterRenderer(**options)
    if name == "pytorch3d":
        from lit_face.rendering.pytorch3d import PyTorch3DRenderer

        return PyTorch3DRenderer(**options)
    raise ValueError(f"renderer should be 'raster' or 'pytorch3d', found {name!r}.")
