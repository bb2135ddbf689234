import math

import numpy as np
import pytest
import torch

from lit_face.geometry.rotations import euler_to_matrix
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from lit_face.metrics.albedo import albedo_rmse, scale_invariant_rmse
from lit_face.metrics.consistency import within_person_std
from lit_face.metrics.light import irradiance_error
from lit_face.metrics.skin_tone import lab_of_linear, tone_group, typology_angle_deg
from lit_face.metrics.surface import aligned_errors
from tests.helpers.tolerances import assert_close


@pytest.fixture
def colors():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(50, generator=generator)
    return torch.rand(4, 50, 3, generator=generator), weights


def test_albedo_errors_have_their_closed_forms(colors):
    true, weights = colors
    assert_close(albedo_rmse(true + 0.1, true, weights), torch.full((4,), 0.1))
    gain = torch.tensor([0.5, 2.0, 3.0])
    assert_close(scale_invariant_rmse(gain * true, true, weights), torch.zeros(4), atol=1e-6)
    assert_close(
        scale_invariant_rmse(gain * (true + 0.3), true, weights),
        scale_invariant_rmse(true + 0.3, true, weights),
    )
    black = scale_invariant_rmse(torch.zeros_like(true), true, weights)
    assert_close(black, albedo_rmse(torch.zeros_like(true), true, weights))
    error = scale_invariant_rmse(true + 0.3, true, weights)
    assert (error < albedo_rmse(true + 0.3, true, weights)).all()
    assert (error > 0).all()


def test_points_without_weight_do_not_count(colors):
    true, weights = colors
    weights[10:] = 0
    wrong = true.clone()
    wrong[:, 10:] += 5
    assert_close(albedo_rmse(wrong, true, weights), torch.zeros(4))
    assert albedo_rmse(wrong, true, 0 * weights).isnan().all()


def test_light_error_is_the_integral_over_normals():
    generator = torch.Generator().manual_seed(0)
    predicted, true = torch.randn(2, 3, 25, 3, generator=generator)
    nodes, weights = np.polynomial.legendre.leggauss(24)
    azimuth = torch.arange(48) * (2 * math.pi / 48)
    height = torch.from_numpy(nodes).float()[:, None].expand(-1, 48)
    ring = (1 - height**2).sqrt()
    directions = torch.stack([ring * azimuth.cos(), height, ring * azimuth.sin()], dim=-1)
    area = torch.from_numpy(weights).float()[:, None, None, None]
    factors = lambert_factors(5).float()[:, None]
    basis = sh_basis(directions, 5)[:, :, None]
    felt = [(basis @ (light * factors)[:, None, None])[..., 0, :] for light in (predicted, true)]
    squared = lambda value: (value.movedim(0, -2) ** 2 * area).sum((0, 1, 3))  # noqa: E731
    expected = (squared(felt[0] - felt[1]) / squared(felt[1])).sqrt()
    assert_close(irradiance_error(predicted, true), expected, rtol=1e-4)


def test_light_of_other_bands_and_of_other_strength():
    generator = torch.Generator().manual_seed(1)
    true = torch.randn(2, 25, 3, generator=generator)
    more = torch.nn.functional.pad(true, (0, 0, 0, 81 - 25))
    assert_close(irradiance_error(more, true), torch.zeros(2))
    assert_close(irradiance_error(3 * true, true), torch.full((2,), 2.0))
    assert_close(irradiance_error(3 * true, true, scale_invariant=True), torch.zeros(2), atol=1e-6)
    invisible = more.clone()
    invisible[:, 9:16] += 5  # band 3 does not light a Lambertian surface
    assert_close(irradiance_error(invisible, true), torch.zeros(2), atol=1e-6)
    assert_close(irradiance_error(0 * true, true, scale_invariant=True), torch.ones(2))


@pytest.fixture
def sphere():
    """An octahedron-like sphere of 26 points and its faces."""
    from scipy.spatial import ConvexHull

    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = ConvexHull(points).simplices
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (normal * corners.mean(1)).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return torch.from_numpy(50 * points).float()[None], torch.from_numpy(faces).long()


