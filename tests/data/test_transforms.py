import math

import pytest
import torch

from lit_face.data.landmarks import MIRROR_68, project_landmarks
from lit_face.data.occlusion import occluder_mask
from lit_face.data.random import sample_keys
from lit_face.data.transforms import FaceTransform
from lit_face.geometry.cameras import AffineCamera
from lit_face.morphable_models.bfm import load_bfm
from lit_face.types import FaceBatch
from tests.helpers.tolerances import assert_close

COUNT, SIDE = 8, 450
STILL = {"color": (1.0, 1.0), "occlusion": 0.0}


@pytest.fixture(scope="module")
def standin(reference):
    return load_bfm(reference / "prn" / "standin_BFM.mat")


@pytest.fixture(scope="module")
def batch(standin) -> FaceBatch:
    """Faces of the stand-in model whose pictures have one bright dot a landmark."""
    generator = torch.Generator().manual_seed(1)
    coefficients = standin.sample(COUNT, generator)
    angle = torch.rand(COUNT, generator=generator) - 0.5
    rotation = torch.eye(3).repeat(COUNT, 1, 1)
    rotation[:, 0, 0] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 0, 2], rotation[:, 2, 0] = angle.sin(), -angle.sin()
    flip = torch.tensor([1.0, -1.0, -1.0])[:, None]
    camera = AffineCamera.orthographic(
        torch.full((COUNT,), 1.3), flip * rotation, torch.tensor([[225.0, 225.0, 0.0]]).expand(8, 3)
    )
    landmarks = project_landmarks(standin, coefficients, camera)
    return FaceBatch(
        image=_dots(landmarks),
        landmarks=landmarks,
        coefficients=coefficients,
        camera=camera,
        skin_mask=torch.ones(COUNT, 1, SIDE, SIDE),
        random_key=sample_keys(5, 0, torch.arange(COUNT)),
    )


def _dots(landmarks, side=SIDE, width=2.0):
    """Draw the points 30, 8, 36 and 54 as smooth dots; red, green, blue, and blue again."""
    axis = torch.arange(side, dtype=torch.float32)
    image = torch.zeros(len(landmarks), 3, side, side)
    for channel, point in ((0, 30), (1, 8), (2, 36), (2, 54)):
        x, y = landmarks[:, point, 0, None], landmarks[:, point, 1, None]
        across, down = (
            torch.exp(-(((axis - x) / width) ** 2)),
            torch.exp(-(((axis - y) / width) ** 2)),
        )
        image[:, channel] += down[:, :, None] * across[:, None, :]
    return image.clamp(max=1)


def _centre_of_mass(channel):
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    mass = channel.sum((1, 2))
    return (
        torch.stack([(channel * columns).sum((1, 2)), (channel * rows).sum((1, 2))], 1)
        / mass[:, None]
    )


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_landmarks_still_sit_on_their_pixels(batch, mirror):
    """The dots are found where the moved landmarks say, whatever the random similarity."""
    transform = FaceTransform(translation=0.0, mirror=mirror, **STILL)
    result = transform(batch)
    # The nose and the chin mirror to themselves; a corner of the eye becomes the other one.
    for channel, point in ((0, 30), (1, 8)):
        found = _centre_of_mass(result.image[:, channel])
        assert_close(found, result.landmarks[:, point, :2], atol=0.1, rtol=0.0)
    eye = 45 if mirror else 36
    at_eye = result.landmarks[:, eye, :2].round().long()
    blue = result.image[torch.arange(COUNT), 2, at_eye[:, 1], at_eye[:, 0]]
    assert (blue > 0.7).all()


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_camera_agrees_with_the_moved_landmarks(batch, standin, mirror):
    result = FaceTransform(mirror=mirror, **STILL)(batch)
    vertices = standin(batch.coefficients["identity"], batch.coefficients["expression"])
    projected = standin.landmarks(result.camera.project(vertices))
    expected = projected[:, MIRROR_68] if mirror else projected
    assert_close(result.landmarks, expected, atol=1e-2, rtol=0.0)  # float32 pixels, 3 products
    handedness = torch.linalg.det(result.camera.matrix[:, :, :3]) * torch.linalg.det(
        batch.camera.matrix[:, :, :3]
    )
    assert ((handedness < 0) == bool(mirror)).all()


def test_landmarks_come_from_coefficients_where_the_dataset_stores_none(batch, standin):
    bare = FaceBatch(**{**vars(batch), "landmarks": None})
    transform = FaceTransform(morphable_model=standin)
    assert_close(transform(bare).landmarks, transform(batch).landmarks, atol=1e-3, rtol=0.0)
    with pytest.raises(ValueError, match="morphable_model"):
        FaceTransform()(bare)


