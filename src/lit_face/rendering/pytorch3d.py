"""The same pictures with PyTorch3D's rasteriser (optional)."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from lit_face.rendering.renderer import RasterRenderer

HOW_TO_INSTALL = (
    "renderer 'pytorch3d' needs the package pytorch3d, which has no ready-made wheels: build it "
    'with  pip install --no-build-isolation "git+https://github.com/facebookresearch/pytorch3d.git"'
    "  (a compiler is needed, and nvcc for CUDA), or use renderer 'raster'."
)


class PyTorch3DRenderer(RasterRenderer):
    """`RasterRenderer` whose visibility comes from PyTorch3D; the rest is shared.

    Triangles that reach behind a perspective camera are left out, as in the built-in renderer.

    Args:
        bin_size: PyTorch3D's tile size on CUDA; None lets it choose, 0 is its exact slow path.
        linear_light: see `RasterRenderer`.

    Raises:
        ImportError: PyTorch3D is not installed; says how to get it.
    """

    def __init__(self, bin_size: int | None = None, linear_light: bool = True) -> None:
        if importlib.util.find_spec("pytorch3d") is None:
            raise ImportError(HOW_TO_INSTALL)
        super().__init__(kernel=None, linear_light=linear_light)
        self.bin_size = bin_size

    def find_faces(
        self, image_vertices: Tensor, faces: Tensor, size: tuple[int, int], perspective: bool
    ) -> Tensor:
        """Return the face seen in each pixel, (B,H,W) int64, -1 where empty."""
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.structures import Meshes

        batch = image_vertices.shape[0]
        points = to_pytorch3d_ndc(image_vertices.float(), size)
        if not perspective:  # it culls by sign of depth; only the order matters here
            depth = points[..., 2:]
            nearest = depth.amin(dim=1, keepdim=True)
            points = torch.cat([points[..., :2], depth - nearest + 1], dim=-1)
        meshes = Meshes(verts=points, faces=faces.expand(batch, -1, -1))
        packed = rasterize_meshes(
            meshes,
            image_size=size,
            faces_per_pixel=1,
            bin_size=self.bin_size,
            perspective_correct=perspective,
            cull_backfaces=False,
            z_clip_value=1e-4 if perspective else None,
        )[0][..., 0]
        image = torch.arange(batch, device=packed.device).view(-1, 1, 1)
        return torch.where(packed >= 0, packed - image * len(faces), -1)


def to_pytorch3d_ndc(image_vertices: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert x, y in pixels to PyTorch3D's normalised coordinates; depth stays.

    There x points left and y up, the shorter side spans [-1, 1], and the centre of the first pixel
    is half a pixel from the corner.
    """
    height, width = size
    half = min(height, width) / 2
    x = (width / 2 - 0.5 - image_vertices[..., 0]) / half
    y = (height / 2 - 0.5 - image_vertices[..., 1]) / half
    return torch.stack([x, y, image_vertices[..., 2]], dim=-1)
