"""Photometric fit: what holds without reference numbers."""

import math
from dataclasses import fields
from functools import partial

import pytest
import torch
import yaml

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import FlameFit, ReferenceFit, losses
from lit_face.methods.flame_fit.camera import (
    flame_camera,
    house_camera,
    project,
    rigid_fit,
    rigid_start,
    to_ndc,
    to_pixels,
)
from lit_face.methods.flame_fit.descent import Descent
from lit_face.methods.flame_fit.fit import FitOptions
from lit_face.methods.flame_fit.light import FULL_LIGHT, house_light, shading
from lit_face.methods.flame_fit.offset import albedo_of, offset_map
from lit_face.methods.flame_fit.pixels import mix, pick, seen_pixels, weights_of
from lit_face.morphable_models.texture_space import sample_texture, texture_space_of
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.shade import sh_shading
from lit_face.types import FaceBatch
from tests.conftest import REPO
from tests.helpers.faces import faces, head
from tests.helpers.tolerances import assert_close

SIZE = 64
SMALL = partial(texture_space_of, size=32)
QUICK = {
    "rigid_steps": 20,
    "landmark_steps": 60,
    "steps": (20, 10),
    "offset_steps": 10,
    "window": 0,
}


@pytest.fixture(scope="module")
def batch():
    return faces(3, SIZE, seed=3, yaw_deg=25.0)


def fitter(**options):
    return FlameFit(
        head(),
        image_size=SIZE,
        texture_space=partial(texture_space_of, size=64),
        components=10,
        follow_contour=False,
        options=QUICK | options,
    )


@pytest.fixture(scope="module")
def fitted(batch):
    return fitter().refine(batch.image, batch.landmarks)


