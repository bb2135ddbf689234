"""Writing .glb: one binary file with mesh, normals, texture and a material (glTF 2.0, Khronos)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.materials import Surface, gltf_maps, linear_to_srgb, png

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT, _UNSIGNED_SHORT = 5126, 5125, 5123
_SPECULAR = "KHR_materials_specular"
_VERTEX_DATA, _INDICES = 34962, 34963
_LINEAR, _LINEAR_MIPMAPS, _CLAMP = 9729, 9987, 33071


def glb_bytes(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int64],
    normals: NDArray[np.float32],
    uv: NDArray[np.float32] | None = None,
    colors: NDArray[np.float32] | None = None,
    texture: NDArray[np.uint8] | None = None,
    surface: Surface | None = None,
    normal_map: NDArray[np.uint8] | None = None,
) -> bytes:
    """Return the content of a .glb file.

    The material is physically based. Without a surface it has metallic 0, roughness 1, and a
    photo's light stays in the texture.

    Args:
        vertices: (V,3).
        faces: (F,3), counter-clockwise seen from outside.
        normals: (V,3) unit; a zero one becomes (0, 0, 1), as the format allows no other length.
        uv: (V,2), u right, v up (the file's v points down).
        colors: (V,3) sRGB in [0,1]; the file holds them linear, 16 bits.
        texture: (H,W,3) uint8 sRGB, row 0 at v = 1.
        surface: how the texture, then a diffuse albedo, reflects besides.
        normal_map: (H,W,3) uint8 beside the texture, see `lit_face.io.meshes.Mesh`.
    """
    parts = _Parts()
    normals = np.where(np.abs(normals).sum(1, keepdims=True) > 0, normals, (0, 0, 1))
    attributes = {
        "POSITION": parts.accessor(vertices, "VEC3", _FLOAT, bounds=True),
        "NORMAL": parts.accessor(normals, "VEC3", _FLOAT),
    }
    if uv is not None:
        down = np.column_stack([uv[:, 0], 1 - uv[:, 1]])
        attributes["TEXCOORD_0"] = parts.accessor(down, "VEC2", _FLOAT)
    if colors is not None:
        linear = np.rint(_linear(colors) * 65535)
        opaque = np.column_stack([linear, np.full(len(linear), 65535)])
        attributes["COLOR_0"] = parts.accessor(opaque, "VEC4", _UNSIGNED_SHORT, normalized=True)
    indices = parts.accessor(faces.reshape(-1), "SCALAR", _UNSIGNED_INT, target=_INDICES)
    look: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    material: dict[str, Any] = {"name": "face", "pbrMetallicRoughness": look}
    content: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "lit_face"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "face"}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [material],
    }
    pictures = [] if texture is None else [texture]
    if texture is not None:
        look["baseColorTexture"] = {"index": 0}
    if surface is not None:
        rough, color, factor = gltf_maps(surface)
        pictures += [rough, color]
        look["metallicRoughnessTexture"] = {"index": 1}
        material["extensions"] = {
            _SPECULAR: {
                "specularColorTexture": {"index": 2},
                "specularColorFactor": [factor] * 3,
            }
        }
        content["extensionsUsed"] = [_SPECULAR]
    if normal_map is not None:
        material["normalTexture"] = {"index": len(pictures)}
        pictures.append(normal_map)
    if pictures:
        content |= _textures(pictures, parts)
    content |= {"accessors": parts.accessors, "bufferViews": parts.views}
    content["buffers"] = [{"byteLength": len(parts.data)}]
    return _container(json.dumps(content, separators=(",", ":")).encode(), bytes(parts.data))


def glb_colors(data: bytes) -> NDArray[np.float32] | None:
    """Read the vertex colours (V,3), sRGB in [0,1], of a .glb file with one mesh, if it has any.

    trimesh keeps 8 bits of linear colours, which is too few for dark ones.
    """
    length = struct.unpack_from("<I", data, 12)[0]
    content = json.loads(data[20 : 20 + length])
    primitives = [p for mesh in content.get("meshes", []) for p in mesh["primitives"]]
    if len(primitives) != 1 or "COLOR_0" not in primitives[0]["attributes"]:
        return None
    accessor = content["accessors"][primitives[0]["attributes"]["COLOR_0"]]
    view = content["bufferViews"][accessor["bufferView"]]
    dtype = {_FLOAT: "<f4", _UNSIGNED_SHORT: "<u2", 5121: "u1"}[accessor["componentType"]]
    channels = {"VEC3": 3, "VEC4": 4}[accessor["type"]]
    if view.get("byteStride") or "buffer" not in view:
        return None
    start = 28 + length + view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(data, dtype, accessor["count"] * channels, start)
    scale = 1.0 if dtype == "<f4" else float(np.iinfo(dtype).max)
    return linear_to_srgb(values.reshape(-1, channels)[:, :3] / scale)


def _textures(pictures: list[NDArray[np.uint8]], parts: _Parts) -> dict[str, Any]:
    """Store pictures; return the lists that describe them."""
    sampler = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAPS, "wrapS": _CLAMP, "wrapT": _CLAMP}
    return {
        "images": [{"mimeType": "image/png", "bufferView": parts.view(png(p))} for p in pictures],
        "samplers": [sampler],
        "textures": [{"source": number, "sampler": 0} for number in range(len(pictures))],
    }


@dataclass
class _Parts:
    """The binary chunk under construction, and what describes it."""

    data: bytearray = field(default_factory=bytearray)
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)

    def view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to 4; return the index of their buffer view."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view | ({} if target is None else {"target": target}))
        self.data += content + bytes(-len(content) % 4)
        return len(self.views) - 1

    def accessor(
        self,
        values: NDArray[Any],
        kind: str,
        component: int,
        target: int = _VERTEX_DATA,
        normalized: bool = False,
        bounds: bool = False,
    ) -> int:
        """Append an array; return the index of its accessor."""
        dtype = {_FLOAT: "<f4", _UNSIGNED_INT: "<u4", _UNSIGNED_SHORT: "<u2"}[component]
        array = np.ascontiguousarray(values, dtype=dtype)
        entry: dict[str, Any] = {
            "bufferView": self.view(array.tobytes(), target),
            "componentType": component,
            "count": len(array),
            "type": kind,
        }
        if normalized:
            entry["normalized"] = True
        if bounds:
            entry |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(entry)
        return len(self.accessors) - 1


def _container(content: bytes, data: bytes) -> bytes:
    content += b" " * (-len(content) % 4)
    chunks = struct.pack("<II", len(content), _JSON) + content
    chunks += struct.pack("<II", len(data), _BIN) + data
    return struct.pack("<III", _MAGIC, _VERSION, 12 + len(chunks)) + chunks


def _linear(srgb: NDArray[np.float32]) -> NDArray[np.float64]:
    clipped = np.clip(srgb.astype(np.float64), 0, 1)
    return np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4)
