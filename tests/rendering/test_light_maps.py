import math

import pytest
import torch

from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from lit_face.rendering.environment import sample_environment, sh_to_environment
from lit_face.rendering.light_maps import MAP_SIZE, irradiance_map, prefiltered_map
from tests.helpers.tolerances import assert_close
from tests.rendering.test_environment import light, random_directions


def white(bands=9, radiance=1.0):
    coefficients = torch.zeros(1, bands**2, 3, dtype=torch.float64)
    coefficients[:, 0] = radiance * math.sqrt(4 * math.pi)
    return coefficients


@pytest.mark.parametrize("bands", [1, 2, 3, 9, 13])
def test_white_light_gives_pi_everywhere(bands):
    expected = torch.full((1, 3, *MAP_SIZE), math.pi, dtype=torch.float64)
    assert_close(irradiance_map(white(bands)), expected)


def test_baked_irradiance_is_the_closed_form():
    coefficients, normals = light(9, 1), random_directions(200)
    expected = ((sh_basis(normals[0].mT, 9) * lambert_factors(9)) @ coefficients).mT
    found = sample_environment(irradiance_map(coefficients), normals)
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()


def test_wrapped_maps_have_sides_that_are_powers_of_two():
    assert [side + 2 for side in MAP_SIZE] == [64, 128]  # else every lookup copies the map


def test_lobe_without_blur_shows_the_light_and_a_wide_one_its_mean():
    coefficients = light(4)
    sharp = prefiltered_map(coefficients, torch.ones(2, 4, dtype=torch.float64), (8, 16))
    assert_close(sharp, sh_to_environment(coefficients, (8, 16), clamp=False))
    wide = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).expand(2, -1)
    mean = coefficients[:, 0] * 0.5 / math.sqrt(math.pi)
    blurred = prefiltered_map(coefficients, wide, (8, 16))
    assert_close(blurred, mean[:, :, None, None].expand_as(blurred))


def test_gradients_of_irradiance_in_light_and_normals():
    coefficients, normals = light(3, 1).requires_grad_(), random_directions(7).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda c, n: sample_environment(irradiance_map(c, (16, 32)), n), (coefficients, normals)
    )
