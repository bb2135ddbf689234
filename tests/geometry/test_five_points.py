import json

import numpy as np
import pytest
import torch
from PIL import Image

from lit_face.geometry.five_points import (
    ARCFACE_POINTS,
    DEEP3D_MEAN,
    align_five_points,
    arcface_matrix,
    fit_five_points,
    five_point_box,
    five_points,
    standard_points,
)
from lit_face.geometry.similarity2d import apply_similarity, box_to_crop
from tests.helpers.tolerances import assert_close

STANDARD = np.array(
    [[-0.3, 0.3, 0.1], [0.3, 0.3, 0.1], [0.0, -0.05, 0.5], [-0.25, -0.4, 0.2], [0.25, -0.4, 0.2]]
)


def photo(height=300, width=200):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns % 256, rows % 256, (rows + columns) % 256], -1).astype(np.uint8)


def seen(scale, origin, height):
    """The standard points in a photo, y down."""
    upward = STANDARD[:, :2] * scale + origin
    return np.stack([upward[:, 0], height - 1 - upward[:, 1]], axis=1)


def test_five_of_68_points():
    landmarks = torch.arange(68.0)[:, None].expand(2, 68, 3)
    found = five_points(landmarks)
    assert_close(found[1, :, 2], torch.tensor([37.5, 43.5, 30.0, 48.0, 54.0]))


def test_a_scaled_view_is_found_exactly():
    origin, scale = fit_five_points(STANDARD[:, :2] * 80 + [50, 70], STANDARD)
    np.testing.assert_allclose(origin, [50, 70], atol=1e-9)
    assert scale == pytest.approx(80)


def test_the_face_lands_where_it_belongs():
    crop = align_five_points(photo(), seen(60.0, [90.0, 140.0], 300), STANDARD)
    assert crop.image.shape == (224, 224, 3)
    assert crop.scale == pytest.approx(102 / 60)
    expected = STANDARD[:, :2] * 102 + 112
    expected[:, 1] = 223 - expected[:, 1]
    np.testing.assert_allclose(crop.points, expected, atol=0.51)  # halves of odd sides
    cut = np.c_[seen(60.0, [90.0, 140.0], 300), np.ones(5)] @ crop.matrix[:2].T
    assert np.abs(cut - crop.points).max() < 1.6  # truncated sides and corners


def test_the_matrix_says_where_pixels_came_from():
    crop = align_five_points(photo(), seen(102.0, [100.0, 150.0], 300), STANDARD)
    rows, columns = np.mgrid[20:200, 20:180]
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(crop.matrix)[:2].T
    found = crop.image[20:200, 20:180, :2]
    inside = (source > 3).all(-1) & (source < [196, 252]).all(-1)  # before the ramps wrap
    assert inside.sum() > 5000
    np.testing.assert_allclose(found[inside], source[inside], atol=1.0)


def test_what_lies_outside_is_black():
    crop = align_five_points(photo(), seen(60.0, [10.0, 140.0], 300), STANDARD)
    assert not crop.image[:, :50].any()
    assert crop.image[:, 120:].any()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((5, 2)), "do not look like a face"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((4, 2)), r"\(5,2\)"),
    ],
)
def test_points_that_are_no_face_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        align_five_points(photo(), points, STANDARD)


def test_standard_points_keep_the_shape_and_get_deep3ds_mean():
    head_mm = 100 * torch.from_numpy(STANDARD) + torch.tensor([3.0, 20.0, -90.0])
    standard = standard_points(head_mm)
    assert_close(standard.mean(0), torch.tensor(DEEP3D_MEAN, dtype=torch.float64))
    assert_close(standard[1:] - standard[:1], torch.from_numpy(STANDARD[1:] - STANDARD[:1]))
    with pytest.raises(ValueError, match=r"\(5,3\)"):
        standard_points(torch.zeros(68, 3))


def test_boxes_are_where_the_face_was_seen():
    scale = torch.tensor([60.0, 90.0, 110.0], dtype=torch.float64)
    place = torch.tensor([[90.0, 70.0], [1.5, -20.0], [400.0, 300.0]], dtype=torch.float64)
    upright = torch.from_numpy(STANDARD[:, :2] * [1, -1])
    box = five_point_box(
        scale[:, None, None] * upright + place[:, None], torch.from_numpy(STANDARD)
    )
    assert_close(box.centre, place)
    assert_close(box.size, 223 / 102 * scale)
    crop = box_to_crop(box, 224)
    assert_close(crop[:, 0, 0] * scale, torch.full((3,), 102.0, dtype=torch.float64))


