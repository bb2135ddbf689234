import pytest
import torch

from lit_face.data.fitted import collate
from lit_face.data.landmarks import project_landmarks
from lit_face.data.random import sample_keys
from lit_face.data.synthetic import SyntheticFaces, SyntheticRenderer
from lit_face.data.transforms import FaceTransform
from tests.helpers.tolerances import assert_close


def _batch(items, epoch=0, size=100):
    faces = SyntheticFaces(size)
    batch = collate([faces[item] for item in items])
    batch.random_key = sample_keys(3, epoch, torch.tensor(items))
    return batch


@pytest.fixture(scope="module")
def renderer(toy_model):
    return SyntheticRenderer(toy_model, picture_size=96, occlusion=0.0)


def test_labels_of_a_rendered_face_agree_with_each_other(renderer, toy_model):
    batch = renderer(_batch(range(6)))
    batch.validate("synthetic")
    assert batch.sample_id[4] == "synthetic_0000004"
    expected = project_landmarks(toy_model, batch.coefficients, batch.camera)
    assert_close(batch.landmarks, expected, atol=1e-3, rtol=0.0)


def test_the_picture_shows_the_face_where_the_labels_say(renderer):
    """Skin covers the middle of the landmarks and nothing far outside their box."""
    batch = renderer(_batch(range(8)))
    low, high = batch.landmarks[..., :2].amin(1), batch.landmarks[..., :2].amax(1)
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    for skin, start, stop in zip(batch.skin_mask[:, 0], low, high, strict=True):
        mass = skin.sum()
        centre = torch.stack([(skin * columns).sum() / mass, (skin * rows).sum() / mass])
        assert (centre > start).all()
        assert (centre < stop).all()
        margin = 0.6 * (stop - start).max()
        outside = (columns < start[0] - margin) | (columns > stop[0] + margin)
        assert skin[outside].sum() < 0.02 * mass


def test_a_face_follows_from_its_key_alone(renderer):
    whole, some = renderer(_batch(range(6))), renderer(_batch([4, 1]))
    assert_close(some.landmarks, whole.landmarks[[4, 1]], atol=1e-3, rtol=0.0)
    assert_close(some.image, whole.image[[4, 1]], atol=1e-3, rtol=0.0)
    later = renderer(_batch(range(6), epoch=1))
    assert (later.landmarks - whole.landmarks).abs().flatten(1).amax(1).min() > 1
    change = later.coefficients["identity"] - whole.coefficients["identity"]
    assert change.abs().amax(1).min() > 0.3


def test_coefficients_have_the_models_population(renderer):
    keys = sample_keys(0, 0, torch.arange(3000))
    found = renderer.sample_coefficients(keys)
    assert_close(found["identity"].mean(0), torch.zeros(12), atol=0.1, rtol=0.0)
    assert_close(found["identity"].std(0), torch.ones(12), atol=0.1, rtol=0.0)
    assert max(value.abs().max() for value in found.values()) <= 3
    correlation = torch.corrcoef(torch.cat([found["identity"], found["albedo"]], 1).T)
    assert (correlation - torch.eye(17)).abs().max() < 0.1


def test_pictures_go_through_the_same_transform_as_photographs(renderer):
    batch = renderer(_batch(range(4)))
    result = FaceTransform(64)(batch)
    result.validate("synthetic")
    assert result.image.shape == (4, 3, 64, 64)
    assert result.skin_mask.amax((1, 2, 3)).min() > 0.5


def test_keys_and_sizes_are_checked(renderer):
    batch = _batch(range(2))
    batch.random_key = None
    with pytest.raises(ValueError, match="random_key"):
        renderer(batch)
    with pytest.raises(ValueError, match="at least 1"):
        SyntheticFaces(0)
    with pytest.raises(IndexError):
        SyntheticFaces(3)[3]
