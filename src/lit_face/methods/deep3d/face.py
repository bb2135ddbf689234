"""From coefficients to a face: Deep3D's pose, camera and light, for any morphable model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.five_points import five_points
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.deep3d.light import to_radiance
from lit_face.morphable_models.contour import visible_contour
from lit_face.rendering.color import srgb_to_linear
from lit_face.types import Reconstruction

FOCAL = 1015 / 224  # in sides of the picture
CAMERA_AXES = (1.0, -1.0, -1.0)  # x right, y up, z to the viewer, to the camera's
MM = 100.0  # Deep3D's unit is the decimetre
DISTANCE = 10.0  # of its camera, in that unit
CROP_MM = MM * DISTANCE / FOCAL  # what its camera shows at its distance
Alignment = Literal["five_points", "box"]
DataAlignment = Literal["five_points", "box", "whole"]  # whole: cut out by five points already
_PLAIN_SIZES = ("identity", "expression", "albedo")


class Deep3DFace(nn.Module):
    """Coefficients (`Deep3DRegressor`) to faces, without the morphable model's files.

    Built empty from plain numbers, it is filled by its state_dict; `deep3d_face` fills it
    from a morphable model. All zeros are the mean face, upright, filling the crop.

    Args:
        vertices: V.
        faces: F.
        identity: coefficients.
        expression: likewise.
        albedo: likewise.
        contour: N, candidates of a jaw point.
        map_size: side S of the albedo map, texels.
        alignment: how crops lie about faces: by 'five_points' as Deep3D's, or the landmarks' 'box'.
        margin: side of the crop over the size of the landmarks' box; with five points, of the mean
            face.
        focal: in sides of the picture; Deep3D's camera sees 12.6 degrees.
        light_unit: what a raw 1 of light is worth.
        translation_unit: of translation, in decimetres for a head at Deep3D's ten.
        persistent: whether the state_dict holds the buffers. A method in training, which has the
            morphable model, leaves them out.

    Attributes:
        origin: (3,) mm in head space, about which heads turn. distance: () mm from the camera.
        front: (F,) 1 for the faces that photos show: no neck, scalp, ears, teeth.
        skin: (V,) in [0,1].
    """

    mean: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    faces: Tensor
    uv: Tensor
    landmark_index: Tensor
    contour: Tensor
    front: Tensor
    skin: Tensor
    origin: Tensor
    distance: Tensor
    map_vertices: Tensor
    map_weights: Tensor

    def __init__(
        self,
        vertices: int,
        faces: int,
        identity: int,
        expression: int,
        albedo: int,
        contour: int,
        map_size: int,
        alignment: Alignment = "five_points",
        margin: float = 1.6,
        focal: float = FOCAL,
        light_unit: float = 1.0,
        translation_unit: float = 1.0,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        if alignment not in get_args(Alignment):
            raise ValueError(f"alignment should be 'five_points' or 'box', found {alignment!r}.")
        self.alignment = alignment
        self.map_size, self.margin, self.focal = map_size, margin, focal
        self.light_unit, self.translation_unit = light_unit, translation_unit
        v, s = vertices, map_size
        empty = {
            "mean": torch.zeros(v, 3),
            "identity_basis": torch.zeros(v, 3, identity),
            "expression_basis": torch.zeros(v, 3, expression),
            "albedo_mean": torch.zeros(v, 3),
            "albedo_basis": torch.zeros(v, 3, albedo),
            "faces": torch.zeros(faces, 3, dtype=torch.int64),
            "uv": torch.zeros(v, 2),
            "landmark_index": torch.zeros(68, dtype=torch.int64),
            "contour": torch.zeros(17, contour, dtype=torch.int64),
            "front": torch.zeros(faces),
            "skin": torch.zeros(v),
            "origin": torch.zeros(3),
            "distance": torch.zeros(()),
            "map_vertices": torch.zeros(s * s, 3, dtype=torch.int64),
            "map_weights": torch.zeros(s * s, 3),
        }
        for name, value in empty.items():
            self.register_buffer(name, value, persistent=persistent)

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which an empty face is built."""
        return {
            "_target_": "lit_face.methods.deep3d.face.Deep3DFace",
            "vertices": len(self.mean),
            "faces": len(self.faces),
            **self.counts,
            "contour": self.contour.shape[1],
            "map_size": self.map_size,
            "alignment": self.alignment,
            "margin": self.margin,
            "focal": self.focal,
            "light_unit": self.light_unit,
            "translation_unit": self.translation_unit,
        }

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of identity, expression and albedo coefficients."""
        return {name: getattr(self, f"{name}_basis").shape[-1] for name in _PLAIN_SIZES}

    @property
    def standard_points(self) -> Tensor:
        """(5,3) decimetres, the mean face's five points about `origin` (`five_point_box`)."""
        return (five_points(self.mean[self.landmark_index]) - self.origin) / MM

    def persistent_copy(self) -> Deep3DFace:
        """Return a copy whose state_dict holds everything."""
        copy = Deep3DFace(**{k: v for k, v in self.config.items() if k != "_target_"})
        for name, value in self.named_buffers():
            getattr(copy, name).copy_(value)
        return copy.to(self.mean.device)

    @fp32_region()
    def shape(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Return (B,V,3) head space, mm, of coefficients (B,Ki), (B,Ke), standard deviations."""
        offsets = identity @ self.identity_basis.flatten(0, 1).mT
        offsets = offsets + expression @ self.expression_basis.flatten(0, 1).mT
        return self.mean + offsets.view(-1, *self.mean.shape)

    @fp32_region()
    def albedo(self, coefficients: Tensor) -> Tensor:
        """Return (B,V,3) sRGB values, not clipped, of coefficients (B,K) with K >= Ka."""
        coefficients = coefficients[:, : self.counts["albedo"]].float()
        offsets = coefficients @ self.albedo_basis.flatten(0, 1).mT
        return self.albedo_mean + offsets.view(-1, *self.albedo_mean.shape)

    @fp32_region()
    def camera(self, angles: Tensor, translation: Tensor, size: int) -> PerspectiveCamera:
        """Build the camera of square pictures, `size` pixels a side.

        Deep3D's, but for its optical axis, which goes through the picture's centre here and half a
        pixel beside it there (column 112 of 224 counted from 0, row 111).

        Args:
            angles: (B,3) about x, y and z, radians.
            translation: (B,3) right, up and to the viewer; the depth is in tenths of `distance`.
            size: pixels.
        """
        axes = angles.new_tensor(CAMERA_AXES)
        rotation = axes[:, None] * head_rotation(angles)
        moved = translation * self.translation_unit
        depth = self.distance * (1 - moved[:, 2] / DISTANCE)
        place = torch.stack([MM * moved[:, 0], -MM * moved[:, 1], depth], dim=1)
        intrinsics = angles.new_zeros(len(angles), 3, 3)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = self.focal * size
        intrinsics[:, :2, 2] = (size - 1) / 2
        intrinsics[:, 2, 2] = 1
        return PerspectiveCamera(intrinsics, rotation, place - rotation @ self.origin)

    @fp32_region()
    def forward(
        self,
        coefficients: Mapping[str, Tensor],
        size: int,
        follow_contour: bool = False,
        with_maps: bool = True,
    ) -> Reconstruction:
        """Build faces in pixels of square pictures, `size` pixels a side.

        Args:
            coefficients: of `Deep3DRegressor`; of more than there are bases the leading ones.
            size: pixels.
            follow_contour: jaw points lie on the visible contour, as in 2D annotations, not on
                fixed vertices as Deep3D's.
            with_maps: with the albedo map.
        """
        known = {name: coefficients[name][:, :k].float() for name, k in self.counts.items()}
        vertices = self.shape(known["identity"], known["expression"])
        camera = self.camera(
            coefficients["angles"].float(), coefficients["translation"].float(), size
        )
        image_vertices = self._in_pixels(camera.project(vertices), size)
        albedo = self.albedo(known["albedo"]).clamp(0, 1)
        if follow_contour:
            landmarks = visible_contour(image_vertices, self.landmark_index, self.contour)
        else:
            landmarks = image_vertices[:, self.landmark_index]
        return Reconstruction(
            image_vertices=image_vertices,
            vertices=vertices,
            faces=self.faces,
            uv=self.uv,
            landmarks=landmarks,
            unit="mm",
            camera=camera,
            light=to_radiance(self.light_unit * coefficients["light"].float()),
            coefficients=known,
            textures={"diffuse": self.texture(albedo)} if with_maps else None,
            vertex_colors={"albedo": albedo},
        )

    @fp32_region()
    def texture(self, colors: Tensor) -> Tensor:
        """Return (B,3,S,S) linear maps of colors of vertices (B,V,3), sRGB; no texel is empty."""
        corners = srgb_to_linear(colors)[:, self.map_vertices]
        texels = (corners * self.map_weights[..., None]).sum(2)
        return texels.mT.reshape(len(colors), 3, self.map_size, self.map_size)

    def _in_pixels(self, projected: Tensor, size: int) -> Tensor:
        """Turn depth in mm into pixels at the heads' usual distance, 0 there (B,V,3)."""
        scale = self.focal * size / self.distance
        depth = (projected[..., 2:] - self.distance) * scale
        return torch.cat([projected[..., :2], depth], dim=-1)


@fp32_region()
def head_rotation(angles: Tensor) -> Tensor:
    """Return (B,3,3), Rz Ry Rx of right-handed turns by angles (B,3) about x, y and z, radians.

    It acts on columns; Deep3D writes its transpose, for rows.
    """
    about_x, about_y, about_z = axis_angle_to_matrix(torch.diag_embed(angles)).unbind(1)
    return about_z @ about_y @ about_x