def test_a_moved_mesh_has_no_error(sphere):
    vertices, faces = sphere
    weights = torch.rand(vertices.shape[1], generator=torch.Generator().manual_seed(0))
    turn = euler_to_matrix(torch.tensor([[0.3, -0.8, 0.5]]))
    moved = 1.7 * vertices @ turn.mT + torch.tensor([10.0, -20.0, 500.0])
    distance, angle = aligned_errors(moved, vertices, faces, weights)
    assert_close(distance, torch.zeros(1), atol=1e-3)
    assert_close(angle, torch.zeros(1), atol=0.01)
    rigid, _ = aligned_errors(moved, vertices, faces, weights, scale=False)
    assert_close(rigid, torch.tensor([0.7 * 50]), rtol=0.02)


def test_normals_of_a_stretched_sphere(sphere):
    vertices, faces = sphere
    stretched = vertices * torch.tensor([1.0, 1.0, 1.3])
    weights = torch.ones(vertices.shape[1])
    _, angle = aligned_errors(stretched, vertices, faces, weights)
    normal = vertices[0] / 50
    expected = torch.nn.functional.normalize(normal / torch.tensor([1.0, 1.0, 1.3]), dim=-1)
    degrees = torch.rad2deg((expected * normal).sum(-1).clamp(-1, 1).arccos()).mean()
    assert_close(angle, degrees[None], rtol=0.05)


def test_a_mesh_that_is_not_finite_has_no_error(sphere):
    vertices, faces = sphere
    broken = vertices.clone()
    broken[0, 3] = torch.nan
    for value in aligned_errors(broken, vertices, faces, torch.ones(vertices.shape[1])):
        assert value.isnan().all()


def test_stability_of_known_spreads():
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(200), 4)
    between = random.normal(size=(200, 30))
    noise = random.normal(size=(800, 30))
    std, share = within_person_std(3 * between[person] + 0.4 * noise, person)
    assert std == pytest.approx(0.4, rel=0.03)
    assert share == pytest.approx(0.4 / math.hypot(3, 0.4), rel=0.05)
    std, share = within_person_std(noise, person)
    assert share == pytest.approx(1, abs=0.02)
    assert within_person_std(between[person], person) == (0, 0)
    assert within_person_std(np.ones((8, 2)), np.repeat([0, 1], 4))[0] == 0
    assert np.isnan(within_person_std(between[:5], np.arange(5))).all()
    noise[3] = np.nan
    assert np.isfinite(within_person_std(noise, person)).all()


def test_lab_of_known_colors():
    white, grey = torch.ones(3), torch.full((3,), 0.18418651851244416)  # the grey of L* 50
    red = torch.tensor([1.0, 0.0, 0.0])
    assert_close(lab_of_linear(white), torch.tensor([100.0, 0, 0]), atol=0.02, rtol=0)
    assert_close(lab_of_linear(grey), torch.tensor([50.0, 0, 0]), atol=0.02, rtol=0)
    assert_close(lab_of_linear(red), torch.tensor([53.24, 80.09, 67.20]), atol=0.05, rtol=0)


def test_typology_angle_orders_skin_and_its_groups():
    from lit_face.rendering.color import srgb_to_linear

    skins = torch.tensor(
        [[0.95, 0.85, 0.80], [0.80, 0.60, 0.48], [0.55, 0.37, 0.26], [0.3, 0.2, 0.15]]
    )
    angles = typology_angle_deg(srgb_to_linear(skins)[:, None], torch.ones(1))
    assert (angles.diff() < 0).all()
    assert [tone_group(a) for a in (60, 50, 30, 20, 0, -60)] == [
        "very_light", "light", "intermediate", "tan", "brown", "dark",
    ]  # fmt: skip
    black = typology_angle_deg(torch.zeros(1, 4, 3), torch.zeros(4))
    assert black.isfinite().all()
    assert tone_group(black.item()) == "dark"
