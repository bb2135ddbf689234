"""Meshes: .obj with texture and material, .ply with colours, .glb with everything in one file."""

from __future__ import annotations

from pathlib import Path

from lit_face.inference.outputs.export import Export
from lit_face.io.images import write_image
from lit_face.io.meshes import write_mesh


def write_obj(export: Export, folder: Path) -> None:
    """Write mesh.obj, mesh.mtl and mesh_texture.png, or mesh.obj with colours of vertices.

    A face with albedo maps has mesh_specular.png besides.
    """
    write_mesh(folder / "mesh.obj", export.mesh(export.settings.mesh_color != "vertex"))


def write_ply(export: Export, folder: Path) -> None:
    """Write mesh.ply, binary, with colours of vertices."""
    write_mesh(folder / "mesh.ply", export.mesh(with_texture=False))


def write_glb(export: Export, folder: Path) -> None:
    """Write mesh.glb with the texture (and a PBR material), or colours of vertices, inside."""
    write_mesh(folder / "mesh.glb", export.mesh(export.settings.mesh_color != "vertex"))


def write_texture(export: Export, folder: Path) -> None:
    """Write texture.png, and texture_visible.png: white where the photo shows the face."""
    write_image(folder / "texture.png", export.texture.image)
    write_image(folder / "texture_visible.png", export.texture.visible.astype("uint8") * 255)