def test_a_sample_is_transformed_alike_in_any_batch(batch):
    transform = FaceTransform()
    whole = transform(batch)
    order = torch.tensor([5, 2])
    some = transform(batch.map(lambda t: t[order]))
    assert_close(some.image, whole.image[order])
    assert_close(some.landmarks, whole.landmarks[order])
    assert_close(some.camera.matrix, whole.camera.matrix[order])
    assert_close(some.skin_mask, whole.skin_mask[order])
    again = transform(FaceBatch(**{**vars(batch), "random_key": batch.random_key + 1}))
    assert (again.landmarks - whole.landmarks).abs().flatten(1).amax(1).min() > 1


def test_skin_mask_excludes_what_is_in_front_of_the_face(batch):
    transform = FaceTransform(occlusion=1.0, color=(1.0, 1.0), padding="border")
    result, bare = (
        transform(batch),
        FaceTransform(occlusion=0.0, color=(1.0, 1.0), padding="border")(batch),
    )
    changed = (result.image != bare.image).any(dim=1, keepdim=True)
    assert (result.skin_mask[changed] == 0).all()
    assert_close(result.skin_mask[~changed], bare.skin_mask[~changed])
    assert changed.flatten(1).float().mean(1).min() > 0.005


def test_occluders_have_the_asked_frequency_and_area():
    keys = sample_keys(0, 0, torch.arange(600))
    mask = occluder_mask(keys, (48, 64), 0.5)[:, 0]
    present = mask.flatten(1).any(1)
    assert abs(present.float().mean().item() - 0.5) < 0.07
    area = mask[present].flatten(1).mean(1)
    assert area.max() < 0.21
    assert 0.05 < area.mean() < 0.12  # centre 0.11, less what leaves the image


def test_draws_stay_in_their_ranges_and_fill_them(standin):
    count = 400
    face = torch.zeros(count, 68, 3)
    face[:, :, :2] = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 100 + 100
    keys = sample_keys(1, 0, torch.arange(count))
    matrix = FaceTransform(mirror=0.0).similarity(face, keys)
    low, high = face[..., :2].amin(1), face[..., :2].amax(1)
    unjittered = 255 / ((high - low).mean(1) * 1.5)
    scale = torch.linalg.det(matrix[:, :2, :2]).sqrt() / unjittered
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert scale.min() > 0.9 / 1.1 - 1e-4
    assert scale.max() < 1.2 / 0.9 + 1e-4
    assert angle.abs().max() <= 45.001
    assert angle.abs().max() > 40
    assert angle.mean().abs() < 5
    mirrored = torch.linalg.det(FaceTransform().similarity(face, keys)[:, :2, :2]) < 0
    assert abs(mirrored.float().mean().item() - 0.5) < 0.08


def test_evaluation_crop_is_exact_and_needs_no_random_numbers(batch):
    bare = FaceBatch(**{**vars(batch), "random_key": None})
    result = FaceTransform.for_evaluation()(bare)
    low, high = result.landmarks[..., :2].amin(1), result.landmarks[..., :2].amax(1)
    assert_close((low + high) / 2, torch.full((COUNT, 2), 127.5), atol=1e-3, rtol=0.0)
    assert_close((high - low).mean(1), torch.full((COUNT,), 255 / 1.6), atol=1e-2, rtol=0.0)
    with pytest.raises(ValueError, match="random_key"):
        FaceTransform()(bare)


def test_uint8_pictures_become_floats_in_range(batch):
    image = (batch.image * 255).round().to(torch.uint8)
    changed = FaceBatch(**{**vars(batch), "image": image})
    found = FaceTransform.for_evaluation()(changed)
    found.validate("dots")
    assert_close(found.image, FaceTransform.for_evaluation()(batch).image, atol=2.1 / 255, rtol=0.0)


def test_position_map_moves_with_the_image_and_swaps_sides_in_a_mirror(batch):
    points = torch.rand(COUNT, 3, 5, 5, generator=torch.Generator().manual_seed(2)) * 200
    transform = FaceTransform(mirror=1.0, **STILL)
    found = transform(FaceBatch(**{**vars(batch), "position_map": points})).position_map
    matrix = transform.similarity(batch.landmarks, batch.random_key)
    corner = points[:, :, 0, 0]
    flat = torch.cat([corner[:, :2], torch.ones(COUNT, 1)], 1)[:, :, None]
    assert_close(found[:, :2, 0, 4], (matrix @ flat)[:, :2, 0], atol=1e-3, rtol=0.0)
    scale = torch.linalg.det(matrix[:, :2, :2]).abs().sqrt()
    assert_close(found[:, 2, 0, 4], corner[:, 2] * scale, atol=1e-3, rtol=0.0)


def test_mirror_table_is_the_models_own_symmetry(standin):
    """An involution that matches each landmark with the one at the mirrored place."""
    assert torch.equal(MIRROR_68[MIRROR_68], torch.arange(68))
    points = standin.mean[standin.landmark_index]
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0])
    nearest = torch.cdist(mirrored, points).argmin(1)
    assert torch.equal(nearest, MIRROR_68)
    assert math.isclose(float((points[MIRROR_68] - mirrored).norm(dim=1).max()), 0, abs_tol=1.0)
