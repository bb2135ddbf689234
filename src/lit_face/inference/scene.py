"""A reconstructed face as a scene: shown again, under other light, from elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.pose import pose_from_camera
from lit_face.geometry.rotations import axis_angle_to_matrix, euler_to_matrix
from lit_face.geometry.similarity2d import apply_similarity
from lit_face.geometry.spherical_harmonics import rotate_sh
from lit_face.inference.crops import crop_matrices, cut_out, cut_out_mask
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material import Material, Radiance
from lit_face.rendering.material_renderer import RasterMaterialRenderer, Specular
from lit_face.rendering.scene import can_be_rendered, material_of, render_face
from lit_face.types import Camera, Reconstruction

_MARGIN = 2.0  # side of the crop over the size of the landmarks' box
_WHITE = math.sqrt(4 * math.pi)  # first coefficient of white light of radiance 1
_GREY = 0.6  # albedo of pictures of the geometry
# Light for pictures of the geometry: from everywhere, and from above beside the viewer.
_STUDIO = {0: 1.7, 1: 0.5, 2: -0.7, 3: -0.9}


@dataclass(frozen=True, eq=False)
class FaceScene:
    """One face with albedo maps, light and camera, in a square crop of its photo.

    Attributes:
        face: a batch of one, with textures (linear) and light (1,K,3); points and camera are in
            pixels of the crop.
        photo: (1,3,S,S) the crop, sRGB in [0,1].
        skin_mask: (1,1,S,S) in [0,1], where there is one.
    """

    face: Reconstruction
    photo: Tensor
    skin_mask: Tensor | None = None

    @classmethod
    def of(
        cls,
        face: Reconstruction,
        photo: NDArray[np.uint8],
        size: int = 256,
        skin_mask: NDArray[np.uint8] | None = None,
    ) -> FaceScene:
        """Cut the face out of its photo (H,W,3) and skin mask (H,W).

        Raises:
            ValueError: the method gives no albedo map, light or camera.
        """
        if not can_be_rendered(face) or face.camera is None:
            raise ValueError(
                "outputs: maps, light, strip, relit and reposed need a method that estimates "
                "albedo, light and a camera (sh_brdf, flame_fit); this one does not."
            )
        matrix = crop_of(face, size)
        crop = cut_out(photo, matrix[0], size)
        skin = None if skin_mask is None else cut_out_mask(skin_mask, matrix[0], size)
        moved = apply_similarity(matrix, face.image_vertices)
        inside = replace(face, camera=face.camera.warped(matrix), image_vertices=moved)
        return cls(inside, crop, skin)

    @property
    def light(self) -> Tensor:
        """(1,K,3) radiance in spherical harmonics, camera frame."""
        light = self.face.light
        if not isinstance(light, Tensor):
            raise ValueError("this face has no light.")
        return light

    @property
    def camera(self) -> Camera:
        """Head space to the crop."""
        if self.face.camera is None:
            raise ValueError("this face has no camera.")
        return self.face.camera

    @property
    def material(self) -> Material:
        """The maps of the face."""
        return material_of(self.face)

    @cached_property
    def studio(self) -> Tensor:
        """(1,9,3) the light for pictures of the geometry."""
        light = torch.zeros(1, 9, 3)
        for index, value in _STUDIO.items():
            light[:, index] = value
        return light

    def render(
        self,
        material: Material | None = None,
        light: Tensor | None = None,
        camera: Camera | None = None,
        specular: Specular = "prefiltered",
    ) -> Radiance:
        """Show the face with some parts replaced; specular 'none' leaves it matte.

        (Without specular albedo it would still shine where it is seen at a slant.)
        """
        face = replace(self.face, camera=self.camera if camera is None else camera)
        size = (self.photo.shape[-2], self.photo.shape[-1])
        with torch.no_grad():
            return render_face(
                RasterMaterialRenderer(specular=specular), face, size, material, light
            )

    def geometry(self, camera: Camera | None = None) -> Radiance:
        """Show the shape alone, grey, in the studio's light."""
        grey = torch.full_like(self.material.diffuse, _GREY)
        material = replace(self.material, diffuse=grey)
        return self.render(material, self.studio, camera, specular="none")

    def albedo(self) -> Radiance:
        """Show the diffuse albedo without light and shadows."""
        white = torch.zeros(1, 1, 3) + _WHITE
        bare = FaceScene(replace(self.face, transfer=None), self.photo)
        return bare.render(light=white, specular="none")

    def specular(self) -> Radiance:
        """Show what the surface reflects like a mirror, under the face's own light."""
        return self.render(replace(self.material, diffuse=torch.zeros_like(self.material.diffuse)))

    def relit(self, turn_deg: float) -> Radiance:
        """Show the face with its light turned about the vertical axis."""
        axis = torch.tensor([[0.0, math.radians(turn_deg), 0.0]])
        return self.render(light=rotate_sh(self.light, axis_angle_to_matrix(axis)))

    def reposed_camera(self, yaw_deg: float, pitch_deg: float = 0.0) -> Camera:
        """Return the camera before which the head has these angles (`Face.angles`), and no roll."""
        angles = torch.tensor([[math.radians(pitch_deg), math.radians(yaw_deg), 0.0]])
        upright = torch.tensor([1.0, -1.0, -1.0])[:, None]
        rotation, camera = upright * euler_to_matrix(angles), self.camera
        if isinstance(camera, PerspectiveCamera):
            return replace(camera, rotation=rotation)
        scale = pose_from_camera(camera).scale
        return AffineCamera.orthographic(scale, rotation, camera.matrix[:, :, 3])

    def light_map(self, size: tuple[int, int] = (64, 128)) -> Tensor:
        """Return the light on a latitude-longitude map (H,W,3), linear, as the camera sees it.

        The middle is where the camera looks, behind the face; left, right and the sky are where the
        photo has them; what is behind the camera is at the left and right edge.
        """
        from lit_face.rendering.environment import sh_to_environment

        return sh_to_environment(self.light, size)[0].permute(1, 2, 0).flip(0, 1)


def crop_of(face: Reconstruction, size: int) -> Tensor:
    """Return (1,3,3): pixels of the photo to pixels of the square picture of a face."""
    points = face.landmarks[:, :, :2]
    return crop_matrices(torch.cat([points.amin(1), points.amax(1)], 1), _MARGIN, size)


def over(picture: Radiance, background: Tensor) -> Tensor:
    """Lay a picture over a background; both that and the result are (1,3,S,S), sRGB in [0,1]."""
    mixed = background + picture.mask * (linear_to_srgb(picture.image) - background)
    return mixed.clamp(0, 1)
