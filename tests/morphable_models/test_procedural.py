import time

import numpy as np
import pytest
import torch

from lit_face.data.landmarks import MIRROR_68
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.spherical_harmonics import lambert_factors, sh_basis
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.procedural.albedo import AlbedoPainter, sample_albedo
from lit_face.morphable_models.procedural.expression import ExpressionDeformer, sample_expression
from lit_face.morphable_models.procedural.features import build_material, neutral_head
from lit_face.morphable_models.procedural.grid import build_grid
from lit_face.morphable_models.procedural.identity import IdentityDeformer, sample_identity
from lit_face.morphable_models.procedural.population import principal_components, project
from tests.helpers.tolerances import assert_close

X_FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def makers():
    """The nonlinear head itself: functions that draw unseen people, performances, colours."""
    material = build_material(build_grid())
    neutral = neutral_head(material)
    people, painter = IdentityDeformer(material, neutral), AlbedoPainter(material, neutral)
    return material, neutral, people, painter


def landmarks_of(head, vertices):
    return vertices[head.landmark_index]


def show(head, name):
    return head(torch.zeros(1, 1), head.named_expression(name)[None])[0]


def test_counts_and_size_of_an_adult_head(head):
    vertices, _ = head.mean.shape
    assert 5_000 <= vertices <= 12_000
    assert head.identity_size >= 40
    assert head.expression_size >= 16
    assert head.albedo_size >= 30
    assert head.specular_basis.shape[2] >= 10
    skull = head.mean[(head.regions["ears"] == 0) & (head.mean[:, 1] > -20)]
    width = skull[:, 0].max() - skull[:, 0].min()
    tall = head.mean[:, 1].max() - landmarks_of(head, head.mean)[8, 1]
    assert 140 < width < 165
    assert 205 < tall < 240
    corners = landmarks_of(head, head.mean)
    assert 84 < (corners[45] - corners[36]).norm() < 96


def test_population_has_unit_variance_and_no_mean(head):
    for bank, odd in (
        (head.identity_bank, head.identity_antisymmetric),
        (head.expression_bank, head.expression_antisymmetric),
        (head.albedo_bank, head.albedo_antisymmetric),
    ):
        # With the mirror images, whose antisymmetric coefficients have the other sign.
        both = torch.cat([bank, torch.where(odd, -bank, bank)])
        assert_close(both.square().mean(0), torch.ones(bank.shape[1]), atol=2e-2, rtol=0)
        assert_close(both.mean(0), torch.zeros(bank.shape[1]), atol=2e-2, rtol=0)


def test_components_are_orthogonal_and_have_the_stated_deviation(head):
    for basis, std in (
        (head.identity_basis, head.identity_std),
        (head.expression_basis, head.expression_std),
    ):
        flat = basis.flatten(0, 1).double()
        assert_close(flat.norm(dim=0), std.double(), rtol=1e-3, atol=0)
        unit = flat / flat.norm(dim=0)
        assert_close(unit.mT @ unit, torch.eye(len(std)).double(), atol=2e-3, rtol=0)


def test_unseen_people_are_reconstructed_within_a_millimetre(head, makers):
    _, _, people, _ = makers
    rng = np.random.default_rng(999)
    unseen = np.stack([people(sample_identity(rng)) for _ in range(12)])
    expression_mean = show(head, "neutral").numpy() - head.mean.numpy()
    offsets = unseen - head.mean.numpy() - expression_mean
    basis = head.identity_basis.numpy()
    coefficients = project(offsets, basis)
    rebuilt = np.einsum("nk,vck->nvc", coefficients, basis)
    error = np.linalg.norm(offsets - rebuilt, axis=2)
    assert error.mean() < 0.35  # mm, over the whole head
    assert np.sqrt((coefficients[:, :20] ** 2).mean()) == pytest.approx(1.0, abs=0.35)


