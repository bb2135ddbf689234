import math

import pytest
import torch

from lit_face.data.photographs.camera import pose_camera, sample_poses
from lit_face.data.photographs.light import irradiance, sample_lights
from lit_face.data.photographs.render import render_photographs
from lit_face.data.photographs.samples import sample_surface
from lit_face.data.random import sample_keys
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.rotations import matrix_to_euler
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.shade import sh_shading
from lit_face.rendering.visibility import vertex_visibility
from tests.helpers.tolerances import assert_close

SIZE = (160, 144)
COUNT = 6


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def shot(head):
    """Keys, faces, cameras and their pictures without occluders."""
    keys = sample_keys(4, 0, torch.arange(COUNT))
    people = head.sample(COUNT, torch.Generator().manual_seed(4))
    landmarks = head.landmarks(head(people["identity"], people["expression"]))
    camera = sample_poses(keys, landmarks, SIZE)
    return keys, people, camera, render_photographs(head, people, camera, keys, SIZE, 0.0)


def part(people, rows):
    return {name: value[rows] for name, value in people.items()}


def test_pictures_and_masks_are_valid(shot):
    *_, photographs = shot
    assert photographs.image.shape == (COUNT, 3, *SIZE)
    assert photographs.skin_mask.shape == (COUNT, 1, *SIZE)
    for values in (photographs.image, photographs.skin_mask):
        assert values.isfinite().all()
        assert values.min() >= 0
        assert values.max() <= 1
    share = photographs.skin_mask.mean((1, 2, 3))
    assert ((share > 0.05) & (share < 0.7)).all()
    # Neither black nor white, and no two alike.
    brightness = photographs.image.mean((1, 2, 3))
    assert ((brightness > 0.08) & (brightness < 0.92)).all()
    apart = (photographs.image[:1] - photographs.image[1:]).abs().mean((1, 2, 3))
    assert (apart > 0.03).all()


def test_same_key_same_picture_whatever_the_batch(head, shot):
    keys, people, camera, photographs = shot
    rows = [4, 1]
    again = render_photographs(
        head, part(people, rows), AffineCamera(camera.matrix[rows]), keys[rows], SIZE, 0.0
    )
    # Products of another batch size round differently: an outline may move by a sample.
    for one, two in ((again.image, photographs.image), (again.skin_mask, photographs.skin_mask)):
        difference = (one - two[rows]).abs()
        assert difference.mean() < 1e-4
        assert (difference > 1e-2).float().mean() < 1e-3
    other = render_photographs(
        head, part(people, rows), AffineCamera(camera.matrix[rows]), keys[[0, 2]], SIZE, 0.0
    )
    assert (other.image - again.image).abs().mean() > 0.03


def test_skin_mask_holds_the_visible_face(head, shot):
    keys, people, camera, _ = shot
    bald = render_photographs(head, people, camera, keys, SIZE, 0.0, hair=False)
    vertices = camera.project(head(people["identity"], people["expression"]))
    seen = vertex_visibility(vertices, head.faces, SIZE)[:, head.landmark_index] > 0
    shapes = head(people["identity"], people["expression"])
    axes = torch.nn.functional.normalize(camera.matrix[:, :, :3], dim=2)
    normals = vertex_normals(shapes, head.faces)[:, head.landmark_index] @ axes.mT
    seen &= normals[..., 2] < -0.4  # not on the outline
    points = head.landmarks(vertices)
    inside = (
        (points[..., :2] > 2) & (points[..., :2] < torch.tensor([SIZE[1] - 3, SIZE[0] - 3]))
    ).all(-1)
    # Nose and brows: not beside an eyeball or the inner mouth.
    for landmark in (19, 24, 28, 29, 30, 33):
        rows = (seen[:, landmark] & inside[:, landmark]).nonzero()[:, 0]
        x, y = points[rows, landmark, :2].round().long().unbind(-1)
        assert (bald.skin_mask[rows, 0, y, x] > 0.6).all(), landmark


def test_mask_follows_hair_and_occluders(head, shot):
    keys, people, camera, photographs = shot
    bald = render_photographs(head, people, camera, keys, SIZE, 0.0, hair=False)
    covered = ((bald.skin_mask > 0.99) & (photographs.skin_mask < 0.01)).float().mean((1, 2, 3))
    assert (covered > 0.003).float().mean() >= 0.5
    hidden = render_photographs(head, people, camera, keys, SIZE, 1.0)
    removed = photographs.skin_mask - hidden.skin_mask
    assert removed.min() > -1e-3
    assert (removed.amax((1, 2, 3)) > 0.9).float().mean() > 0.6
    changed = (hidden.image - photographs.image).abs().amax(1, keepdim=True)
    assert (changed[removed > 0.9] > 0.02).float().mean() > 0.8


def test_eyeballs_are_not_skin(head):
    frontal = pose_camera(
        torch.zeros(1, 3),
        torch.tensor([[80.0, 80.0]]),
        head.mean[head.landmark_index],
        box=torch.tensor([110.0]),
    )
    people = {
        "identity": torch.zeros(1, 1),
        "expression": head.named_expression("neutral")[None],
        "albedo": torch.zeros(1, 1),
    }
    photograph = render_photographs(head, people, frontal, torch.tensor([5]), (160, 160), 0.0)
    vertices = frontal.project(head(people["identity"], people["expression"]))[0]
    iris = vertices[head.iris_offset.norm(dim=1) < 1.5].round().long()
    assert (photograph.skin_mask[0, 0, iris[:, 1], iris[:, 0]] < 0.1).all()
    # Pupils are darker than the skin around the eye.
    gray = photograph.image[0].mean(0)
    cheek = vertices[head.landmark_index[29]].round().long()
    assert gray[iris[:, 1], iris[:, 0]].min() < 0.6 * gray[cheek[1], cheek[0]]


