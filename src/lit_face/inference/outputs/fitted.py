"""What a fit found: its parameters, its losses, and the albedo that the photo shows."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lit_face
from lit_face.data.texture_maps import TextureMap, write_texture_map
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.inference.outputs.export import Export
from lit_face.inference.scene import FaceScene
from lit_face.io.images import write_image
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.shade import sh_shading
from lit_face.rendering.texture_extraction import (
    ExtractedTexture,
    TextureExtractor,
    divide_shading,
    extractor_of,
)

UV_FILE = "uv.npz"


def write_parameters(export: Export, folder: Path) -> None:
    """Write parameters.npz: the numbers that make the face, readable without pickle.

    Coefficients by name (standard deviations), `joints` (J,3) axis-angle where the model has some,
    `light` (K,3) as in light.npz, `camera_matrix` (3,4) head space to pixels and depth of the
    photo (or intrinsics, rotation and translation), `unit`, the fit's errors, and the version.
    """
    face = export.face
    arrays: dict[str, Any] = {
        name: value[0].numpy() for name, value in (face.reconstruction.coefficients or {}).items()
    }
    arrays |= _camera(face.reconstruction.camera)
    if isinstance(face.reconstruction.light, Tensor):
        arrays["light"] = face.reconstruction.light[0].numpy()
    arrays |= {name: np.float32(value) for name, value in face.fit.items()}
    arrays |= {"unit": np.array(face.reconstruction.unit)}
    arrays |= {"version": np.array(lit_face.__version__)}
    np.savez_compressed(folder / "parameters.npz", **arrays)


def write_trace(export: Export, folder: Path) -> None:
    """Write trace.csv: weighted losses, a line a step; nothing for methods that keep none."""
    trace: Mapping[str, list[float]] = export.face.trace
    if not trace:
        return
    with (folder / "trace.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("step", *trace))
        for step, values in enumerate(zip(*trace.values(), strict=True)):
            writer.writerow((step, *(f"{value:.6g}" for value in values)))


def write_uv(export: Export, folder: Path) -> None:
    """Write the albedo that the photo shows: uv.npz, and the same as uv.png, black elsewhere.

    The photo's colours, in linear light, over the fit's shading; texel-centred maps of
    `texture_size` texels (`lit_face.data.texture_maps`). What the skin mask leaves out is not
    visible.
    """
    scene = export.scene
    extractor = _extractor(export, export.settings.texture_size)
    found = extractor(srgb_to_linear(scene.photo), scene.face.image_vertices, scene.skin_mask)
    albedo = linear_to_srgb(_albedo(found, scene).clamp(0, 1))
    color = np.rint(255 * _rows(albedo)).astype(np.uint8)
    visible = found.visible[0, 0].numpy()
    confidence = np.rint(255 * found.confidence[0, 0].numpy()).astype(np.uint8)
    write_texture_map(folder / UV_FILE, TextureMap(color, visible, confidence))
    write_image(folder / "uv.png", color * visible[..., None])


def _albedo(found: ExtractedTexture, scene: FaceScene) -> Tensor:
    normals = found.normals.permute(0, 2, 3, 1)
    shading = sh_shading(normals, scene.light).permute(0, 3, 1, 2)
    return divide_shading(found.color, shading)


def _extractor(export: Export, size: int) -> TextureExtractor:
    reconstruction = export.face.reconstruction
    uv, faces = reconstruction.uv.numpy(), reconstruction.faces.numpy()
    return _extractor_of(uv.tobytes(), faces.tobytes(), size)


@lru_cache(maxsize=2)
def _extractor_of(uv: bytes, faces: bytes, size: int) -> TextureExtractor:
    """Build the extractor of a mesh once for all photos of a run."""
    corners = torch.from_numpy(np.frombuffer(faces, np.int64).reshape(-1, 3).copy())
    places = torch.from_numpy(np.frombuffer(uv, np.float32).reshape(-1, 2).copy())
    return extractor_of(places, corners, corners, size)


def _camera(camera: Any) -> dict[str, NDArray[np.float32]]:
    if camera is None:
        return {}
    if isinstance(camera, PerspectiveCamera):
        names = ("intrinsics", "rotation", "translation")
        return {f"camera_{name}": getattr(camera, name)[0].numpy() for name in names}
    return {"camera_matrix": camera.matrix[0].numpy()}


def _rows(maps: Tensor) -> NDArray[np.float32]:
    return np.asarray(maps[0].permute(1, 2, 0).numpy(), np.float32)