def points_and_pose(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = head().mean[head().landmark_index[17:]]
    rotation = 0.4 * torch.randn(count, 3, generator=generator)
    camera = torch.tensor([math.log(0.007), 0.0, 0.0]).repeat(count, 1)
    camera = camera + 0.1 * torch.randn(count, 3, generator=generator)
    return points, rotation, camera


# Light


def test_the_house_light_shades_as_the_fits_own():
    generator = torch.Generator().manual_seed(0)
    light = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    normals = torch.randn(2, 200, 3, generator=generator, dtype=torch.float64)
    normals = torch.nn.functional.normalize(normals, dim=-1)
    camera_normals = normals * normals.new_tensor([1.0, -1.0, -1.0])
    expected = shading(normals, light)
    assert_close(sh_shading(camera_normals, house_light(light)), expected, atol=1e-12, rtol=0)


def test_the_start_light_shades_with_one():
    light = torch.zeros(1, 9, 1)
    light[:, 0] = FULL_LIGHT
    normals = torch.nn.functional.normalize(torch.randn(1, 50, 3), dim=-1)
    assert_close(shading(normals, light), torch.ones(1, 50, 1), atol=1e-6)
    assert house_light(light).shape == (1, 9, 3)


# Camera


def test_the_closed_form_is_exact_on_exact_points():
    points, rotation, camera = points_and_pose(6)
    true = project(points.expand(6, -1, -1), axis_angle_to_matrix(rotation), camera)[..., :2]
    found = rigid_start(points, true)
    assert_close(found["rotation"], rotation, atol=1e-4, rtol=0)
    assert_close(found["camera"], camera, atol=1e-4, rtol=0)


def test_the_rigid_stage_converges():
    points, rotation, camera = points_and_pose(4, seed=1)
    true = project(points.expand(4, -1, -1), axis_angle_to_matrix(rotation), camera)[..., :2]
    noisy = true + 0.03 * torch.randn(true.shape, generator=torch.Generator().manual_seed(2))

    def error(steps):
        pose = rigid_fit(points, noisy, steps)
        rotated = axis_angle_to_matrix(pose["rotation"])
        found = project(points.expand(4, -1, -1), rotated, pose["camera"])
        return losses.landmark_term(found, noisy)

    long = error(1000)
    assert (error(FitOptions().rigid_steps) <= 1.005 * long + 1e-6).all()
    assert (error(0) > error(FitOptions().rigid_steps)).any()


def test_cameras_agree():
    points, rotation, camera = points_and_pose(4)
    rotation = axis_angle_to_matrix(rotation)
    points = points.expand(4, -1, -1)
    ndc = project(points, rotation, camera)
    pixels = house_camera(rotation, camera, SIZE).project(points)
    assert_close(pixels[..., :2], to_pixels(ndc[..., :2], SIZE), atol=1e-4)
    assert_close(to_ndc(to_pixels(ndc, SIZE), SIZE), ndc, atol=1e-6)
    scale, x, y = flame_camera(camera)[:, :, None].unbind(1)
    metres = points @ rotation.mT / 1e3
    expected = torch.stack([scale * (metres[..., 0] + x), -scale * (metres[..., 1] + y)], -1)
    assert_close(ndc[..., :2], expected, atol=1e-5)


# Terms


def test_terms_have_right_gradients():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    weights = torch.rand(2, 68, generator=generator, dtype=torch.float64)
    true = torch.randn(2, 68, 2, generator=generator, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda x: losses.landmark_term(x, true, weights), random(2, 68, 2))
    assert check(lambda x: losses.opening_term(x, true), random(2, 68, 2))
    assert check(lambda x: losses.photometric_term(x, weights), random(2, 3, 68))
    assert check(losses.grey_light, random(2, 9, 3))


def test_terms_without_weight_or_error_are_zero():
    points = torch.rand(2, 68, 2, requires_grad=True)
    for term in (
        losses.landmark_term(points, points.detach()),
        losses.landmark_term(points, points.detach() + 1, torch.zeros(68)),
        losses.opening_term(points, points.detach() + 1),
        losses.photometric_term(torch.ones(2, 3, 5), torch.zeros(2, 5)),
        losses.grey_light(torch.rand(2, 9, 1)),
    ):
        assert_close(term, torch.zeros(2), atol=1e-6)
    losses.landmark_term(points, points.detach()).sum().backward()
    assert not points.grad.any()
    assert math.isclose(losses.point_weights().mean(), 1, rel_tol=1e-6)


def test_pixels_are_those_of_the_rasteriser_inside_the_mask(batch):
    model, count = head(), len(batch)
    vertices = model(batch.coefficients["identity"], batch.coefficients["expression"])
    points = batch.camera.project(vertices)
    mask = torch.zeros(count, 1, SIZE, SIZE)
    mask[:, :, 20:50], mask[0, :, :, 30:] = 1, 0
    pixels = seen_pixels(points, model.faces, batch.image, mask)
    face = rasterize(points, model.faces, (SIZE, SIZE))
    fragments = fragments_of(points, model.faces, face)
    normals = vertex_normals(vertices, model.faces)
    pictures = fragments.to_image(fragments.interpolate(normals)).flatten(2)
    mixed = mix(weights_of(pixels, points), pick(normals.mT, pixels.corner))
    for row in range(count):
        counts = pixels.weight[row] > 0
        place = pixels.place[row][counts]
        assert counts.sum() == ((face[row] >= 0) & (mask[row, 0] > 0)).sum()
        assert_close(mixed[row][:, counts], pictures[row][:, place], atol=1e-4)
        assert torch.equal(pixels.color[row][:, counts], batch.image[row].flatten(1)[:, place])


# Descent


def bowl(target):
    def objective(values, step):
        return {"bowl": (values["x"] - target).square().sum(1)}

    return objective


def descent(start, **options):
    return Descent({"x": start.clone()}, {"bowl": 1.0}, {"x": 0.1}, **options)


def test_a_photo_that_fails_keeps_its_values_and_harms_no_other():
    target, start = torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3, 1)

    def objective(values, step):
        terms = bowl(target)(values, step)
        spoilt = terms["bowl"] * torch.tensor([1.0, math.nan if step == 5 else 1.0, 1.0])
        return {"bowl": spoilt}

    run, clean = descent(start, window=0), descent(start, window=0)
    run.adam(objective, ["x"], 100, 0)
    clean.adam(bowl(target), ["x"], 100, 0)
    assert run.failed.tolist() == [False, True, False]
    assert torch.equal(run.values["x"][[0, 2]], clean.values["x"][[0, 2]])
    assert 0.4 < run.values["x"][1] < 0.6