def test_light_is_the_house_convention_and_frontal_faces_are_exposed():
    keys = sample_keys(0, 0, torch.arange(200))
    lights = sample_lights(keys)
    normals = torch.nn.functional.normalize(torch.randn(200, 50, 3), dim=-1)
    light = lights.coefficients()
    # Three bands of the light, shaded by the renderer, are what the pictures were lit with, up to
    # the fifth band.
    difference = sh_shading(normals, light[:, :9]) - irradiance(normals, light)
    assert difference.abs().mean() < 0.03
    frontal = torch.tensor([0.0, 0.0, -1.0]).expand(200, 1, 3)
    brightness = irradiance(frontal, light).mean((1, 2))
    assert ((brightness > 0.5) & (brightness < 2)).all()
    turn = torch.linalg.qr(torch.randn(200, 3, 3)).Q
    turned = irradiance(normals @ turn.mT, lights.coefficients(turn))
    assert_close(turned, irradiance(normals, light), atol=1e-4, rtol=1e-3)


def test_poses_are_as_asked(head):
    points = head.mean[head.landmark_index]
    angles = torch.tensor([[10.0, -70.0, 20.0], [0.0, 85.0, 0.0]]) * math.pi / 180
    center = torch.tensor([[100.0, 90.0], [80.0, 120.0]])
    camera = pose_camera(angles, center, points, box=torch.tensor([90.0, 60.0]))
    projected = camera.project(points)[..., :2]
    low, high = projected.amin(1), projected.amax(1)
    assert_close((low + high) / 2, center, atol=1e-3)
    assert_close((high - low).amax(1), torch.tensor([90.0, 60.0]), atol=1e-3)
    rotation = torch.nn.functional.normalize(camera.matrix[:, :, :3], dim=2)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotation
    assert_close(matrix_to_euler(upright), angles, atol=1e-4)
    with pytest.raises(ValueError, match="one of scale and box"):
        pose_camera(angles, center, points)
    keys = sample_keys(1, 0, torch.arange(64))
    cameras = sample_poses(keys, points, (128, 192), yaw_range=(-80, 80))
    inside = cameras.project(points)
    assert (inside[..., 0] > 0).all()
    assert (inside[..., 0] < 191).all()
    assert (inside[..., 1] > 0).all()
    assert (inside[..., 1] < 127).all()


def test_outlines_are_anti_aliased_with_the_area_they_cover():
    # A triangle whose left edge leans: each pixel's coverage is within a sample of its true area.
    vertices = torch.tensor([[[2.3, -5.0, 0.0], [4.8, 25.0, 0.0], [60.0, 10.0, 0.0]]])
    faces = torch.tensor([[0, 1, 2]])
    samples = sample_surface(vertices, faces, torch.zeros(1, dtype=torch.int64), (16, 16))
    values, coverage = samples.resolve(torch.full((len(samples.image), 1), 0.5))
    rows = torch.arange(16.0)
    edge = 2.3 + (rows + 5) / 30 * 2.5
    expected = (torch.arange(16.0)[None] + 0.5 - edge[:, None]).clamp(0, 1)
    assert (coverage[0, 0] - expected).abs().max() <= 0.3
    assert_close(values, 0.5 * coverage)
    assert 0 < samples.even < len(samples.image)


def test_any_morphable_model_can_be_photographed():
    grid = torch.linspace(-60, 60, 24)
    y, x = torch.meshgrid(grid.flip(0), grid, indexing="ij")
    mean = torch.stack([x, y, 60 - (x**2 + y**2) / 90], dim=-1).flatten(0, 1)
    index = torch.arange(24 * 24).view(24, 24)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    arrays = ModelArrays(
        mean=mean,
        faces=torch.stack([a, c, d, a, d, b], dim=-1).reshape(-1, 3),
        uv=mean[:, :2] / 120 + 0.5,
        landmark_index=torch.linspace(0, 575, 68).long(),
        identity_basis=torch.zeros(576, 3, 2),
        expression_basis=torch.zeros(576, 3, 2),
        identity_std=torch.ones(2),
        expression_std=torch.ones(2),
        albedo_mean=torch.full((576, 3), 0.6),
        albedo_basis=torch.zeros(576, 3, 2),
    )
    model = MorphableModel(arrays, "dome")
    people = {name: torch.zeros(2, 2) for name in ("identity", "expression", "albedo")}
    camera = pose_camera(
        torch.zeros(2, 3), torch.full((2, 2), 32.0), mean, box=torch.full((2,), 40.0)
    )
    photographs = render_photographs(model, people, camera, torch.tensor([1, 2]), (64, 64), 0.0)
    assert_close(photographs.skin_mask.mean(), torch.tensor((40 / 64) ** 2), atol=0.02)


def test_mirrored_cameras_mirror_the_mask(head, shot):
    keys, people, camera, _ = shot
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    mirror[0, 2] = SIZE[1] - 1
    flipped = camera.warped(mirror.expand(COUNT, 3, 3))
    one = render_photographs(head, people, camera, keys, SIZE, 0.0, hair=False).skin_mask
    two = render_photographs(head, people, flipped, keys, SIZE, 0.0, hair=False).skin_mask
    assert (one - two.flip(-1)).abs().mean() < 5e-3


def test_a_wrong_number_of_keys_is_an_error(head, shot):
    keys, people, camera, _ = shot
    with pytest.raises(ValueError, match="as many keys"):
        render_photographs(head, people, camera, keys[:3], SIZE)
