from pathlib import Path

import pytest
import torch

from lit_face.morphable_models.bilinear_fit import (
    fit_bilinear,
    fit_linear,
    place,
)
from lit_face.morphable_models.facescape.bilinear import residual
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close

UNIT = 0.01  # world units a mm


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def bilinear(head):
    """A bilinear model in the file's form, of the procedural head: additive in both."""
    ids, expressions = 12, 8
    mean = head.mean.flatten()
    core = torch.zeros(ids, expressions, len(mean))
    core[0] = mean
    core[0, 1:] += head.expression_basis[..., : expressions - 1].flatten(0, 1).mT
    core[1:] = head.identity_basis[..., : ids - 1].flatten(0, 1).mT[:, None]
    start = torch.eye(ids)[0]
    return {
        "core": residual(core.numpy(), Path("core")),
        "id_mean": start,
        "id_var": torch.tensor([1e-4] + [1.0] * (ids - 1)),
        "start": start,
        "landmark_index": head.landmark_index,
    }


def turned(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator).double())[0]
    rotation[:, :, 0] *= torch.linalg.det(rotation).sign()[:, None]
    return rotation, torch.randn(count, 3, generator=generator).double()


def heads_and_points(bilinear, count=3, seed=0):
    """Random heads in a random world: vertices (B,V,3) and their 68 points."""
    generator = torch.Generator().manual_seed(seed)
    _, expressions, ids = bilinear["core"].shape
    identity = torch.randn(count, ids, generator=generator)
    identity[:, 0] = 1
    expression = torch.rand(count, expressions, generator=generator)
    expression[:, 0] = 1
    vertices = torch.einsum("vei,bi,be->bv", bilinear["core"], identity, expression)
    vertices = vertices.view(count, -1, 3).double()
    rotation, translation = turned(count, seed)
    world = UNIT * vertices @ rotation.mT + translation[:, None]
    return world, world[:, bilinear["landmark_index"]]


def error_mm(found, world):
    face = procedural_head().regions["face"] > 0.5
    return (found - world)[:, face].norm(dim=-1).mean(1) / UNIT


@pytest.mark.parametrize("robust", [False, True])
def test_a_head_of_the_model_is_found_with_its_scale(bilinear, robust):
    world, points = heads_and_points(bilinear)
    fit = fit_bilinear(**bilinear, targets=points, robust=robust)
    assert float(error_mm(fit.vertices, world).max()) < 1.2  # the prior pulls
    assert_close(fit.scale, torch.full((3,), UNIT).double(), rtol=0.05)
    # The parts say the same as the vertices.
    shape = torch.einsum("vei,bi,be->bv", bilinear["core"].double(), fit.identity, fit.expression)
    moved = fit.scale[:, None, None] * shape.view(3, -1, 3) @ fit.rotation.mT
    assert_close(moved + fit.translation[:, None], fit.vertices, atol=1e-5)
    assert float(fit.expression.min()) >= 0
    assert float(fit.expression.max()) <= 1
    assert float(fit.residual.median()) < 0.8


def test_a_head_does_not_depend_on_its_batch(bilinear):
    _, points = heads_and_points(bilinear)
    together = fit_bilinear(**bilinear, targets=points, robust=True)
    alone = fit_bilinear(**bilinear, targets=points[1:2], robust=True)
    assert_close(together.vertices[1:2], alone.vertices, atol=1e-6)


def test_a_bad_landmark_loses_its_influence(bilinear):
    world, points = heads_and_points(bilinear)
    bad = points.clone()
    bad[:, [8, 30, 57]] += UNIT * torch.tensor([25.0, -20.0, 15.0]).double()
    plain = error_mm(fit_bilinear(**bilinear, targets=bad).vertices, world)
    robust = fit_bilinear(**bilinear, targets=bad, robust=True)
    assert bool((error_mm(robust.vertices, world) < 0.6 * plain).all())
    assert float(robust.weights[:, [8, 30, 57]].max()) < 0.1
    assert float(robust.weights.median()) > 0.8


def test_unknown_points_do_not_matter(bilinear):
    _, points = heads_and_points(bilinear)
    weights = torch.ones(3, 68)
    weights[:, 20:25] = 0
    unknown = points.clone()
    unknown[:, 20:25] = torch.nan
    without = fit_bilinear(**bilinear, targets=unknown)
    assert_close(
        without.vertices, fit_bilinear(**bilinear, targets=points, weights=weights).vertices
    )
    assert without.residual[:, 20:25].isnan().all()
    assert without.residual.isfinite().sum() == 3 * 63
    unknown[1, 3:] = torch.nan
    with pytest.raises(ValueError, match="Head 1 has 3 points"):
        fit_bilinear(**bilinear, targets=unknown)


def test_mirrored_points_never_give_a_mirrored_head(bilinear):
    _, points = heads_and_points(bilinear)
    mirror = points * torch.tensor([-1.0, 1, 1])
    found = fit_bilinear(**bilinear, targets=mirror)
    assert_close(torch.linalg.det(found.rotation), torch.ones(3).double())
    model = points[:1]
    ones = torch.ones(1, 68).double()
    assert float(torch.linalg.det(place(model, mirror[:1], ones).rotation)[0]) == pytest.approx(1)


def test_placement_goes_both_ways():
    generator = torch.Generator().manual_seed(0)
    model = torch.randn(2, 68, 3, generator=generator).double()
    rotation, translation = turned(2)
    weights = torch.rand(2, 68, generator=generator).double()
    world = 0.3 * model @ rotation.mT + translation[:, None]
    placement = place(model, world, weights)
    assert_close(placement.rotation, rotation)
    assert_close(placement.to_world(model), world)
    assert_close(placement.to_model(world), model)


def test_any_linear_model_can_be_fitted(head):
    generator = torch.Generator().manual_seed(3)
    who = head.sample(2, generator)
    vertices = head(0.7 * who["identity"], 0.7 * who["expression"]).double()
    rotation, translation = turned(2)
    world = UNIT * vertices @ rotation.mT + translation[:, None]
    points = world[:, head.landmark_index]
    points[0, 4] += UNIT * 30
    fit = fit_linear(head, points, robust=True)
    mean = UNIT * head.mean.double() @ rotation.mT + translation[:, None]
    before = error_mm(mean.expand_as(world), world)
    assert bool((error_mm(fit.vertices, world) < 0.5 * before).all())
    assert float(fit.weights[0, 4]) < 0.1
    shape = head(fit.identity, fit.expression).double()
    moved = fit.scale[:, None, None] * shape @ fit.rotation.mT + fit.translation[:, None]
    assert_close(moved, fit.vertices, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused(bilinear):
    _, points = heads_and_points(bilinear)
    with pytest.raises(ValueError, match="id_var should be"):
        fit_bilinear(**{**bilinear, "id_var": torch.ones(5)}, targets=points)
    with pytest.raises(ValueError, match="targets should be"):
        fit_bilinear(**bilinear, targets=points[:, :67])
    with pytest.raises(ValueError, match="core should be"):
        fit_bilinear(**{**bilinear, "core": bilinear["core"][:-1]}, targets=points)
