"""Files of the FaceScape miniature, in the raw layout: photos, cameras, scans, toolkit models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.facescape_layout import sample_id
from lit_face.data.miniature_facescape_pictures import (
    VIEWS,
    RawCamera,
    Surface,
    sample_camera,
    sample_lights,
    take_photo,
)
from lit_face.data.miniature_facescape_surface import (
    DenseTopology,
    Skin,
    lookup,
    relief_weight,
    skin_coordinates,
)
from lit_face.geometry.uv_template import rasterize_template
from lit_face.io.images import write_image
from lit_face.io.meshes import Mesh, write_mesh
from lit_face.io.obj import obj_text
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.facescape.writer import FaceTemplate
from lit_face.rendering.color import linear_to_srgb

Array = NDArray[Any]

JPEG_QUALITY = 95
RELIEF_MM = 0.914  # of FaceScape's displacement maps: 65536 is this, 32768 is 0
_LANDMARK_NOISE = 1 / 324  # of the photo's height
_BROW, _HOLE_MM = 19, 6.0  # the landmark in the middle of the scan's hole, its radius


@dataclass(frozen=True, eq=False)
class Tuple:
    """One expression of one person.

    Attributes:
        person: number. expression: number. folder: its name, "2_smile".
        named: the built-in head's name of the expression.
        view_numbers: (N+1,) the file names of the views in the order of `VIEWS`; last the
            invalid one.
        is_rolled: the cameras lie on their sides.
    """

    person: int
    expression: int
    folder: str
    named: str
    view_numbers: Array
    is_rolled: bool

    @property
    def name(self) -> str:
        """The sample's name, "001_02"."""
        return sample_id(self.person, self.expression)

    @property
    def path(self) -> Path:
        """Person and expression as folders."""
        return Path(str(self.person)) / self.folder


@dataclass(frozen=True, eq=False)
class Similarity:
    """From structure from motion's frame to mm: x_mm = rotation (scale x) + translation."""

    scale: float
    rotation: Array
    translation: Array

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Similarity:
        """Draw any rotation, 60 to 180 mm a unit, and an offset."""
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        rotation *= np.linalg.det(rotation)
        return cls(float(rng.uniform(60, 180)), rotation, rng.uniform(-200, 200, 3))

    def to_units(self, points_mm: Array) -> Array:
        """Move points (N,3) from mm."""
        return np.asarray((points_mm - self.translation) @ self.rotation / self.scale)

    def camera(self, camera: RawCamera) -> Array:
        """Return a camera's Rt (3,4) for points in units."""
        offset = camera.rotation @ self.translation + camera.translation
        return np.column_stack([camera.rotation @ self.rotation, offset / self.scale])


def write_photos(
    folder: Path,
    item: Tuple,
    surface: Surface,
    landmarks: Array,
    frame: Similarity,
    views: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Write photos, params.json and landmarks.json (68 points in distorted pixels)."""
    out = folder / "imgs" / item.path
    lights = sample_lights(rng)
    params: dict[str, Any] = {}
    found: dict[str, Any] = {}
    # The last view is there to be dropped: its pose is another one's.
    for number, place in zip(item.view_numbers.tolist(), [*range(views), None], strict=True):
        yaw, pitch = VIEWS[place or 0]
        camera = sample_camera(rng, yaw, pitch, size, is_rolled=item.is_rolled)
        photo = take_photo(rng, surface, camera, lights)
        write_image(out / f"{number}.jpg", photo, JPEG_QUALITY)
        pixels = camera.project(landmarks)[:, :2]
        pixels += rng.standard_normal(pixels.shape) * _LANDMARK_NOISE * size[0]
        score = float(rng.uniform(0.85, 0.99))
        found[str(number)] = None
        if place is None:
            camera = sample_camera(rng, 90, 0, size, is_rolled=item.is_rolled)
        else:
            found[str(number)] = {"points": pixels.round(3).tolist(), "score": round(score, 3)}
        entries = _entries(camera, frame, place is not None, number, rng)
        params |= {f"{number}_{key}": value for key, value in entries.items()}
    (out / "params.json").write_text(json.dumps(params), encoding="utf-8")
    (out / "landmarks.json").write_text(json.dumps(found), encoding="utf-8")


def write_scan(
    folder: Path,
    item: Tuple,
    points: Array,
    dense: DenseTopology,
    frame: Similarity,
    landmarks: Array,
) -> None:
    """Write the raw scan in units, with a hole in a brow."""
    faces = dense.faces[dense.is_scanned]
    centres = points[faces].mean(1)
    faces = faces[np.linalg.norm(centres - landmarks[_BROW], axis=1) > _HOLE_MM]
    used = np.unique(faces)
    index = np.full(len(points), -1)
    index[used] = np.arange(len(used))
    path = folder / "mesh" / str(item.person) / f"{item.folder}.ply"
    write_mesh(path, Mesh(frame.to_units(points[used]), index[faces]))


def write_toolkit_model(
    folder: Path,
    item: Tuple,
    model: MorphableModel,
    template: FaceTemplate,
    vertices: Array,
    albedo: Array,
    skin: Skin,
) -> None:
    """Write the registered model with texture, and the 16-bit map of the finer relief.

    Args:
        folder: of the dataset.
        item: the sample.
        model: head model.
        template: its face.
        vertices: (V,3) of the head with the wide undulations, mm.
        albedo: (V,3) linear light.
        skin: maps.
    """
    out = folder / "tu" / str(item.person)
    (out / "models_reg").mkdir(parents=True, exist_ok=True)
    vertex, faces = template.vertex.numpy(), template.faces.numpy()
    text = obj_text(vertices[vertex], faces, template.uv.numpy())
    (out / "models_reg" / f"{item.folder}.obj").write_text(text, encoding="utf-8")
    size = len(skin.meso)
    texels = rasterize_template(template.uv.numpy(), faces, faces, size)
    attributes = np.column_stack([albedo, skin_coordinates(model), relief_weight(model)])[vertex]
    values = (attributes[texels.vertices] * texels.weights[..., None]).sum(1)
    place, weight = values[:, 3:5].astype(np.float32), values[:, 5]
    colors = np.zeros((size, size, 3), np.float32)
    factor = 1 + weight[:, None] * (lookup(skin.color, place) - 1)
    colors[texels.rows, texels.columns] = values[:, :3] * factor
    srgb = linear_to_srgb(torch.from_numpy(colors).clamp(0, 1)).numpy()
    texture = np.rint(srgb * 255).astype(np.uint8)
    write_image(out / "models_reg" / f"{item.folder}.jpg", texture, JPEG_QUALITY)
    relief = np.full((size, size), 32768, np.uint16)
    levels = np.rint(weight * lookup(skin.meso, place) / RELIEF_MM * 32768) + 32768
    relief[texels.rows, texels.columns] = levels.clip(0, 65535)
    (out / "dpmap").mkdir(exist_ok=True)
    path = out / "dpmap" / f"{item.folder}.png"
    if not cv2.imwrite(str(path), relief):
        raise OSError(f"{path}: OpenCV could not write the picture; is the disk full?")


def _entries(
    camera: RawCamera, frame: Similarity, is_valid: bool, number: int, rng: np.random.Generator
) -> dict[str, Any]:
    height, width = camera.size
    return {
        "K": camera.K.tolist(),
        "Rt": frame.camera(camera).tolist(),
        "distortion": camera.distortion.tolist(),
        "width": width,
        "height": height,
        "matches": int(rng.integers(500, 5000)),
        "valid": is_valid,
        "sn": f"{1000 + number}",
        "ori": f"IMG_{number:04d}.JPG",
    }