def test_unseen_performances_and_colours_are_reconstructed(head, makers):
    material, _, _, painter = makers
    rng = np.random.default_rng(998)
    neutral = (show(head, "neutral")).numpy().astype(np.float64)
    perform = ExpressionDeformer(material, neutral)
    moved = np.stack([perform(sample_expression(rng)) for _ in range(12)])
    offsets = moved - head.mean.numpy()
    basis = head.expression_basis.numpy()
    error = offsets - np.einsum("nk,vck->nvc", project(offsets, basis), basis)
    assert np.linalg.norm(error, axis=2).mean() < 0.15  # mm, over the whole head
    colours = np.stack([painter.diffuse(sample_albedo(rng)) for _ in range(12)])
    offsets = colours - head.albedo_mean.numpy()
    basis = head.albedo_basis.numpy()
    error = offsets - np.einsum("nk,vck->nvc", project(offsets, basis), basis)
    assert np.abs(error).mean() < 0.01


def test_mirrored_samples_give_symmetric_and_antisymmetric_components():
    rng = np.random.default_rng(0)
    mirror = np.array([1, 0, 2])
    samples = rng.standard_normal((40, 3, 3)).astype(np.float32)
    found = principal_components(samples, mirror, 9, flip_x=True)
    twins = samples[:, mirror] * np.array([-1, 1, 1], dtype=np.float32)
    both = np.concatenate([samples, twins]).reshape(80, -1).astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(both.T, bias=True))[::-1].copy()
    assert_close(found.std**2, variances, atol=1e-4, rtol=1e-4)
    flipped = found.basis[mirror] * np.array([-1, 1, 1])[:, None]
    sign = np.where(found.antisymmetric, -1, 1)
    assert_close(flipped, found.basis * sign, atol=1e-4, rtol=0)


def test_topology_and_mean_are_mirror_symmetric(head):
    mirror = head.mirror_index
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert_close(head.mean[mirror] * X_FLIP, head.mean, atol=2e-3, rtol=0)
    assert_close(1 - head.uv[mirror, 0], head.uv[:, 0], atol=1e-6, rtol=0)
    assert torch.equal(head.uv[mirror, 1], head.uv[:, 1])
    as_sets = {tuple(sorted(face)) for face in head.faces.tolist()}
    mirrored = {tuple(sorted(face)) for face in mirror[head.faces].tolist()}
    assert as_sets == mirrored
    assert torch.equal(mirror[head.landmark_index[list(MIRROR_68)]], head.landmark_index)


def test_faces_turn_counter_clockwise_and_normals_point_out(head):
    normals = vertex_normals(head.mean[None], head.faces)[0]
    outside = head.mean - torch.tensor([0.0, 20.0, -10.0])
    cranium = head.mean[:, 1] > 70
    assert ((normals * outside).sum(1)[cranium] > 0).all()
    assert normals[head.landmark_index[30], 2] > 0.5


def test_uv_triangles_do_not_overlap_and_face_fills_two_thirds(head):
    corners = head.uv[head.faces].double()
    (a, b, c) = corners.unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area > 0).all()
    # All positive, and together exactly the unit square: no two overlap.
    assert float(area.sum() / 2) == pytest.approx(1.0, abs=1e-6)
    resampling = uv_resampling(head.uv, head.faces, 256)
    weight = resampling.apply(head.regions["face"][:, None])[:, 0]
    share = float((weight > 0.5).float().sum()) / 256**2
    assert 0.60 < share < 0.75
    assert (head.regions["face"][head.landmark_index] > 0.5).all()
    outside = head.regions["ears"] + head.regions["neck"] + head.regions["scalp"] > 1.5
    assert (head.regions["face"][outside] < 0.5).all()


def test_landmarks_lie_where_anatomy_says(head):
    points = landmarks_of(head, show(head, "neutral"))
    x, y, z = points.unbind(1)
    face = head.regions["face"] > 0.5
    assert z[30] > head.mean[face, 2].max() - 1.0  # the tip of the nose is foremost
    assert (x[:8] < 0).all()
    assert (x[9:17] > 0).all()  # 0 is the subject's right ear
    assert (x[:16] < x[1:17]).all()
    assert torch.equal(x[17:27].sort().values, x[17:27])
    assert (y[27:30] > y[28:31]).all()
    assert torch.equal(x[31:36].sort().values, x[31:36])
    for outer, inner, upper, lower in ((36, 39, (37, 38), (40, 41)), (45, 42, (43, 44), (46, 47))):
        assert x[outer].abs() > x[inner].abs() + 20
        for lid in upper:
            assert y[lid] > y[lower[0]] + 5
    assert y[[19, 24]].min() > y[[37, 44]].max() + 8  # brows above the lids
    assert x[54] > 20
    assert x[48] < -20
    assert y[51] > y[62] > y[66] > y[57] > y[8]
    assert y[8] == y[:17].min()


