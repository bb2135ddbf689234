import pytest
import torch

from lit_face.geometry.five_points import ARCFACE_POINTS, five_points
from lit_face.identity import align_faces, mask_faces
from tests.helpers.faces import faces


def test_a_face_on_the_template_stays_as_it_is():
    image = torch.rand(1, 3, 112, 112)
    aligned = align_faces(image, torch.tensor(ARCFACE_POINTS)[None])
    torch.testing.assert_close(aligned, 2 * image - 1, atol=1e-4, rtol=0)


def test_five_points_and_their_landmarks_give_the_same():
    batch = faces(2)
    by_five = align_faces(batch.image, five_points(batch.landmarks))
    assert torch.equal(align_faces(batch.image, batch.landmarks), by_five)
    assert by_five.shape == (2, 3, 112, 112)
    assert -1 <= by_five.min() < by_five.max() <= 1


def test_a_larger_picture_of_the_same_face_looks_the_same():
    small = faces(1, size=128)
    large = faces(1, size=512)
    pair = [align_faces(batch.image, batch.landmarks) for batch in (small, large)]
    assert (pair[0] - pair[1]).abs().mean() < 0.05


def test_gradients_reach_the_picture():
    points = torch.tensor(ARCFACE_POINTS, dtype=torch.float32)[None] / 7
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    weight = torch.rand(1, 3, 112, 112)
    (align_faces(image, points) * weight).sum().backward()
    step = 1e-2
    moved = image.detach().clone()
    moved[0, 1, 8, 8] += step
    change = ((align_faces(moved, points) - align_faces(image.detach(), points)) * weight).sum()
    torch.testing.assert_close(image.grad[0, 1, 8, 8], change / step, rtol=1e-2, atol=1e-2)


def test_another_number_of_points_is_refused():
    with pytest.raises(ValueError, match="found"):
        align_faces(torch.zeros(1, 3, 8, 8), torch.zeros(1, 51, 2))


def test_a_mask_hides_what_is_behind():
    image, mask = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    shown = mask_faces(image, mask, behind=0.25)
    assert torch.equal(shown[..., :2], image[..., :2])
    assert (shown[..., 2:] == 0.25).all()
