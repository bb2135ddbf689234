"""One face on its way into files: what several writers need is made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_face.inference.face import Face
from lit_face.inference.scene import FaceScene
from lit_face.inference.textures import Texture, file_uv, photo_colors, photo_texture
from lit_face.io.materials import Surface, srgb_bytes
from lit_face.io.meshes import Mesh
from lit_face.rendering.scene import can_be_rendered

Pose = Literal["original", "frontal"]
MeshColor = Literal["texture", "photo", "vertex"]


@dataclass(frozen=True)
class ExportSettings:
    """How faces are written.

    Attributes:
        pose: 'original' puts the mesh where the face is in the photo: x right, y up from the
            photo's bottom row, z towards the viewer, pixels. 'frontal' is the face without pose
            and scale: head space (x to the subject's left, y up, z out of the face), mm where the
            method has a scale.
        mesh_color: 'texture' is the method's own albedo maps where it has them, else the photo;
            'photo' is the photo always; 'vertex' a colour a vertex, the method's own albedo where
            it has some (.ply has it always).
        texture_size: side of the texture, texels.
        blank_invisible: make texels black that the photo does not show.

    Raises:
        ValueError: says which option, and what it may be.
    """

    pose: Pose = "original"
    mesh_color: MeshColor = "texture"
    texture_size: int = 256
    blank_invisible: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("pose", ("original", "frontal")),
            ("mesh_color", ("texture", "photo", "vertex")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} should be {' or '.join(map(repr, allowed))}, found "
                    f"{getattr(self, name)!r}."
                )
        if not isinstance(self.texture_size, int) or not 2 <= self.texture_size <= 8192:
            raise ValueError(f"texture_size should be 2 to 8192, found {self.texture_size!r}.")


@dataclass(frozen=True, eq=False)
class Export:
    """A face, its photo (H,W,3) uint8, and how to write it."""

    face: Face
    photo: NDArray[np.uint8]
    settings: ExportSettings = ExportSettings()

    @cached_property
    def texture(self) -> Texture:
        """The photo on the face's UV layout."""
        settings = self.settings
        return photo_texture(
            self.photo, self.face.reconstruction, settings.texture_size, settings.blank_invisible
        )

    @cached_property
    def scene(self) -> FaceScene:
        """The face with its albedo maps and light; an error where the method has none."""
        return FaceScene.of(self.face.reconstruction, self.photo, skin_mask=self.face.skin_mask)

    @cached_property
    def colors(self) -> NDArray[np.float32]:
        """The photo's colours (V,3) in [0,1] at the vertices."""
        points = self.face.reconstruction.image_vertices[0, :, :2]
        return photo_colors(self.photo, points).numpy()

    @property
    def mesh_colors(self) -> NDArray[np.float32]:
        """Colours (V,3) in [0,1] of meshes: the method's own albedo where it has one."""
        own = self.face.reconstruction.vertex_colors or {}
        if "albedo" not in own or self.settings.mesh_color == "photo":
            return self.colors
        return np.asarray(own["albedo"][0].clamp(0, 1).numpy(), np.float32)

    @cached_property
    def vertices(self) -> NDArray[np.float32]:
        """Vertices (V,3) as files have them: y up, z towards the viewer; see `ExportSettings`."""
        if self.settings.pose == "frontal":
            return self.face.reconstruction.vertices[0].numpy()
        bottom = self.face.photo_size[0] - 1
        return (self.face.points * (1, -1, -1) + (0, bottom, 0)).astype(np.float32)

    def mesh(self, with_texture: bool) -> Mesh:
        """Return the mesh with its texture, or with a colour a vertex."""
        reconstruction = self.face.reconstruction
        faces, uv = reconstruction.faces.numpy(), reconstruction.uv.numpy()
        if not with_texture:
            return Mesh(self.vertices, faces, colors=self.mesh_colors)
        if self.settings.mesh_color == "texture" and can_be_rendered(reconstruction):
            maps = self.scene.material
            side = maps.diffuse.shape[-1]
            diffuse, specular = _rows(maps.diffuse), _rows(maps.specular.expand(-1, 3, -1, -1))
            roughness = _rows(maps.roughness.expand(-1, 1, side, side))[..., 0]
            return Mesh(
                self.vertices,
                faces,
                uv=file_uv(uv, side),
                texture=srgb_bytes(diffuse),
                surface=Surface(specular, roughness),
            )
        uv = file_uv(uv, self.settings.texture_size)
        return Mesh(self.vertices, faces, uv=uv, texture=self.texture.image)


def _rows(maps: Tensor) -> NDArray[np.float32]:
    """Turn (1,C,S,S) into (S,S,C)."""
    return np.asarray(maps[0].permute(1, 2, 0).numpy(), np.float32)