def test_closed_eyes_open_mouth_and_single_winks(head):
    def opening(points, upper, lower):
        return (points[list(upper)] - points[list(lower)]).norm(dim=1).mean()

    rest = landmarks_of(head, show(head, "neutral"))
    right, left = ((37, 38), (41, 40)), ((43, 44), (47, 46))
    for name, closed, still in (
        ("eyes_closed", (right, left), ()),
        ("left_eye_closed", (left,), (right,)),
        ("right_eye_closed", (right,), (left,)),
    ):
        points = landmarks_of(head, show(head, name))
        for pair in closed:
            assert opening(points, *pair) < 0.25 * opening(rest, *pair)
        for pair in still:
            assert opening(points, *pair) > 0.8 * opening(rest, *pair)
    gap = (rest[62] - rest[66]).norm()
    wide = landmarks_of(head, show(head, "jaw_open"))
    assert gap < 3
    assert (wide[62] - wide[66]).norm() > 20
    assert (wide[8] - rest[8]).norm() > 20
    smile, frown = (landmarks_of(head, show(head, n)) for n in ("smile", "frown"))
    assert (smile[[48, 54], 1] > rest[[48, 54], 1] + 3).all()
    assert (frown[[48, 54], 1] < rest[[48, 54], 1] - 2).all()
    pucker = landmarks_of(head, show(head, "pucker"))
    assert pucker[54, 0] - pucker[48, 0] < 0.8 * (rest[54, 0] - rest[48, 0])
    brows = landmarks_of(head, show(head, "brows_up"))
    assert (brows[17:27, 1] > rest[17:27, 1] + 2).all()


def test_mouth_has_an_inside(head):
    regions = head.regions
    inside = regions["mouth_interior"] > 0.9
    lips = landmarks_of(head, show(head, "jaw_open"))[[62, 66]]
    opened = show(head, "jaw_open")[inside]
    assert opened[:, 2].min() < lips[:, 2].min() - 15  # a cavity behind the lips, mm
    colour = head.albedo_mean[inside]
    assert colour.mean(1).min() < 0.15  # dark throat
    assert colour.mean(1).max() > 0.6  # teeth


def test_an_asymmetric_person_differs_left_and_right(head):
    one = head.sample(1, torch.Generator().manual_seed(3))
    person = head(one["identity"], torch.zeros(1, 1))[0]
    difference = (person[head.mirror_index] * X_FLIP - person).norm(dim=1)
    assert difference[head.regions["face"] > 0.5].mean() > 0.5


def test_light_transfer_is_lambert_without_shadows_and_darker_with(head):
    normals = vertex_normals(head.mean[None], head.faces)[0]
    open_sky = sh_basis(normals, 5) * (lambert_factors(5) / torch.pi)
    uniform_light = torch.zeros(25)
    uniform_light[0] = (4 * torch.pi) ** 0.5
    shaded = head.light_transfer @ uniform_light
    forehead = (head.mean[:, 1] > 70) & (head.mean[:, 2] > 50)
    assert_close(shaded[forehead], (open_sky.float() @ uniform_light)[forehead], atol=0.12, rtol=0)
    assert shaded[head.regions["mouth_interior"] > 0.9].mean() < 0.3


def test_named_expressions_are_known(head):
    with pytest.raises(ValueError, match="eyes_closed"):
        head.named_expression("moustache")


def test_loading_is_quick_and_equals_building(head, tmp_path):
    first = procedural_head()
    start = time.perf_counter()
    again = procedural_head()
    assert time.perf_counter() - start < 1.0
    assert torch.equal(first.mean, again.mean)
    assert not any(name.endswith(".tmp") for name in map(str, tmp_path.iterdir()))