def test_photos_stop_when_they_are_done():
    target = torch.tensor([[0.0], [4.0]])
    run = descent(torch.zeros(2, 1) + 1e-3, window=5, tolerance=0.5)
    run.adam(bowl(target), ["x"], 40, 0)
    long = descent(torch.zeros(2, 1) + 1e-3, window=0)
    long.adam(bowl(target), ["x"], 40, 0)
    assert len(run.trace) <= len(long.trace)
    alone = descent(torch.full((1, 1), 1e-3), window=5, tolerance=0.5)
    alone.adam(bowl(target[1:]), ["x"], 40, 0)
    assert_close(run.values["x"][1:], alone.values["x"], atol=1e-6)


# Offset


def test_the_offset_map_solves_its_normal_equations():
    size, generator = 6, torch.Generator().manual_seed(0)
    uv = torch.rand(1, 40, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(1, 40, generator=generator, dtype=torch.float64)
    difference = torch.randn(1, 1, 40, generator=generator, dtype=torch.float64)
    found = offset_map(difference, weight, uv, size, 0.1, 0.05, 60).requires_grad_()
    read = sample_texture(found, uv)
    cost = (weight * (read - difference)[:, 0].square()).sum() + 0.05 * found.square().sum()
    cost = cost + 0.1 * (found[..., 1:] - found[..., :-1]).square().sum()
    cost = cost + 0.1 * (found[:, :, 1:] - found[:, :, :-1]).square().sum()
    (gradient,) = torch.autograd.grad(cost, found)
    assert gradient.abs().max() < 1e-8


def test_albedo_explains_the_photo_within_its_range():
    color, light = torch.rand(1, 3, 50), 0.5 + torch.rand(1, 3, 50)
    albedo = albedo_of(color, light)
    assert albedo.min() >= 0
    assert albedo.max() <= 1
    assert_close(albedo_of(color, torch.ones(1, 3, 50)), color, atol=1e-5)


# The whole fit


def test_the_fit_explains_the_photo(batch, fitted):
    assert (fitted.after["photo_l1"] < 0.3 * fitted.before["photo_l1"]).all()
    assert (fitted.after["landmarks_px"] < 0.4 * fitted.before["landmarks_px"]).all()
    assert not fitted.after["failed"].any()
    model = head()
    true = model(batch.coefficients["identity"], batch.coefficients["expression"])
    errors = [
        (shape - true).square().sum(-1).sqrt().mean()
        for shape in (fitted.face.vertices, model.mean.expand_as(true))
    ]
    assert errors[0] < errors[1]
    albedo = fitted.face.textures["diffuse"]
    assert albedo.min() >= 0
    assert albedo.max() <= 1
    assert fitted.trace["total"].shape == (3, 90)
    assert (fitted.trace["total"][:, -1] < fitted.trace["total"][:, 60]).all()


def test_photos_of_a_batch_do_not_touch_each_other(batch, fitted):
    image, landmarks = batch.image.clone(), batch.landmarks.clone()
    image[2], landmarks[2] = image[1].flip(0), landmarks[1]
    other = fitter().refine(image, landmarks)
    assert torch.equal(other.trace["total"][:2, :60], fitted.trace["total"][:2, :60])
    # Then the number of pixels that a photo is filled up to changes the order of sums.
    moved = other.face.image_vertices[:2] - fitted.face.image_vertices[:2]
    assert moved.norm(dim=-1).mean() < 0.1


def test_a_batch_is_as_good_as_single_photos(batch, fitted):
    for row in range(len(batch)):
        one = fitter().refine(batch.image[row : row + 1], batch.landmarks[row : row + 1])
        found, together = one.trace["total"][0], fitted.trace["total"][row]
        assert_close(found[:60], together[:60], rtol=5e-3)  # Adam makes much of rounding
        pixels = fitted.face.image_vertices[row : row + 1]
        assert (one.face.image_vertices - pixels).norm(dim=-1).mean() < 0.1


def test_options_of_light_and_stages(batch):
    quick = {"landmark_steps": 5, "steps": (3,), "offset_steps": 0}
    mono = fitter(light="mono", normals_grad=True, outlier=0.1, **quick)
    face = mono.predict_step(FaceBatch(image=batch.image, landmarks=batch.landmarks))
    assert torch.equal(face.light[..., 0], face.light[..., 2])
    assert face.image_vertices.isfinite().all()
    following = FlameFit(
        head(),
        image_size=SIZE,
        texture_space=SMALL,
        options=QUICK | quick,
    )
    found = following.refine(batch.image, batch.landmarks).face
    assert not torch.equal(found.landmarks, found.image_vertices[:, head().landmark_index])


def test_quasi_newton_steps_do_as_well(batch, fitted):
    method = fitter(optimizer="lbfgs", landmark_steps=40, steps=(16, 8))
    found = method.refine(batch.image, batch.landmarks)
    assert (found.after["landmarks_px"] < 0.4 * found.before["landmarks_px"]).all()
    assert (found.after["photo_l1"] < 0.3 * found.before["photo_l1"]).all()
    assert found.trace["total"].shape == (3, 4)
    assert found.trace["total"][:, -1].mean() < 1.5 * fitted.trace["total"][:, -1].mean()


def test_confidence_takes_landmarks_out(batch):
    confidence = torch.ones(3, 68)
    confidence[:, 60:] = 0
    spoilt = batch.landmarks.clone()
    spoilt[:, 60:] += 5
    options = {"landmark_steps": 20, "steps": (), "offset_steps": 0, "weights": {"opening": 0.0}}
    found = [
        fitter(**options).refine(batch.image, points, confidence=confidence).face.vertices
        for points in (batch.landmarks, spoilt)
    ]
    assert torch.equal(*found)


def test_hostile_photos_give_finite_faces(batch):
    quick = {"landmark_steps": 5, "steps": (3, 3), "offset_steps": 3}
    black, none = torch.zeros_like(batch.image), torch.zeros(3, 1, SIZE, SIZE)
    shifted = batch.landmarks + torch.tensor([0.2 * SIZE, 0.0, 0.0])
    for image, points, mask in (
        (black, batch.landmarks, 1 - none),
        (batch.image, batch.landmarks, none),
        (1 - black, batch.landmarks, None),
        (batch.image, shifted, None),
    ):
        found = fitter(**quick).refine(image, points, skin_mask=mask)
        assert found.face.image_vertices.isfinite().all()
        assert found.face.textures["diffuse"].isfinite().all()
        assert not found.after["failed"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: (b.image, b.landmarks + 4 * SIZE, None), "landmarks of photo 0 lie off"),
        (lambda b: (b.image, b.landmarks * torch.nan, None), "landmarks of photo 0 holds NaN"),
        (lambda b: (b.image * torch.inf, b.landmarks, None), "image of photo 0 holds NaN"),
        (lambda b: (b.image, b.landmarks * 0, None), "landmarks of photo 0 lie in one line"),
        (lambda b: (b.image, b.landmarks[:, :60], None), "landmarks should be"),
        (lambda b: (b.image[..., :30], b.landmarks, None), "image should be"),
        (lambda b: (b.image, b.landmarks, b.image), "skin_mask should be"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(batch, change, message):
    image, landmarks, mask = change(batch)
    with pytest.raises(ValueError, match=message):
        fitter().refine(image, landmarks, skin_mask=mask)


def test_the_preset_fits_any_head(batch):
    method = ReferenceFit(
        head(),
        image_size=SIZE,
        texture_space=SMALL,
        components=5,
        rigid_steps=20,
        steps=20,
    )
    found = method.refine(batch.image, batch.landmarks)
    assert (found.after["landmarks_px"] < found.before["landmarks_px"]).all()
    face = found.face
    assert_close(face.camera.project(face.vertices), face.image_vertices, atol=1e-3)
    assert found.trace["total"].shape == (3, 40)


def test_the_config_names_every_option_and_its_default():
    stored = yaml.safe_load((REPO / "conf/method/flame_fit.yaml").read_text())["options"]
    options = FitOptions()
    for field in fields(FitOptions):
        value = getattr(options, field.name)
        assert stored[field.name] == (list(value) if isinstance(value, tuple) else value)
    assert len(stored) == len(fields(FitOptions))
