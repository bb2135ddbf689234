"""Vertices, material, camera and light to a picture in linear light, without rays or noise."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.spherical_harmonics import band_count
from lit_face.geometry.uv import uv_to_texels
from lit_face.rendering.environment import clamped_light, sample_environment, sh_to_environment
from lit_face.rendering.light_maps import irradiance_map
from lit_face.rendering.material import Material, Radiance
from lit_face.rendering.packing import Packing, pack, unit_planes
from lit_face.rendering.rasterize import Kernel, check_mesh, rasterize
from lit_face.rendering.renderer import normals_to_camera
from lit_face.rendering.specular import lobe_specular, prefiltered_specular
from lit_face.rendering.transfer import shadowed_irradiance

LOBE_MAP_SIZE = (126, 254)  # of the light that 'quadrature' reads
LOBE_BANDS = 9  # of clamped light that 'prefiltered' blurs; the lobe leaves little of finer ones
_POLAR_STEPS = 6

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
        if lobe_samples < 1:
            raise ValueError(f"lobe_samples should be at least 1, found {lobe_samples}.")
        self.kernel, self.specular = kernel, specular
        self.lobe_samples, self.clamp_light = lobe_samples, clamp_light

    def matte(self) -> RasterMaterialRenderer:
        """Return this renderer without highlights."""
        return RasterMaterialRenderer(self.kernel, "none", self.lobe_samples, self.clamp_light)

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
        _check_scene(vertices, uv, material, transfer)
        gathered = clamped_light(light) if self.clamp_light else light
        perspective = isinstance(camera, PerspectiveCamera)
        image_vertices = camera.project(vertices)
        face_index = rasterize(
            image_vertices.detach(), faces, size, kernel=self.kernel, perspective=perspective
        )
        packing = pack(image_vertices, faces, face_index, perspective)
        attributes = [
            normals_to_camera(vertex_normals(vertices, faces), camera),
            uv.to(vertices).expand(len(vertices), -1, -1),
        ]
        if transfer is not None:
            attributes.append(_shadowing(transfer, gathered / math.pi, camera))
        planes = torch.cat([part.permute(2, 0, 1).flatten(1) for part in attributes])
        values = packing.interpolate(planes)
        normals, uv_rows, shadowing = values[:, :3], values[:, 3:5].mT, values[:, 5:]
        normals = unit_planes(normals)
        irradiance = _irradiance(gathered / math.pi, normals, shadowing)
        diffuse, specular, roughness = _read_material(material, uv_rows, self.specular != "none")
        colors = diffuse.clamp(min=0) * irradiance
        if self.specular != "none":
            view = _directions_to_camera(packing, camera)
            colors = colors + self._reflection(light, normals, view, specular, roughness)
        mask = (face_index >= 0).unsqueeze(1).to(vertices.dtype)
        return Radiance(packing.to_image(colors), mask)

    def _reflection(
        self, light: Tensor, normals: Tensor, view: Tensor, specular: Tensor, roughness: Tensor
    ) -> Tensor:
        """Return (B,3,M) radiance of the specular lobe."""
        if self.specular == "quadrature":
            environment = sh_to_environment(light, LOBE_MAP_SIZE, clamp=self.clamp_light)
            return lobe_specular(environment, normals, view, specular, roughness, self.lobe_samples)
        if self.clamp_light:
            light = clamped_light(light, max(band_count(light), LOBE_BANDS))
        return prefiltered_specular(light, normals, view, specular, roughness)


def _read_material(material: Material, uv: Tensor, has_lobe: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Read maps at (B,M,2): diffuse (B,3,M), specular (B,1|3,M) and roughness (B,M) or (B,1).

    Maps of one size are read together, which is faster. Without a lobe only diffuse is read.
    """
    constant = material.roughness.shape[-1] == 1
    if not has_lobe:
        return _read(material.diffuse, uv), material.specular[..., 0], material.roughness[:, 0, 0]
    maps = [material.diffuse, material.specular] + ([] if constant else [material.roughness])
    if len({part.shape[-2:] for part in maps}) == 1:
        channels = [part.shape[1] for part in maps]
        found = list(_read(torch.cat(maps, dim=1), uv).split(channels, dim=1))
    else:
        found = [_read(part, uv) for part in maps]
    roughness = material.roughness[:, :, 0] if constant else found[2]
    return found[0], found[1], roughness[:, 0]


def _read(maps: Tensor, uv: Tensor) -> Tensor:
    return sample_image(maps, uv_to_texels(uv, maps.shape[-1]))


def _irradiance(light: Tensor, normals: Tensor, shadowing: Tensor) -> Tensor:
    """Return (B,3,M): as given (B,3,M), or of the open sky, times ambient occlusion (B,1,M)."""
    if shadowing.shape[1] == 3:
        return shadowing
    irradiance = sample_environment(irradiance_map(light), normals)
    return irradiance * shadowing if shadowing.shape[1] else irradiance


def _shadowing(transfer: Tensor, light: Tensor, camera: Camera) -> Tensor:
    """Return (B,V,3) irradiance at the vertices, or (B,V,1) ambient occlusion."""
    if transfer.shape[-1] == 1:
        return transfer.to(light).expand(len(light), -1, -1)
    rotation = camera.rotation if isinstance(camera, PerspectiveCamera) else _axes(camera)
    return shadowed_irradiance(transfer, light, rotation)


def _axes(camera: AffineCamera) -> Tensor:
    """Return (B,3,3), the rotation (of a mirroring camera: the reflection) nearest to its axes."""
    linear = camera.matrix[:, :, :3]
    axes: Tensor = linear / torch.linalg.det(linear).abs()[:, None, None] ** (1 / 3)
    for _ in range(_POLAR_STEPS):  # Higham (1986), "Computing the polar decomposition"
        axes = (axes + torch.linalg.inv(axes).mT) / 2
    return axes


def _directions_to_camera(packing: Packing, camera: Camera) -> Tensor:
    """Return (B,3,M) unit vectors from the seen points to the camera, camera frame."""
    batch, count = packing.pixel.shape
    if isinstance(camera, AffineCamera):
        return camera.matrix.new_tensor([[0.0], [0.0], [-1.0]]).expand(batch, 3, count)
    rays = torch.linalg.inv(camera.intrinsics) @ packing.centres(camera.intrinsics.dtype)
    return -unit_planes(rays)


def _check_scene(vertices: Tensor, uv: Tensor, material: Material, transfer: Tensor | None) -> None:
    batch, count = vertices.shape[:2]
    if uv.shape != (count, 2):
        raise ValueError(f"uv should be ({count},2), found {tuple(uv.shape)}.")
    channels = {"diffuse": (3,), "specular": (1, 3), "roughness": (1,)}
    for name, allowed in channels.items():
        maps = getattr(material, name)
        if maps.ndim != 4 or maps.shape[0] != batch or maps.shape[1] not in allowed:
            number = " or ".join(map(str, allowed))
            raise ValueError(
                f"material.{name} should be ({batch},{number},S,S), found {tuple(maps.shape)}."
            )
    if transfer is not None and (transfer.ndim not in (2, 3) or transfer.shape[-2] != count):
        raise ValueError(
            f"transfer should be ({count},K) or ({batch},{count},K), found {tuple(transfer.shape)}."
        )


def _check_light(light: Tensor, batch: int) -> None:
    if light.ndim != 3 or light.shape[0] != batch or light.shape[2] != 3:
        raise ValueError(f"light should be ({batch},K,3), found {tuple(light.shape)}.")
    band_count(light)
    if not bool(light.isfinite().all()):
        raise ValueError("light should be finite, found NaN or infinity.")
