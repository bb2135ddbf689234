"""Cameras and photos of the FaceScape miniature: pinhole cameras with distortion, Lambert light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.miniature_facescape_surface import (
    DenseTopology,
    Skin,
    lookup,
    relief_weight,
    skin_coordinates,
)
from lit_face.geometry.cameras import look_at
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.precision import fp32_region
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize

Array = NDArray[Any]

# Yaw and pitch in degrees, in the order in which methods take them.
VIEWS = (
    (0, 0), (20, 0), (-20, 0), (40, 0), (-40, 0), (0, 20), (60, 0), (-60, 0), (25, -18), (-25, -18),
)  # fmt: skip
_DISTANCE, _FIELD = 1000.0, 275.0  # mm; height of what a portrait photo shows
_TARGET = (0.0, 0.0, 55.0)  # mm, head space: the middle of the picture
_JITTER = 2.0  # degrees
_OVERSAMPLED = 2
_NOISE = 1.5 / 255
_DISTORTION = 0.05  # k1
_AMBIENT = 0.18


@dataclass(frozen=True, eq=False)
class RawCamera:
    """A camera of the raw data, OpenCV's model.

    Attributes:
        K: (3,3) pixels. distortion: (5,) k1 k2 p1 p2 k3.
        rotation: (3,3) and translation: (3,), head space (mm) to the camera.
        size: height and width, pixels.
    """

    K: Array
    distortion: Array
    rotation: Array
    translation: Array
    size: tuple[int, int]

    def project(self, points: Array) -> Array:
        """Project (N,3) mm to distorted pixels and depth in mm (N,3)."""
        vector = cv2.Rodrigues(self.rotation)[0]
        depth = points.astype(np.float64) @ self.rotation[2] + self.translation[2]
        pixels = cv2.projectPoints(
            points.astype(np.float64), vector, self.translation, self.K, self.distortion
        )[0]
        return np.column_stack([pixels[:, 0], depth])


@dataclass(frozen=True, eq=False)
class Surface:
    """What is photographed.

    Attributes:
        points: (D,3) mm, head space.
        faces: (G,3).
        attributes: (D,9) float32: albedo in linear light, normal, place on the skin, its weight.
        color: (T,T,3) factor of the albedo over the skin.
    """

    points: Array
    faces: Array
    attributes: Array
    color: Array


def photographed(
    model: MorphableModel, dense: DenseTopology, points: Array, albedo: Array, skin: Skin
) -> Surface:
    """Gather what photos of a dense head (D,3) need; albedo (V,3) in linear light."""
    normals = vertex_normals(torch.from_numpy(points)[None], torch.from_numpy(dense.faces))[0]
    parts = [albedo, skin_coordinates(model), relief_weight(model)[:, None]]
    carried = dense.carry(np.column_stack(parts))
    attributes = np.column_stack([carried[:, :3], normals.numpy(), carried[:, 3:]])
    return Surface(points, dense.faces, np.ascontiguousarray(attributes, np.float32), skin.color)


def sample_camera(
    rng: np.random.Generator, yaw: float, pitch: float, size: tuple[int, int], *, is_rolled: bool
) -> RawCamera:
    """Place a camera at 1 m; a rolled one lies on its side and takes landscape photos.

    Args:
        rng: of the jitter.
        yaw: degrees to the subject's left.
        pitch: degrees up.
        size: height and width of a portrait photo.
        is_rolled: by 90 degrees, the top of the head on the left.
    """
    angles = np.radians(np.array([yaw, pitch]) + rng.uniform(-_JITTER, _JITTER, 2))
    sine, cosine = np.sin(angles), np.cos(angles)
    direction = np.array([sine[0] * cosine[1], sine[1], cosine[0] * cosine[1]])
    target = np.array(_TARGET) + rng.uniform(-5, 5, 3)
    eye = target + _DISTANCE * rng.uniform(0.97, 1.03) * direction
    up = np.array([np.sin(np.radians(rng.uniform(-_JITTER, _JITTER))), 1.0, 0.0])
    rotation, translation = (
        value[0].numpy()
        for value in look_at(*(torch.from_numpy(part)[None] for part in (eye, target, up)))
    )
    height, width = size
    focal = _DISTANCE / _FIELD * height * rng.uniform(0.99, 1.01)
    middle = np.array([width, height]) / 2 - 0.5 + rng.uniform(-0.02, 0.02, 2) * height
    K = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    if is_rolled:
        turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # x' = y, y' = -x
        rotation, translation = turn @ rotation, turn @ translation
        K[:2, 2] = middle[1], width - 1 - middle[0]
        size = width, height
    k1 = _DISTORTION * rng.uniform(0.8, 1.2)
    distortion = np.array([k1, 0.1 * k1 * rng.uniform(-1, 1), *rng.uniform(-2e-4, 2e-4, 2), 0.0])
    return RawCamera(K, distortion, rotation, translation, size)


def sample_lights(rng: np.random.Generator) -> Array:
    """Return three directions (3,3), head space, times their strength."""
    base = np.array([[-0.6, 0.45, 0.7], [0.8, 0.15, 0.6], [0.0, 0.9, 0.25]])
    direction = base + rng.uniform(-0.2, 0.2, (3, 3))
    strength = np.array([0.65, 0.4, 0.25]) * rng.uniform(0.8, 1.2, 3)
    return (
        np.asarray(direction / np.linalg.norm(direction, axis=1, keepdims=True)) * strength[:, None]
    )


@fp32_region()
@torch.no_grad()
def take_photo(
    rng: np.random.Generator, surface: Surface, camera: RawCamera, lights: Array
) -> NDArray[np.uint8]:
    """Render a photo (H,W,3), sRGB."""
    height, width = (_OVERSAMPLED * side for side in camera.size)
    scale = np.diag([_OVERSAMPLED, _OVERSAMPLED, 1.0])
    scale[:2, 2] = (_OVERSAMPLED - 1) / 2  # the centre of the first pixel stays at (0, 0)
    large = replace(camera, K=scale @ camera.K)
    image_vertices = torch.from_numpy(large.project(surface.points)).float()[None]
    faces = torch.from_numpy(surface.faces)
    seen = rasterize(image_vertices, faces, (height, width), perspective=True)
    fragments = fragments_of(image_vertices, faces, seen, perspective=True)
    values = fragments.interpolate(torch.from_numpy(surface.attributes)[None]).numpy()
    albedo, normal, place, weight = np.split(values, [3, 6, 8], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-6)
    light = _AMBIENT + np.maximum(normal @ lights.T.astype(np.float32), 0).sum(1, keepdims=True)
    color = albedo * (1 + weight * (lookup(surface.color, place) - 1)) * light
    picture = np.empty((height * width, 3), np.float32)
    picture[:] = rng.uniform(0.1, 0.2) * np.linspace(1.15, 0.85, height).repeat(width)[:, None]
    picture[fragments.pixel.numpy()] = color
    small = cv2.resize(
        picture.reshape(height, width, 3), camera.size[::-1], interpolation=cv2.INTER_AREA
    )
    srgb = linear_to_srgb(torch.from_numpy(small).clamp(0, 1)).numpy()
    noisy = srgb + _NOISE * rng.standard_normal(srgb.shape)
    return np.asarray(np.rint(noisy.clip(0, 1) * 255), np.uint8)
