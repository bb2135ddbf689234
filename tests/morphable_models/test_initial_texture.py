"""Colours carried from one head to the texture layout of another."""

import pytest
import torch

from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.flame import flame
from lit_face.morphable_models.initial_texture import harmonic_fill, initial_texture
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.surface_fit import fit_to_surface
from lit_face.morphable_models.texture_space import texture_space_of
from tests.helpers.tolerances import assert_close

SIZE = 64


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def target():
    return flame(identity_size=40, expression_size=20)


def moved(head, coefficients, scale=1.0, degrees=0.0, shift=0.0):
    """The head with another mean face, elsewhere, larger, and without its last faces."""
    mean = head(coefficients, torch.zeros(1, 1))[0]
    turn = axis_angle_to_matrix(torch.tensor([[0.0, torch.pi * degrees / 180, 0]]))[0]
    fields = ModelArrays.__dataclass_fields__
    arrays = {name: getattr(head, name) for name in fields}
    arrays["mean"] = scale * mean @ turn.T + shift
    return MorphableModel(ModelArrays(**arrays), "donor")


@pytest.fixture(scope="module")
def donor(head):
    codes = torch.randn(1, 20, generator=torch.Generator().manual_seed(3))
    return moved(head, codes, 1.3, 30, 50.0)


def test_a_head_gives_itself_its_own_colours(head, target):
    found = initial_texture(target, head, SIZE, components=3)
    assert found.fit.residual_mm < 0.01
    own = texture_space_of(head, SIZE, 3)
    assert found.known.sum() > 0.9 * own.coverage.sum()
    assert_close(found.space.mean[:, found.known], own.mean[:, found.known], atol=0.02, rtol=0)
    error = (found.space.basis - own.basis)[:, :, found.known].abs()
    assert error.mean() < 1e-4
    assert torch.equal(found.space.coverage, own.coverage)


def test_another_face_in_another_place_gives_the_colours_too(head, target, donor):
    fit = fit_to_surface(target, donor)
    assert fit.residual_mm < 2
    assert_close(fit.similarity.scale.float(), torch.tensor(1.3), atol=0.05, rtol=0)
    found = initial_texture(target, donor, SIZE, components=2)
    face = texture_space_of(head, SIZE, 1)
    error = (found.space.mean - face.mean).abs().mean(0)[found.known]
    assert found.known.sum() > 0.5 * face.coverage.sum()
    assert error.median() < 0.02
    assert found.space.mean.isfinite().all()


def test_far_surfaces_are_refused(head, target):
    donor = moved(head, torch.zeros(1, 1))
    donor.mean = donor.mean.clone()
    donor.mean[:, 2] *= -1  # inside out
    with pytest.raises(ValueError, match="donor"):
        initial_texture(target, donor, SIZE, 0, reach_mm=1e-6)


def test_filling_continues_a_ramp_and_keeps_what_is_known():
    ramp = torch.linspace(0, 1, 16).expand(2, 3, 16, 16).clone()
    known = torch.ones(16, 16, dtype=torch.bool)
    known[3:9, 4:12] = False
    hollow = ramp * known
    assert_close(harmonic_fill(hollow, known), ramp, atol=1e-6, rtol=0)
    faded = harmonic_fill(hollow, known, 0.05)
    assert torch.equal(faded[..., known], ramp[..., known])
    assert faded[0, 0, 6, 8] < 0.5 * ramp[0, 0, 6, 8]


def test_filling_obeys_the_maximum_principle():
    values = torch.rand(1, 3, 20, 20)
    known = torch.rand(20, 20) > 0.6
    filled = harmonic_fill(values * known, known)
    for channel in range(3):
        kept = values[0, channel][known]
        assert filled[0, channel].min() >= kept.min() - 1e-6
        assert filled[0, channel].max() <= kept.max() + 1e-6


def test_filling_from_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        harmonic_fill(torch.zeros(1, 3, 4, 4), torch.zeros(4, 4, dtype=torch.bool))
