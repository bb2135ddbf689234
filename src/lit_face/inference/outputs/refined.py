"""The colours that a method gives the vertices, coarse and refined: meshes, textures, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.meshes import vertex_normals
from lit_face.inference.crops import cut_out
from lit_face.inference.outputs.export import Export
from lit_face.inference.scene import crop_of
from lit_face.inference.textures import padded, resampling_of
from lit_face.io.images import write_image
from lit_face.io.meshes import Mesh, write_mesh
from lit_face.rendering.renderer import RasterRenderer, apply_shading, normals_to_camera
from lit_face.rendering.shade import sh_shading
from lit_face.types import Camera, Reconstruction

SIZE = 256  # of the pictures, pixels
GAIN = 4  # of the differences


class _Colored(NamedTuple):
    """What a face with colours of vertices has: albedo (1,V,3) by the name of its files."""

    albedo: dict[str, Tensor]
    camera: Camera
    light: Tensor

    @classmethod
    def of(cls, face: Reconstruction) -> _Colored:
        """Take them from a face.

        Raises:
            ValueError: the method gives no colours of vertices, camera or light.
        """
        camera, light = face.camera, face.light
        if not has_colors(face) or camera is None or not isinstance(light, Tensor):
            raise ValueError(
                "outputs: refined and comparison need a method that gives vertices colours, and "
                "estimates light and a camera (gcn, deep3d); this one does not."
            )
        colors = {name: value.clamp(0, 1) for name, value in (face.vertex_colors or {}).items()}
        if "coarse_albedo" in colors:
            albedo = {"coarse": colors["coarse_albedo"], "refined": colors["albedo"]}
        else:
            albedo = {"albedo": colors["albedo"]}
        return cls(albedo, camera, light)

    def lit(self, face: Reconstruction, albedo: Tensor) -> Tensor:
        """Return (1,V,3) colours under the photo's light, clipped to [0,1]."""
        normals = normals_to_camera(vertex_normals(face.vertices, face.faces), self.camera)
        shading = sh_shading(normals, self.light)
        return apply_shading(albedo, shading, linear_light=True).clamp(0, 1)


def has_colors(face: Reconstruction) -> bool:
    """Whether a face has colours of vertices, and the light and camera to show them with."""
    has_albedo = "albedo" in (face.vertex_colors or {})
    return has_albedo and face.camera is not None and isinstance(face.light, Tensor)


def write_refined(export: Export, folder: Path) -> None:
    """Write meshes and textures of the coarse and of the refined albedo.

    For coarse and refined: .obj and .glb with colours of vertices, <name>_texture.png with the same
    colours on the UV layout (corner-aligned, `texture_size` texels), and <name>_lit.glb with the
    colours under the photo's light. The same files begin with albedo where a method does not
    refine.
    """
    face = export.face.reconstruction
    colored = _Colored.of(face)
    for name, albedo in colored.albedo.items():
        mesh = _mesh(export, albedo)
        write_mesh(folder / f"{name}.obj", mesh)
        write_mesh(folder / f"{name}.glb", mesh)
        write_mesh(folder / f"{name}_lit.glb", _mesh(export, colored.lit(face, albedo)))
        texture = _baked(face, albedo, export.settings.texture_size)
        write_image(folder / f"{name}_texture.png", texture)


def write_comparison(export: Export, folder: Path) -> None:
    """Write comparison.png: input, coarse, refined, both albedos, and what is left to the input.

    The last picture is four times the absolute difference between refined and input. Pictures are
    crops of the photo, 256 pixels a side, with the face laid over; albedo lies on black. A method
    that does not refine has one picture and one albedo.
    """
    write_image(folder / "comparison.png", draw_comparison(export))


@torch.no_grad()
def draw_comparison(export: Export, size: int = SIZE) -> NDArray[np.uint8]:
    """Return the pictures of a comparison side by side, (S,6 S,3)."""
    face = export.face.reconstruction
    colored = _Colored.of(face)
    matrix = crop_of(face, size)
    photo = cut_out(export.photo, matrix[0], size)
    camera, render = colored.camera.warped(matrix), RasterRenderer()
    lit, bare = [], []
    for albedo in colored.albedo.values():
        shown, plain = (
            render(face.vertices, face.faces, camera, (size, size), albedo, light)
            for light in (colored.light, None)
        )
        lit.append(photo + shown.mask * (shown.image.clamp(0, 1) - photo))
        bare.append(plain.image)
    difference = GAIN * (lit[-1] - photo).abs()
    return _pixels(torch.cat([photo, *lit, *bare, difference], dim=-1))


def _mesh(export: Export, colors: Tensor) -> Mesh:
    faces = export.face.reconstruction.faces.numpy()
    return Mesh(export.vertices, faces, colors=colors[0].numpy())


def _baked(face: Reconstruction, colors: Tensor, size: int) -> NDArray[np.uint8]:
    """Return (S,S,3): colours of vertices on the UV layout."""
    resampling = resampling_of(face.uv, face.faces, size)
    image = resampling.to_map(resampling.apply(colors[0]))
    return padded(_pixels(image[None]), resampling.mask.numpy())


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """Turn (1,3,H,W) into (H,W,3)."""
    return (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
