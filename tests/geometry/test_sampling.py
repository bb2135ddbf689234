import math

import pytest
import torch
import torch.nn.functional as F

from lit_face.geometry.sampling import pixel_centres, sample_image, warp_image
from lit_face.geometry.similarity2d import apply_similarity, mirror_matrix, similarity_matrix
from tests.helpers.tolerances import assert_close


def random_image(height=37, width=50, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=generator).to(dtype)


@pytest.mark.parametrize("size", [(37, 50), (256, 450), (1, 1), (64, 65)])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_identity_is_exact(size, padding, mode):
    image = random_image(*size)
    grid = pixel_centres(size).expand(2, -1, -1, -1)
    assert torch.equal(sample_image(image, grid, mode, padding), image)
    assert torch.equal(warp_image(image, torch.eye(3).expand(2, 3, 3), size, padding), image)


def test_whole_pixel_shift_and_mirror_are_exact():
    image = random_image()
    shift = torch.eye(3).repeat(2, 1, 1)
    shift[:, 0, 2], shift[:, 1, 2] = 3, -2
    moved = warp_image(image, shift, (37, 50))
    assert torch.equal(moved[:, :, :35, 3:], image[:, :, 2:, :-3])
    assert (moved[:, :, 35:] == 0).all()
    mirrored = warp_image(image, mirror_matrix(50, shift).expand(2, 3, 3), (37, 50))
    assert torch.equal(mirrored, image.flip(-1))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_equals_grid_sample_with_aligned_corners(padding):
    image = random_image(dtype=torch.float64)
    points = torch.rand(2, 40, 2, generator=torch.Generator().manual_seed(1)).double() * 90 - 20
    grid = 2 * points / torch.tensor([49.0, 36.0]).double() - 1
    expected = F.grid_sample(image, grid[:, None], padding_mode=padding, align_corners=True)
    assert_close(sample_image(image, points, padding=padding), expected[:, :, 0])


def test_linear_image_is_read_back_linearly():
    points = torch.rand(1, 7, 5, 2, generator=torch.Generator().manual_seed(2)) * 40
    ramp = pixel_centres((45, 60)).permute(2, 0, 1)[None]
    assert_close(sample_image(ramp, points), points.permute(0, 3, 1, 2), atol=2e-5)


def test_gradients_reach_image_and_points():
    image = random_image(5, 6, torch.float64)[:1].requires_grad_()
    points = torch.tensor([[[1.3, 2.2], [4.6, 3.1], [0.2, 0.7]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(sample_image, (image, points.requires_grad_()))


def test_a_landmark_stays_on_its_pixel_through_a_similarity():
    # A smooth blob is drawn at a landmark; after the warp it is where the landmark went.
    landmark = torch.tensor([[[30.0, 21.0]], [[17.0, 33.0]]])
    distance = (pixel_centres((60, 60)) - landmark[:, :, None]).square().sum(-1)
    image = torch.exp(-distance / 18)[:, None]
    transform = similarity_matrix(
        torch.tensor([1.3, 0.8]), torch.tensor([0.4, -0.7]),
        torch.tensor([[3.0, -2.0], [0.0, 5.0]]), torch.full((2, 2), 29.5),
    )  # fmt: skip
    warped = warp_image(image, transform, (60, 60))
    mass = warped.sum((2, 3)).unsqueeze(-1)
    centroid = (warped * pixel_centres((60, 60)).permute(2, 0, 1)).sum((2, 3))[:, None] / mass
    assert_close(centroid, apply_similarity(transform, landmark), atol=0.02, rtol=0)


def test_positive_angle_turns_x_towards_y_about_the_centre():
    centre = torch.tensor([[10.0, 20.0]])
    quarter = similarity_matrix(
        torch.tensor([2.0]), torch.tensor([math.pi / 2]), torch.zeros(1, 2), centre
    )
    moved = apply_similarity(quarter, torch.tensor([[[10.0, 20.0, 3.0], [11.0, 20.0, -3.0]]]))
    assert_close(moved, torch.tensor([[[10.0, 20.0, 6.0], [10.0, 22.0, -6.0]]]), atol=1e-5)


def test_mirroring_similarity_reflects_about_the_centre_first():
    arguments = (torch.tensor([1.5]), torch.tensor([0.3]), torch.tensor([[2.0, 1.0]]))
    centre = torch.tensor([[24.5, 18.0]])
    mirrored = similarity_matrix(*arguments, centre, mirror=True)
    plain = similarity_matrix(*arguments, centre) @ mirror_matrix(50, centre)
    assert_close(mirrored, plain, atol=1e-5)


def test_errors_name_the_choice():
    with pytest.raises(ValueError, match="'zeros', 'border' or 'reflection'"):
        sample_image(random_image(), torch.zeros(2, 1, 2), padding="wrap")
    with pytest.raises(ValueError, match="'bilinear' or 'nearest'"):
        sample_image(random_image(), torch.zeros(2, 1, 2), mode="cubic")
    with pytest.raises(TypeError, match="bfloat16"):
        sample_image(random_image().bfloat16(), torch.zeros(2, 1, 2))


def test_shrinking_with_antialias_reads_means_and_keeps_places():
    """A checkerboard turns grey instead of moire; a smooth picture is read where it was."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = ((rows + columns) % 2).float()[None, None]
    shrink = torch.diag(torch.tensor([0.25, 0.25, 1.0]))[None]
    shrink[:, :2, 2] = 0.1
    inner = warp_image(board, shrink, (16, 16), antialias=True)[..., 1:-1, 1:-1]
    assert_close(inner, torch.full_like(inner, 0.5))
    ramp = columns.float()[None, None]
    read = warp_image(ramp, shrink, (16, 16), antialias=True)[..., 2:-2, 2:-2]
    assert_close(read, warp_image(ramp, shrink, (16, 16))[..., 2:-2, 2:-2], atol=1e-4, rtol=0)
    big = torch.diag(torch.tensor([1.3, 1.3, 1.0]))[None]
    enlarged = warp_image(board, big, (64, 64), antialias=True)
    assert torch.equal(enlarged, warp_image(board, big, (64, 64)))
