"""What the crops of `FaceTransform` show: the landmarks' box, Deep3D's crop, the whole picture."""

import dataclasses

import pytest
import torch

from lit_face.data.fitted import collate
from lit_face.data.random import sample_keys
from lit_face.data.transforms import FaceTransform
from lit_face.geometry.five_points import five_points, standard_points
from lit_face.types import FaceBatch
from tests.helpers.tolerances import assert_close

STILL = {
    "center_jitter": 0.0,
    "size_jitter": (1.0, 1.0),
    "rotation": 0.0,
    "translation": 0.0,
    "scale": (1.0, 1.0),
    "color": (1.0, 1.0),
    "occlusion": 0.0,
}


@pytest.fixture
def batch(toy_model) -> FaceBatch:
    """The mean face at 1, 1.5 and 2 pixels a mm, upright."""
    scale = torch.tensor([1.0, 1.5, 2.0])[:, None, None]
    points = toy_model.landmarks(toy_model.mean[None]) * torch.tensor([1.0, -1.0, -1.0])
    shift = torch.tensor([[150.0, 160, 0], [200, 210, 0], [230, 220, 0]])[:, None]
    return FaceBatch(
        image=torch.rand(3, 3, 400, 420, generator=torch.Generator().manual_seed(0)),
        landmarks=points * scale + shift,
        random_key=sample_keys(1, 0, torch.arange(3)),
        person=torch.tensor([4, 4, 9]),
    )


def test_five_points_land_where_deep3d_has_them(toy_model, batch):
    transform = FaceTransform.for_evaluation(
        224, morphable_model=toy_model, alignment="five_points"
    )
    found = transform(batch)
    standard = standard_points(five_points(toy_model.landmarks(toy_model.mean[None]))[0])
    expected = 102 * standard[:, :2] * torch.tensor([1.0, -1.0]) + 111.5
    assert_close(
        five_points(found.landmarks[..., :2]), expected.expand(3, 5, 2), atol=1e-3, rtol=0.0
    )
    given = FaceTransform.for_evaluation(224, alignment="five_points", standard_points=standard)
    assert_close(given(batch).image, found.image)
    assert torch.equal(found.person, batch.person)


def test_a_mirrored_crop_shows_the_mirrored_face(toy_model, batch):
    options = {**STILL, "morphable_model": toy_model, "alignment": "five_points"}
    plain = FaceTransform(224, mirror=0.0, **options)(batch)
    mirrored = FaceTransform(224, mirror=1.0, **options)(batch)
    assert_close(mirrored.image, plain.image.flip(3), atol=1e-4, rtol=0.0)


def test_jitter_is_about_the_crop(toy_model, batch):
    options = {**STILL, "mirror": 0.0, "morphable_model": toy_model, "alignment": "five_points"}
    moved = FaceTransform(224, **{**options, "center_jitter": 0.1}).similarity(
        batch.landmarks, batch.random_key
    )
    still = FaceTransform(224, **options).similarity(batch.landmarks, batch.random_key)
    shift = (moved - still)[:, :2, 2].abs()
    assert shift.max() <= 22.31
    assert shift.max() > 5
    assert_close(moved[:, :2, :2], still[:, :2, :2])


def test_whole_pictures_stay_as_they_are_and_need_no_landmarks(batch):
    square = dataclasses.replace(batch, image=batch.image[..., :400], landmarks=None)
    transform = FaceTransform.for_evaluation(400, alignment="whole")
    found = transform(square)
    assert_close(found.image, square.image, atol=1e-4, rtol=0.0)
    assert found.landmarks is None
    half = FaceTransform.for_evaluation(200, alignment="whole")
    matrix = half.similarity(None, torch.zeros(1, dtype=torch.int64), (400, 400))
    corners = torch.tensor([[0.0, 399.0], [0.0, 399.0], [1.0, 1.0]])
    assert_close((matrix @ corners)[0, :2], torch.tensor([[0.0, 199.0]] * 2))
    mirrored = FaceTransform(400, **STILL, mirror=1.0, alignment="whole")(square)
    assert_close(mirrored.image, square.image.flip(3), atol=1e-4, rtol=0.0)


def test_landmarks_of_whole_pictures_move_along(batch):
    wide = FaceTransform.for_evaluation(210, alignment="whole")(batch)
    expected = (batch.landmarks[..., :2] - torch.tensor([209.5, 199.5])) * (209 / 419) + 104.5
    assert_close(wide.landmarks[..., :2], expected, atol=1e-3, rtol=0.0)


def test_what_is_missing_is_said(batch):
    with pytest.raises(ValueError, match="box, five_points, whole; found 'eyes'"):
        FaceTransform(alignment="eyes")
    with pytest.raises(ValueError, match="standard_points"):
        FaceTransform(alignment="five_points")
    bare = dataclasses.replace(batch, landmarks=None)
    points = torch.rand(5, 3)
    transform = FaceTransform.for_evaluation(alignment="five_points", standard_points=points)
    with pytest.raises(ValueError, match="alignment='whole'"):
        transform(bare)


def test_persons_are_stacked_and_checked():
    samples = [{"image": torch.zeros(3, 4, 4), "person": torch.tensor(number)} for number in (7, 2)]
    batch = collate(samples)
    assert batch.person.tolist() == [7, 2]
    batch.validate()
    for wrong in (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2)):
        with pytest.raises(ValueError, match=r"'person' should be \(2,\) int64"):
            dataclasses.replace(batch, person=wrong).validate()
