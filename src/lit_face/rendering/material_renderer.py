"""Vertices, material, camera and light to a picture in linear light, without rays or noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.spherical_harmonics import band_count
from lit_face.geometry.uv import uv_to_texels
from lit_face.rendering.environment import clamped_light, sample_environment
from lit_face.rendering.interpolate import Fragments, fragments_of
from lit_face.rendering.light_maps import irradiance_map, prefiltered_map
from lit_face.rendering.material import Material, Radiance
from lit_face.rendering.rasterize import Kernel, check_mesh, rasterize
from lit_face.rendering.renderer import normals_to_camera
from lit_face.rendering.specular import blur_factors, dominant_direction, reflected_share

Camera = AffineCamera | PerspectiveCamera
Specular = Literal["prefiltered", "quadrature", "none"]


class RasterMaterialRenderer(nn.Module):
    """Shades a BRDF under spherical-harmonics light: pre-integrated, hence without noise.

    Args:
        kernel: of the rasteriser: 'numba', 'torch', or None for the fastest on the device.
        specular: 'prefiltered' (one lookup), 'quadrature' (a fixed set of half vectors; slower,
            closer), or 'none'.
        lobe_samples: half vectors of 'quadrature'.
        clamp_light: radiance is never negative; false is linear in the light, and faster.
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        specular: Specular = "prefiltered",
        lobe_samples: int = 64,
        clamp_light: bool = False,
    ) -> None:
        super().__init__()
        if specular not in ("prefiltered", "quadrature", "none"):
            raise ValueError(
                f"specular should be 'prefiltered', 'quadrature' or 'none', found {specular!r}."
            )
        self.kernel, self.specular = kernel, specular
        self.lobe_samples, self.clamp_light = lobe_samples, clamp_light

    @fp32_region()
    def forward(
        self,
        vertices: Tensor,
        faces: Tensor,
        uv: Tensor,
        camera: Camera,
        size: tuple[int, int],
        material: Material,
        light: Tensor,
        transfer: Tensor | None = None,
    ) -> Radiance:
        """Render a batch of meshes that share faces and UV.

        Args:
            vertices: (B,V,3) head space, mm, float32 or float64.
            faces: (F,3) int64, counter-clockwise seen from outside.
            uv: (V,2) in [0,1], u right, v up.
            camera: head space to pixels, B cameras.
            size: height and width, pixels.
            material: B sets of maps, linear.
            light: (B,K,3) radiance in spherical harmonics, camera frame, house order.
            transfer: (V,L) or (B,V,L) self-shadowing of the diffuse part, head frame
                (`lit_face.rendering.transfer`).

        Returns:
            Radiance and coverage. Gradients reach vertices, camera, maps and light inside the
            silhouette; the silhouette itself has none.

        Raises:
            ValueError: shapes that do not fit, or light that is not finite.
        """
        check_mesh(vertices, faces)
        _check_light(light, len(vertices))
        if self.clamp_light:
            light = clamped_light(light)
        perspective = isinstance(camera, PerspectiveCamera)
        image_vertices = camera.project(vertices)
        face_index = rasterize(
            image_vertices.detach(), faces, size, kernel=self.kernel, perspective=perspective
        )
        fragments = fragments_of(image_vertices, faces, face_index, perspective)
        normals = normals_to_camera(vertex_normals(vertices, faces), camera)
        attributes = torch.cat([normals, uv.to(normals).expand(len(normals), -1, -1)], dim=-1)
        packing = _Packing.of(fragments)
        values = packing.to_rows(fragments.interpolate(attributes))
        normals, uv_rows = F.normalize(values[..., :3], dim=-1, eps=1e-8), values[..., 3:5]

        points = uv_to_texels(uv_rows, material.diffuse.shape[-1])
        colors = sample_image(material.diffuse, points, padding="border") * (
            sample_environment(irradiance_map(light), normals) / torch.pi
        )
        if self.specular != "none":
            view = _directions_to_camera(packing, camera)
            colors = colors + self._prefiltered(material, light, normals, view, uv_rows)
        mask = (face_index >= 0).unsqueeze(1).to(vertices.dtype)
        return Radiance(packing.to_image(colors), mask)

    def _prefiltered(
        self, material: Material, light: Tensor, normals: Tensor, view: Tensor, uv: Tensor
    ) -> Tensor:
        """Return (B,3,M) radiance of the lobe."""
        mean = material.roughness.mean((1, 2, 3))
        roughness = mean[:, None].expand(normals.shape[:2])
        blurred = prefiltered_map(light, blur_factors(mean, band_count(light)))
        direction = dominant_direction(normals, view, roughness[..., None])
        share, rest = reflected_share((normals * view).sum(-1), roughness)
        specular = sample_image(
            material.specular, uv_to_texels(uv, material.specular.shape[-1]), padding="border"
        )
        gathered = sample_environment(blurred, direction)
        return gathered * (specular * share[:, None] + rest[:, None])


@dataclass(eq=False)
class _Packing:
    """Covered pixels as B rows of equal length, so that each reads the maps of its image.

    Attributes:
        slot: (N,) where each fragment lies in the flattened (B,M).
        pixel: (B,M) index into the flattened (H,W); H * W where a row is longer than its image
            has fragments.
        size: H, W.
    """

    slot: Tensor
    pixel: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, fragments: Fragments) -> _Packing:
        batch, height, width = fragments.shape
        area = height * width
        image = torch.div(fragments.pixel, area, rounding_mode="floor")
        counts = torch.bincount(image, minlength=batch)
        longest = int(counts.max()) if batch else 0
        start = counts.cumsum(0) - counts
        rank = torch.arange(len(image), device=image.device) - start[image]
        slot = image * longest + rank
        pixel = torch.full((batch * longest,), area, device=image.device)
        pixel[slot] = fragments.pixel - image * area
        return cls(slot, pixel.view(batch, longest), (height, width))

    def to_rows(self, values: Tensor) -> Tensor:
        """Spread (N,C) values to (B,M,C), 0 in the unused places."""
        rows = values.new_zeros(self.pixel.numel(), values.shape[1])
        return rows.index_copy(0, self.slot, values).view(*self.pixel.shape, -1)

    def to_image(self, values: Tensor) -> Tensor:
        """Write (B,C,M) values into (B,C,H,W) images that are 0 elsewhere."""
        batch, channels, _ = values.shape
        images = values.new_zeros(batch, channels, self.size[0] * self.size[1] + 1)
        index = self.pixel[:, None].expand_as(values)
        return images.scatter(2, index, values)[..., :-1].reshape(batch, channels, *self.size)


def _directions_to_camera(packing: _Packing, camera: Camera) -> Tensor:
    """Return (B,M,3) unit vectors from the seen points to the camera, camera frame."""
    pixel, width = packing.pixel, packing.size[1]
    if isinstance(camera, AffineCamera):
        return camera.matrix.new_tensor([0.0, 0.0, -1.0]).expand(*pixel.shape, 3)
    row = torch.div(pixel, width, rounding_mode="floor")
    homogeneous = torch.stack([pixel % width, row, torch.ones_like(row)], dim=-1)
    rays = homogeneous.to(camera.intrinsics.dtype) @ torch.linalg.inv(camera.intrinsics).mT
    return -F.normalize(rays, dim=-1)


def _check_light(light: Tensor, batch: int) -> None:
    if light.ndim != 3 or light.shape[0] != batch or light.shape[2] != 3:
        raise ValueError(f"light should be ({batch},K,3), found {tuple(light.shape)}.")
    band_count(light)
    if not bool(light.isfinite().all()):
        raise ValueError("light should be finite, found NaN or infinity.")
