import math

import numpy as np
import torch

from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from tests.helpers.tolerances import assert_close


def quadrature(polar_count=64):
    """Directions (N,3) on the sphere and their weights (sum 4 pi), exact up to degree ~ 60."""
    nodes, node_weights = np.polynomial.legendre.leggauss(polar_count)
    azimuth = np.arange(2 * polar_count) * math.pi / polar_count
    y, azimuth = np.meshgrid(nodes, azimuth, indexing="ij")
    ring = np.sqrt(1 - y**2)
    directions = np.stack([ring * np.sin(azimuth), y, -ring * np.cos(azimuth)], -1).reshape(-1, 3)
    weights = np.repeat(node_weights, 2 * polar_count) * math.pi / polar_count
    return torch.from_numpy(directions), torch.from_numpy(weights)


def test_first_nine_have_the_documented_signs():
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    x, y, z = directions.unbind(-1)
    expected = [
        0.282095 + 0 * x, -0.488603 * x, 0.488603 * y, 0.488603 * z, -1.092548 * x * z,
        -1.092548 * x * y, 0.315392 * (3 * y**2 - 1), 1.092548 * y * z, 0.546274 * (z**2 - x**2),
    ]  # fmt: skip
    assert_close(sh_basis(directions), torch.stack(expected, -1), atol=1e-6)


def test_basis_is_orthonormal():
    directions, weights = quadrature(24)
    basis = sh_basis(directions, bands=9)
    assert_close(basis.T @ (basis * weights[:, None]), torch.eye(81, dtype=torch.float64))


def test_lambert_factors_equal_the_integral_of_the_clamped_cosine():
    nodes, weights = np.polynomial.legendre.leggauss(40)
    nodes, weights = (nodes + 1) / 2, weights / 2  # the cosine is 0 on the other half
    for degree in range(9):
        legendre = np.polynomial.legendre.Legendre.basis(degree)(nodes)
        integral = 2 * math.pi * (weights * nodes * legendre).sum()
        assert_close(
            lambert_factors(9)[degree * degree], torch.tensor(integral, dtype=torch.float64)
        )


def test_gradients_exist_at_the_poles():
    poles = torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: sh_basis(d, bands=4), poles.requires_grad_())


def test_parity_with_independent_basis_and_irradiance(reference):
    golden = np.load(reference / "sh_brdf" / "sh_basis.npz")
    assert_close(sh_basis(torch.from_numpy(golden["dirs"]), 9), golden["Y"], atol=1e-10)
    golden = np.load(reference / "sh_brdf" / "irradiance.npz")
    basis = sh_basis(torch.from_numpy(golden["normals"]), 9) * lambert_factors(9)
    irradiance = basis @ torch.from_numpy(golden["coeffs"])
    assert_close(irradiance, golden["E_unclamped"], atol=1e-10)
