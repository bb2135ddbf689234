import math

import pytest
import torch

from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.geometry.spherical_harmonics import band_count, mirror_sh, rotate_sh, sh_basis
from tests.helpers.tolerances import assert_close

GENERATOR = torch.Generator().manual_seed(3)
DIRECTIONS = torch.nn.functional.normalize(
    torch.randn(40, 3, dtype=torch.float64, generator=GENERATOR), dim=-1
)
ROTATION = axis_angle_to_matrix(
    torch.tensor([[0.0, 0, 0], [0.3, -1.2, 0.7], [math.pi, 0, 0]], dtype=torch.float64)
)


def light(bands, batch=3):
    return torch.randn(batch, bands**2, 3, dtype=torch.float64, generator=GENERATOR)


@pytest.mark.parametrize("bands", [1, 3, 9])
@pytest.mark.parametrize("reflect", [False, True])
def test_rotated_light_comes_from_the_rotated_direction(bands, reflect):
    coefficients, rotation = light(bands), ROTATION.clone()
    if reflect:
        rotation[:, :, 1] *= -1
    found = sh_basis(DIRECTIONS @ rotation.mT, bands) @ rotate_sh(coefficients, rotation)
    assert_close(found, sh_basis(DIRECTIONS, bands) @ coefficients)


def test_rotation_keeps_the_energy_of_each_band_and_can_be_undone():
    coefficients = light(9)
    rotated = rotate_sh(coefficients, ROTATION)
    for degree in range(9):
        band = slice(degree**2, (degree + 1) ** 2)
        assert_close(rotated[:, band].norm(dim=1), coefficients[:, band].norm(dim=1))
    assert_close(rotate_sh(rotated, ROTATION.mT), coefficients)


def test_light_from_above_turned_a_quarter_about_the_line_of_sight_comes_from_the_side():
    above = torch.zeros(1, 4, 1)
    above[:, 2] = -1.0  # -y is up
    right = axis_angle_to_matrix(torch.tensor([[0.0, 0, math.pi / 2]]))  # up (0,-1,0) to (1,0,0)
    # The harmonic of index 1 is -0.49 x.
    assert_close(rotate_sh(above, right)[0, :, 0], torch.tensor([0.0, -1, 0, 0]), atol=1e-6)


def test_mirrored_light_is_the_reflection_of_x():
    coefficients = light(9, batch=1)
    reflection = torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))[None]
    assert_close(mirror_sh(coefficients), rotate_sh(coefficients, reflection))


def test_gradients_of_rotated_light():
    vector = torch.tensor([[0.2, -0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda c, v: rotate_sh(c, axis_angle_to_matrix(v)), (light(3, 1).requires_grad_(), vector)
    )


def test_cached_tables_serve_training_after_inference():
    with torch.inference_mode():
        rotate_sh(torch.zeros(1, 36, 3), torch.eye(3)[None])
    coefficients = torch.zeros(1, 36, 3, requires_grad=True)
    rotate_sh(coefficients, torch.eye(3)[None]).sum().backward()


def test_a_number_of_coefficients_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match="found K = 10"):
        band_count(torch.zeros(1, 10, 3))
