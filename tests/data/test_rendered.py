import numpy as np
import pytest
import torch

from lit_face.data.fitted import collate
from lit_face.data.random import sample_keys
from lit_face.data.rendered import (
    RenderedFaces,
    render_faces,
    rendered_folder,
    shard_path,
)
from lit_face.data.synthetic import SyntheticRenderer
from lit_face.morphable_models.procedural import procedural_head
from lit_face.types import FaceBatch
from tests.helpers.tolerances import assert_close

SHARD = 16  # two batches; 256 are rendered in use


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lit_face.data.rendered.SHARD", SHARD)
        yield


@pytest.fixture(scope="module")
def renderer():
    return SyntheticRenderer(procedural_head(), picture_size=48)


@pytest.fixture(scope="module")
def folder(renderer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    render_faces(renderer, folder, 4, seed=5)
    return folder


def test_files_hold_what_the_renderer_makes(renderer, folder):
    faces = RenderedFaces(folder, 3, start=1)
    batch = collate([faces[i] for i in range(3)])
    keys = sample_keys(5, 0, torch.arange(1, 4))
    empty = torch.empty(3, 3, 0, 0, dtype=torch.uint8)
    expected = renderer(FaceBatch(empty, random_key=keys))
    assert_close(batch.landmarks, expected.landmarks, atol=1e-4)
    assert_close(batch.camera.matrix, expected.camera.matrix, atol=1e-5)
    for name, value in expected.coefficients.items():
        assert_close(batch.coefficients[name], value, atol=2e-3)
    error = (batch.image.float() / 255 - expected.image).abs().mean()
    assert error < 0.015  # JPEG
    vertices = renderer.morphable_model(batch.coefficients["identity"],
                                        batch.coefficients["expression"])  # fmt: skip
    points = batch.camera.project(renderer.morphable_model.landmarks(vertices))
    assert_close(points, batch.landmarks, atol=0.05)


def test_finished_shards_are_kept_and_missing_ones_rendered(renderer, folder, monkeypatch):
    made = []
    monkeypatch.setattr(
        "lit_face.data.rendered.write_shard", lambda _, path, number, seed: made.append(path.name)
    )
    render_faces(renderer, folder, SHARD + 1, seed=5)
    assert made == ["faces-0001.npz"]
    with pytest.raises(FileNotFoundError, match=r"faces-0001\.npz"):
        RenderedFaces(folder, SHARD + 1)


def test_options_choose_the_folder(renderer):
    other = SyntheticRenderer(renderer.morphable_model, picture_size=64)
    assert rendered_folder(renderer, 5) != rendered_folder(other, 5)
    assert rendered_folder(renderer, 5) != rendered_folder(renderer, 6)
    assert rendered_folder(renderer, 5) == rendered_folder(renderer, 5)


def test_a_shard_holds_plain_arrays(folder):
    with np.load(shard_path(folder, 0), allow_pickle=False) as stored:
        assert len(stored["ends"]) == SHARD + 1
        assert stored["ends"][-1] == len(stored["pictures"])
