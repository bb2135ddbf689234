"""Mesh files in and out: .obj, .ply and .glb, with the order of vertices kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from trimesh.visual.material import SimpleMaterial
from trimesh.visual.texture import TextureVisuals

from lit_face.geometry.meshes import vertex_normals
from lit_face.io.files import atomic_write
from lit_face.io.glb import glb_bytes, glb_colors
from lit_face.io.images import read_image
from lit_face.io.materials import Surface, material_files
from lit_face.io.obj import obj_text, read_obj

SUFFIXES = (".obj", ".ply", ".glb")


@dataclass(eq=False)
class Mesh:
    """A triangle mesh with what files can hold. Arrays (or CPU tensors) are converted and checked.

    Attributes:
        vertices: (V,3) float32; files carry no unit, lit_face writes millimetres.
        faces: (F,3) int64, counter-clockwise seen from outside.
        uv: (V,2) float32, u right, v up, row 0 of the texture at v = 1.
        colors: (V,3) float32 sRGB in [0,1]; files keep 8 bits.
        texture: (H,W,3) uint8 sRGB, or the path of an image file.
        surface: how the texture, then a diffuse albedo, reflects besides (`Surface`).
        normal_map: (H,W,3) uint8 beside the texture: unit vectors as (n + 1) / 2, to the right and
            up on the texture, and outwards.

    Raises:
        ValueError: no vertices or faces, shapes or indices that do not fit, or a texture without
            uv or beside colours (which of the two should a viewer show?), or a normal map without.
    """

    vertices: Any  # what is given is converted: read as NDArray[np.float32], and so on
    faces: Any
    uv: Any | None = None
    colors: Any | None = None
    texture: Any | None = None
    surface: Surface | None = None
    normal_map: Any | None = None

    def __post_init__(self) -> None:
        self.vertices = _array("vertices", self.vertices, 3)
        self.faces = np.asarray(self.faces, dtype=np.int64)
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or not len(self.faces):
            raise ValueError(f"mesh: faces should be (F,3), F > 0, found {self.faces.shape}.")
        if self.faces.min() < 0 or self.faces.max() >= len(self.vertices):
            raise ValueError(
                f"mesh: faces use vertices {self.faces.min()} to {self.faces.max()}, "
                f"but there are {len(self.vertices)}."
            )
        for name, columns in (("uv", 2), ("colors", 3)):
            value = getattr(self, name)
            if value is not None:
                value = _array(name, value, columns)
                setattr(self, name, value)
                if len(value) != len(self.vertices):
                    raise ValueError(
                        f"mesh: {name} has {len(value)} rows for {len(self.vertices)} vertices."
                    )
        if isinstance(self.texture, str | Path):
            self.texture = read_image(self.texture)
        if self.texture is not None and self.uv is None:
            raise ValueError("mesh: a texture needs uv.")
        if self.surface is not None and self.texture is None:
            raise ValueError("mesh: a surface needs a texture, its diffuse albedo.")
        if self.texture is not None and self.colors is not None:
            raise ValueError("mesh: give colors or a texture, not both.")
        if self.normal_map is not None and self.texture is None:
            raise ValueError("mesh: a normal map needs a texture beside it.")


def write_mesh(path: str | Path, mesh: Mesh) -> None:
    """Write a mesh; the suffix chooses the format. Readers never meet half a file.

    .obj: text; a texture goes to `<stem>_texture.png` and `<stem>.mtl` beside it, by relative
    names, a surface's reflectance to `<stem>_specular.png`, a normal map to `<stem>_normal.png`.
    .ply: binary. .glb: one binary file with normals, a physically based material and the pictures
    inside. Where there are colours, uv is left out (no reader could tell which to show).

    Raises:
        ValueError: another suffix, or a texture in .ply, which cannot hold one.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix == ".ply" and mesh.texture is not None:
        raise ValueError(f"{path}: .ply holds no texture; write .obj or .glb.")
    uv = mesh.uv if mesh.colors is None else None
    files: dict[str, bytes] = {}
    if suffix == ".obj":
        material = None
        if mesh.texture is not None:
            material = f"{path.stem}.mtl", f"{path.stem}_texture"
            files = material_files(path.stem, mesh.texture, mesh.surface, mesh.normal_map)
        data = obj_text(mesh.vertices, mesh.faces, uv, mesh.colors, material).encode()
    elif suffix == ".glb":
        normals = _normals(mesh.vertices, mesh.faces)
        data = glb_bytes(
            mesh.vertices, mesh.faces, normals, uv, mesh.colors, mesh.texture, mesh.surface,
            mesh.normal_map,
        )  # fmt: skip
    else:
        data = _ply_bytes(mesh, uv)
    for name, content in {**files, path.name: data}.items():  # the mesh last: then all is there
        with atomic_write(path.parent / name) as temporary:
            temporary.write_bytes(content)