def test_boxes_follow_shifts_and_enlargements():
    generator = torch.Generator().manual_seed(2)
    points = 100 * torch.randn(6, 5, 2, generator=generator, dtype=torch.float64)
    standard = torch.from_numpy(STANDARD)
    before = five_point_box(points, standard)
    after = five_point_box(2.5 * points + torch.tensor([7.0, -3.0]), standard)
    assert_close(after.centre, 2.5 * before.centre + torch.tensor([7.0, -3.0]))
    assert_close(after.size, 2.5 * before.size)


def test_a_box_of_one_place_has_a_side():
    box = five_point_box(torch.full((1, 5, 2), 7.0), torch.from_numpy(STANDARD).float())
    assert_close(box_to_crop(box, 224), box_to_crop(box, 224).nan_to_num())


def test_boxes_of_the_reference(reference):
    folder = reference / "gcn" / "align"
    records = json.loads((folder / "align.json").read_text())
    standard = torch.from_numpy(np.load(folder / "lm3d_std.npy"))
    points = torch.tensor([record["lm5"] for record in records.values()], dtype=torch.float64)
    box = five_point_box(points, standard)
    aligned = apply_similarity(box_to_crop(box, 224), points)
    for row, record in enumerate(records.values()):
        upward = points[row].numpy() * [1, -1] + [0, record["size"][1] - 1]
        origin, scale = fit_five_points(upward, standard.numpy())
        down = [origin[0], record["size"][1] - 1 - origin[1]]
        np.testing.assert_allclose(box.centre[row].numpy(), down, rtol=1e-9)
        assert box.size[row].item() == pytest.approx(223 / 102 * scale, rel=1e-9)
        expected = np.array(record["lm5_aligned_yup"])
        expected[:, 1] = 223 - expected[:, 1]
        # Deep3D puts the origin half a pixel off the crop's middle, give or take odd sides.
        assert np.abs(aligned[row].numpy() - expected).max() < 1.1


def test_similarities_to_the_template_are_undone():
    template = torch.tensor(ARCFACE_POINTS, dtype=torch.float64)
    angle, scale = torch.tensor(0.4, dtype=torch.float64), 2.5
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    points = scale * template @ turn.T + torch.tensor([30.0, -12.0], dtype=torch.float64)
    matrix = arcface_matrix(points[None])[0]
    assert_close(points @ matrix[:2, :2].T + matrix[:2, 2], template)
    assert_close(torch.linalg.det(matrix), torch.tensor(1 / scale**2, dtype=torch.float64))


def test_points_in_one_place_change_nothing():
    matrix = arcface_matrix(torch.full((1, 5, 2), 7.0))
    assert_close(matrix[0], torch.eye(3))


def test_the_matrix_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    points = torch.tensor(ARCFACE_POINTS, dtype=torch.float64)[None]
    points = points + torch.randn(2, 5, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(arcface_matrix, points.requires_grad_())


def test_crops_of_the_reference(reference):
    folder = reference / "gcn"
    records = json.loads((folder / "align" / "align.json").read_text())
    standard = np.load(folder / "align" / "lm3d_std.npy")
    for name, record in records.items():
        picture = np.asarray(Image.open(folder / "examples" / name).convert("RGB"))
        crop = align_five_points(picture, np.array(record["lm5"]), standard)
        width, height, scale, x, y = record["trans_params"]
        assert picture.shape[:2] == (height, width)
        np.testing.assert_allclose([crop.scale, *crop.origin], [scale, x, y], rtol=1e-6)
        aligned = np.array(record["lm5_aligned_yup"])
        aligned[:, 1] = 223 - aligned[:, 1]
        np.testing.assert_allclose(crop.points, aligned, atol=1e-4)
        expected = np.asarray(Image.open(folder / "align" / "crops" / f"{name[:-4]}.png"))
        difference = np.abs(crop.image.astype(int) - expected[..., :3])
        assert difference.max() <= 2, name  # versions of Pillow round differently


@pytest.mark.parametrize("row", [0, 1])
def test_arcface_matrices_of_the_reference(reference, row):
    with np.load(reference / "gcn" / "align" / f"arcface_norm_{row}.npz") as stored:
        landmarks, expected = torch.from_numpy(stored["lm68_yup"]), stored["M"]
        five, template = torch.from_numpy(stored["lm5"]), stored["template"]
    np.testing.assert_allclose(ARCFACE_POINTS, template, atol=1e-6)
    assert_close(five_points(landmarks), five, atol=1e-4)
    found = five_points(landmarks.double())
    found[..., 1] = 223 - found[..., 1]
    assert_close(arcface_matrix(found)[:, :2], torch.from_numpy(expected), atol=1e-4)
