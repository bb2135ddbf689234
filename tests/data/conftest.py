"""A toy face of 72 vertices and pictures without a renderer: loaders are tested in milliseconds."""

import numpy as np
import pytest
import torch
from scipy.spatial import Delaunay

from lit_face.data.landmarks import project_landmarks
from lit_face.data.miniature_aflw2000 import write_aflw2000
from lit_face.data.miniature_w300lp import write_w300lp
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.winding import outward_faces


def _ring(centre, width, height, start, stop, count):
    angle = np.radians(np.linspace(start, stop, count))
    return np.stack([centre[0] + width * np.cos(angle), centre[1] + height * np.sin(angle)], 1)


def _template():
    """68 points (x, y) in mm, y up, the subject's right (image left) first."""
    eye = [180, 120, 60, 0, -60, -120]
    outer = [180, 150, 115, 90, 65, 30, 0, -30, -65, -90, -115, -150]
    inner = [180, 135, 90, 45, 0, -45, -90, -135]
    at = lambda centre, w, h, angles: np.concatenate(  # noqa: E731
        [_ring(centre, w, h, angle, angle, 1) for angle in angles]
    )
    return np.concatenate([
        _ring((0, 0), 70, 80, 180, 360, 17),
        _ring((-30, 30), 20, 12, 160, 20, 5), _ring((30, 30), 20, 12, 160, 20, 5),
        np.stack([np.zeros(4), np.linspace(25, -5, 4)], 1), _ring((0, -12), 14, 5, 180, 360, 5),
        at((-31, 22), 15, 5, eye), at((31, 22), 15, 5, eye),
        at((0, -42), 25, 10, outer), at((0, -42), 18, 4, inner),
    ])  # fmt: skip


@pytest.fixture(scope="session")
def toy_model() -> MorphableModel:
    corners = np.array([[-75, -85], [75, -85], [75, 60], [-75, 60]])
    flat = np.concatenate([_template(), corners])
    depth = 60 - 0.008 * (flat**2).sum(1)
    vertices = np.concatenate([flat, depth[:, None]], 1).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    count = len(vertices)
    arrays = ModelArrays(
        mean=torch.from_numpy(vertices),
        faces=torch.from_numpy(outward_faces(vertices, Delaunay(flat).simplices)),
        uv=torch.from_numpy(((flat + 90) / 180).astype(np.float32)),
        landmark_index=torch.arange(68),
        identity_basis=torch.randn(count, 3, 12, generator=generator),
        expression_basis=torch.randn(count, 3, 31, generator=generator) * 0.5,
        identity_std=torch.linspace(9e5, 1e4, 12),
        expression_std=torch.linspace(1.0, 0.1, 31),
        albedo_mean=torch.full((count, 3), 0.6),
        albedo_basis=torch.randn(count, 3, 5, generator=generator) * 0.05,
        regions={"face": torch.ones(count)},
    )
    return MorphableModel(arrays, "toy")


def dot_pictures(model, coefficients, camera, keys, size):
    """Grey pictures with a bright dot at every landmark, at zero-based pixels."""
    images = torch.full((len(camera), 3, *size), 0.4)
    points = project_landmarks(model, coefficients, camera)[..., :2].round().long()
    for row, face in enumerate(points.clamp(1, size[0] - 2).tolist()):
        for x, y in face:
            images[row, :, y - 1 : y + 2, x - 1 : x + 2] = 1.0
    return images


@pytest.fixture(scope="session")
def w300lp_folder(toy_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("300w_lp")
    write_w300lp(folder, toy_model, "default", dot_pictures)
    return folder / "300W_LP"


@pytest.fixture(scope="session")
def w300lp_test_folder(toy_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("300w_lp_test")
    write_w300lp(folder, toy_model, "test", dot_pictures)
    return folder / "300W_LP"


@pytest.fixture(scope="session")
def aflw2000_folder(toy_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aflw2000")
    write_aflw2000(folder, toy_model, dot_pictures)
    return folder / "AFLW2000"
