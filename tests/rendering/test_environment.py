import math

import pytest
import torch

from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.rendering.environment import (
    environment_directions,
    environment_points,
    environment_to_sh,
    environment_weights,
    negative_light,
    sample_environment,
    sh_to_environment,
)
from tests.helpers.tolerances import assert_close


def light(bands=9, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, bands**2, 3, dtype=torch.float64, generator=generator)


def random_directions(count=60, seed=1):
    """Planes (1,3,N) of unit directions."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(1, 3, count, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(points, dim=1)


@pytest.mark.parametrize("size", [(17, 17), (17, 40), (64, 128), (50, 20)])
def test_from_harmonics_to_a_map_and_back(size):
    coefficients = light()
    found = environment_to_sh(sh_to_environment(coefficients, size, clamp=False), 9)
    assert_close(found, coefficients)


def test_map_too_small_for_its_bands_is_refused():
    with pytest.raises(ValueError, match="at least 17 rows"):
        environment_to_sh(torch.zeros(1, 3, 16, 32), 9)


def test_texels_show_the_light_of_their_directions_and_are_never_negative():
    coefficients, size = light(), (6, 10)
    basis = sh_basis(environment_directions(size).flatten(0, 1), 9)
    expected = (basis @ coefficients).mT.view(2, 3, *size)
    assert_close(sh_to_environment(coefficients, size, clamp=False), expected)
    assert_close(sh_to_environment(coefficients, size), expected.clamp(min=0))
    assert (expected < 0).any()


def test_first_row_is_below_and_columns_start_behind_the_head():
    directions = environment_directions((32, 64))
    assert (directions[0, :, 1] > 0.99).all()  # camera +y is down
    assert_close(directions[16, 0], torch.tensor([0.0, 0, -1]), atol=0.1)  # behind the camera
    assert_close(directions[16, 16], torch.tensor([1.0, 0, 0]), atol=0.1)


@pytest.mark.parametrize("size", [(7, 5), (32, 64)])
def test_weights_cover_the_sphere(size):
    weights = environment_weights(size)
    assert_close(weights.sum(), torch.tensor(4 * math.pi, dtype=torch.float64))
    assert (weights > 0).all()


def test_reading_at_a_texel_returns_it():
    maps = torch.rand(1, 2, 9, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = environment_directions((9, 14)).flatten(0, 1).mT[None]
    assert_close(sample_environment(maps, directions), maps.flatten(2))


def test_reading_is_continuous_around_the_seam_and_across_the_poles():
    maps = sh_to_environment(light(5, 1), (64, 128), clamp=False)
    step = 1e-5
    ring = torch.tensor([[-step, 0.3, -1], [step, 0.3, -1]], dtype=torch.float64)
    over = torch.tensor([[-step, 1, step], [step, 1, -step]], dtype=torch.float64)
    for pair in (ring, over, over * torch.tensor([1.0, -1, 1])):
        first, second = sample_environment(maps, (pair / pair.norm(dim=1, keepdim=True)).mT[None])[
            0
        ].mT
        assert_close(first, second, atol=1e-3, rtol=0)


def test_reading_is_close_to_the_harmonics_everywhere():
    coefficients, directions = light(5, 1), random_directions()
    poles = torch.tensor([[0.0, 0, 1e-9], [1, -1, 1], [0, 0, 0]], dtype=torch.float64)[None]
    directions = torch.cat([directions, poles], dim=2)
    expected = (sh_basis(directions[0].mT, 5) @ coefficients).mT
    found = sample_environment(sh_to_environment(coefficients, (64, 128), clamp=False), directions)
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()


def test_gradients_of_reading():
    maps = sh_to_environment(light(3, 1), (8, 16), clamp=False).requires_grad_()
    directions = random_directions(12).requires_grad_()
    assert torch.autograd.gradcheck(sample_environment, (maps, directions))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_of_sensible_size_at_the_poles(dtype):
    maps = sh_to_environment(light(9, 1).to(dtype), (32, 64), clamp=False)
    poles = torch.tensor([[0.0, 0, 1e-8, 0, 1e-4], [1, -1, 1, 1, 1], [0, 0, 0, 1e-3, -1e-4]])
    directions = poles.to(dtype)[None].requires_grad_()
    sample_environment(maps, directions).sum().backward()
    far = random_directions(500).to(dtype).requires_grad_()
    sample_environment(maps, far).sum().backward()
    assert directions.grad.abs().max() < 2 * far.grad.abs().max()
    nowhere = torch.zeros(1, 3, 1, dtype=dtype, requires_grad=True)
    sample_environment(maps, nowhere).sum().backward()
    assert nowhere.grad.isfinite().all()


def test_columns_lie_inside_the_wrapped_map():
    points = environment_points(random_directions(2000), (6, 10))
    low, high = points.amin((0, 1)), points.amax((0, 1))
    assert (low >= 0.5).all()
    assert (high <= torch.tensor([10.5, 6.5])).all()


def test_negative_light_in_closed_form():
    white = torch.zeros(2, 81, 3)
    white[:, 0] = math.sqrt(4 * math.pi)
    assert negative_light(white) == 0
    assert_close(negative_light(-2 * white), torch.tensor(4.0))
    # One of two images, one of three channels.
    white[0, 0, 1] *= -3
    assert_close(negative_light(white), torch.tensor(9.0 / 6))


def test_negative_light_pushes_only_where_light_is_negative():
    coefficients = torch.zeros(1, 4, 3, dtype=torch.float64)
    coefficients[:, 0], coefficients[:, 2] = 0.5, 1.5  # negative above, where y is low
    coefficients.requires_grad_()
    negative_light(coefficients).backward()
    gradient = coefficients.grad[0, :, 0]
    assert gradient[0] < 0 < gradient[2]
    assert torch.autograd.gradcheck(negative_light, coefficients.detach().requires_grad_())
