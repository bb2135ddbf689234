"""From attributes to a scene: shape, camera, light and material of every face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.methods.sh_brdf.head import StatisticalHead
from lit_face.morphable_models.contour import visible_contour
from lit_face.types import Reconstruction

# Units of the network's outputs: what a raw 1 is worth.
SHIFT_MM, DEPTH_SHARE = 10.0, 0.1  # sideways; in depth, of the distance before training
LOG_FOCAL, LIGHT = 0.1, 0.1
# The light before training: white, 0.7 from everywhere, the rest from above and before the face.
START_LIGHT = {0: 2.5, 2: -0.5, 3: -1.0}
CAMERA_AXES = (1.0, -1.0, -1.0)  # head space (y up, z out) to the camera's (y down, z forward)


class AttributeReader(nn.Module):
    """Reads faces from raw attributes (`SHBRDFNetwork`); all zeros are the mean face, upright.

    Args:
        head: shape and albedo.
        margin: side of the crop over the size of the landmarks' box: the mean face fills a crop
            as the crops of training do.
        focal: focal length before training, in sides of the picture; 4.5 are 13 degrees (Deep3D).
        roughness: of the whole face; 0.4 is NextFace's start.
        is_focal_free: whether the focal length is estimated; in a tight crop it hardly differs
            from depth.
    """

    def __init__(
        self,
        head: StatisticalHead,
        margin: float = 1.6,
        focal: float = 4.5,
        roughness: float = 0.4,
        is_focal_free: bool = True,
    ) -> None:
        super().__init__()
        self.head = head
        self.margin, self.focal, self.roughness = margin, focal, roughness
        self.is_focal_free = is_focal_free

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty reader is built."""
        return {
            "_target_": "lit_face.methods.sh_brdf.reader.AttributeReader",
            "head": self.head.config,
            "margin": self.margin,
            "focal": self.focal,
            "roughness": self.roughness,
            "is_focal_free": self.is_focal_free,
        }

    @fp32_region()
    def start_translation(self) -> Tensor:
        """Return (3,) mm: where the mean face fills the crop."""
        points = self.head.mean[self.head.landmark_index][:, :2]
        low, high = points.amin(0), points.amax(0)
        x, y = ((low + high) / 2).unbind()
        distance = (high - low).mean() * self.margin * self.focal
        return torch.stack([-x, y, distance])

    def translation_units(self) -> Tensor:
        """Return (3,) mm that a raw translation of 1 is worth."""
        start = self.start_translation()
        sideways = torch.full_like(start[:2], SHIFT_MM)
        return torch.cat([sideways, DEPTH_SHARE * start[2:]])

    @fp32_region()
    def camera(self, attributes: Mapping[str, Tensor], size: int) -> PerspectiveCamera:
        """Build cameras of square pictures, `size` pixels a side."""
        angles = attributes["rotation"].float()
        axes = angles.new_tensor(CAMERA_AXES)[:, None]
        shift = attributes["translation"].float() * self.translation_units()
        focal = angles.new_full((len(angles),), self.focal * size)
        if self.is_focal_free:
            focal = focal * (LOG_FOCAL * attributes["focal"].float()[:, 0]).exp()
        intrinsics = torch.zeros(len(angles), 3, 3, device=angles.device)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
        intrinsics[:, :2, 2] = (size - 1) / 2
        intrinsics[:, 2, 2] = 1
        return PerspectiveCamera(
            intrinsics, axes * euler_to_matrix(angles), self.start_translation() + shift
        )

    @fp32_region()
    def light(self, raw: Tensor) -> Tensor:
        """Return radiance coefficients (B,K,3) of raw ones."""
        start = raw.new_zeros(raw.shape[1])
        for index, value in START_LIGHT.items():
            if index < len(start):
                start[index] = value
        return start[:, None] + LIGHT * raw.float()

    @fp32_region()
    def forward(
        self, attributes: Mapping[str, Tensor], size: int, follow_contour: bool = False
    ) -> Reconstruction:
        """Build faces in pixels of square pictures, `size` pixels a side.

        Args:
            attributes: of `SHBRDFNetwork`; of more coefficients than the head has, the leading
                ones count. Without `residual_diffuse` and `residual_specular` the
                maps are the statistical ones. `roughness` (B,1,S,S), where there is one, replaces
                the constant.
            size: pixels.
            follow_contour: jaw points lie on the visible contour, as in 2D annotations, not on
                fixed vertices.

        Returns:
            Faces whose textures (linear, not clamped to [0,1]) are `diffuse`, `specular`,
            `roughness` and, with residuals, `diffuse_statistical` and `specular_statistical`.
        """
        head = self.head
        coefficients = {
            name: attributes[name][:, :count].float() for name, count in head.counts.items()
        }
        vertices = head.vertices(coefficients["identity"], coefficients["expression"])
        camera = self.camera(attributes, size)
        image_vertices = in_pixels(camera.project(vertices), camera)
        return Reconstruction(
            image_vertices=image_vertices,
            vertices=vertices,
            faces=head.faces,
            uv=head.uv,
            landmarks=self._landmarks(image_vertices, follow_contour),
            unit="mm",
            camera=camera,
            light=self.light(attributes["light"]),
            coefficients=coefficients,
            textures=self._textures(attributes, coefficients["albedo"]),
            transfer=head.transfer if head.shadow_bands else None,
        )

    def _landmarks(self, image_vertices: Tensor, follow_contour: bool) -> Tensor:
        head = self.head
        if follow_contour:
            return visible_contour(image_vertices, head.landmark_index, head.contour)
        return image_vertices[:, head.landmark_index]

    def _textures(self, attributes: Mapping[str, Tensor], albedo: Tensor) -> dict[str, Tensor]:
        diffuse, specular = self.head.albedo_maps(albedo)
        roughness = attributes.get("roughness")
        if roughness is None:
            roughness = diffuse.new_full((len(diffuse), 1, 1, 1), self.roughness)
        textures = {"diffuse": diffuse, "specular": specular, "roughness": roughness}
        if "residual_diffuse" in attributes:
            covered = self.head.coverage
            textures |= {"diffuse_statistical": diffuse, "specular_statistical": specular}
            textures["diffuse"] = diffuse + covered * attributes["residual_diffuse"].float()
            textures["specular"] = specular + covered * attributes["residual_specular"].float()
        return textures


def in_pixels(projected: Tensor, camera: PerspectiveCamera) -> Tensor:
    """Turn depth in mm into pixels at the head's distance, 0 at its origin (B,V,3)."""
    distance = camera.translation[:, 2].detach()
    scale = (camera.intrinsics[:, 0, 0].detach() / distance)[:, None, None]
    depth = (projected[..., 2:] - distance[:, None, None]) * scale
    return torch.cat([projected[..., :2], depth], dim=-1)


def with_valid_maps(face: Reconstruction) -> Reconstruction:
    """Return a face whose albedo maps lie in [0,1]."""
    textures = {
        name: value if name == "roughness" else value.clamp(0, 1)
        for name, value in (face.textures or {}).items()
    }
    return replace(face, textures=textures)
