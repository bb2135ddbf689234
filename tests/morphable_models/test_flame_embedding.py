"""Landmarks of one's own."""

import numpy as np
import pytest
import torch

from lit_face.morphable_models.flame.embedding import (
    embed_points,
    read_point_embedding,
    write_point_embedding,
)
from lit_face.morphable_models.flame.files import read_flame
from lit_face.morphable_models.flame.landmarks import points_on
from lit_face.morphable_models.flame.side_files import read_embedding
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def toy(reference):
    return reference / "flame" / "toy_model"


@pytest.fixture(scope="module")
def template(toy):
    raw = read_flame(toy / "toy_generic_model.npz")
    return raw.template, raw.faces


def test_points_of_the_released_embedding_are_found_again(toy, template, tmp_path):
    vertices, faces = template
    released = read_embedding(toy / "toy_landmark_embedding.npz")
    truth = points_on(vertices[None], faces, released["static_faces"], released["static_weights"])
    found = embed_points(truth[0], vertices, faces)
    assert found.distance.max() < 1e-6
    path = write_point_embedding(tmp_path / "mine.npz", found)
    again = points_on(vertices[None], faces, *read_point_embedding(path))
    assert_close(again, truth, atol=1e-6, rtol=0)
    inner = released["static_weights"].min(1).values > 1e-3  # not on an edge of two faces
    assert torch.equal(found.faces[inner], released["static_faces"][inner])


def test_points_off_the_surface_land_on_it(template):
    vertices, faces = template
    centre = vertices[faces[:5]].mean(1)
    normal = torch.linalg.cross(
        vertices[faces[:5, 1]] - vertices[faces[:5, 0]],
        vertices[faces[:5, 2]] - vertices[faces[:5, 0]],
    )
    off = centre + 1e-3 * torch.nn.functional.normalize(normal, dim=1)
    found = embed_points(off, vertices, faces)
    assert torch.equal(found.faces, torch.arange(5))
    assert_close(found.distance, torch.full((5,), 1e-3), atol=1e-6, rtol=0)
    assert_close(found.weights, torch.full((5, 3), 1 / 3), atol=1e-4, rtol=0)


def test_wrong_points_and_files_are_refused(template, tmp_path):
    with pytest.raises(ValueError, match=r"\(N,3\)"):
        embed_points(torch.zeros(3), *template)
    np.savez(tmp_path / "a.npz", lmk_face_idx=np.arange(3))
    with pytest.raises(ValueError, match="lacks lmk_b_coords; it has lmk_face_idx"):
        read_point_embedding(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", lmk_face_idx=np.arange(3), lmk_b_coords=np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"\(N,3\), found \(3,\)"):
        read_point_embedding(tmp_path / "a.npz")