def _ply_bytes(mesh: Mesh, uv: NDArray[np.float32] | None) -> bytes:
    model = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, validate=False)
    if mesh.colors is not None:
        model.visual.vertex_colors = np.rint(mesh.colors.clip(0, 1) * 255).astype(np.uint8)
    elif uv is not None:
        model.visual = TextureVisuals(uv=uv.astype(np.float64), material=SimpleMaterial())
    return bytes(model.export(file_type="ply"))


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    return vertex_normals(torch.from_numpy(vertices)[None], torch.from_numpy(faces))[0].numpy()


def read_mesh(path: str | Path) -> Mesh:
    """Read a mesh; several parts are joined.

    Vertices keep their order. In .obj files, a vertex with several texture coordinates gets copies,
    which come after all vertices of the file.

    Raises:
        FileNotFoundError: no such file, or a material or texture that it names is missing.
        ValueError: another suffix, or no triangles in it; the message names the file.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"No mesh file {path}.")
    try:
        vertices, faces, uv, colors, texture = (
            read_obj(path) if suffix == ".obj" else _read_with_trimesh(path)
        )
        if texture is not None and uv is not None:
            return Mesh(vertices, faces, uv, None, texture)
        return Mesh(vertices, faces, uv, colors)
    except FileNotFoundError:
        raise
    except Exception as error:  # trimesh raises whatever its parsers meet
        raise ValueError(f"{path}: not a {suffix} mesh that can be read: {error}") from error


def _read_with_trimesh(path: Path) -> tuple[Any, Any, Any, Any, NDArray[np.uint8] | None]:
    """Return vertices, faces, uv, colours and texture; None for what the file lacks."""
    model = trimesh.load_mesh(path, process=False, maintain_order=True, fix_texture=False)
    if isinstance(model, trimesh.Scene):
        model = model.to_mesh()
    vertices, faces, visual = np.asarray(model.vertices), np.asarray(model.faces), model.visual
    if path.suffix.lower() == ".glb":
        linear = glb_colors(path.read_bytes())
        if linear is not None and len(linear) == len(vertices):
            return vertices, faces, None, linear, None
    if not isinstance(visual, TextureVisuals):
        colors = visual.vertex_colors[:, :3] / 255.0 if visual.kind == "vertex" else None
        return vertices, faces, None, colors, None
    raw = model.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    if raw is not None and {"s", "t"} <= set(raw.dtype.names):  # as written, for every vertex
        return vertices, faces, np.column_stack([raw["s"], raw["t"]]), None, None
    image = getattr(visual.material, "image", None)
    image = image or getattr(visual.material, "baseColorTexture", None)
    texture = None if image is None else np.asarray(image.convert("RGB"))
    return vertices, faces, visual.uv, None, texture


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: unknown mesh format {suffix!r}; use one of {SUFFIXES}.")
    return suffix


def _array(name: str, value: Any, columns: int) -> NDArray[np.float32]:
    array = np.asarray(value, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != columns or not len(array):
        raise ValueError(f"mesh: {name} should be (V,{columns}), V > 0, found {array.shape}.")
    return array
