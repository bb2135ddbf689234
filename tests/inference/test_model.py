"""Boxes to crops to faces in pixels of the photo, with the truth in place of a network."""

import numpy as np
import pytest
import torch
from torch import nn

from lit_face.geometry.rotations import euler_to_matrix
from lit_face.geometry.sampling import warp_image
from lit_face.geometry.similarity2d import apply_similarity
from lit_face.inference.crops import crop_matrices, cut_out, to_photo, visibility_in_photos
from lit_face.inference.model import FaceModel
from lit_face.io.images import write_image
from tests.helpers.photos import portraits, position_maps, true_faces
from tests.helpers.tolerances import assert_close

ANGLES = [[0, 0, 0], [5, 45, -10], [-8, -70, 12]]
SIZE = 240


class Truth(nn.Module):
    """Knows the answer for a photo; draws it in pixels of whatever crop it is given.

    It finds the crop by its marker: photos hold x and y in their first two channels.
    """

    image_size, margin = 96, 1.6

    def __init__(self, coefficients, camera):
        super().__init__()
        self.coefficients, self.camera = coefficients, camera
        self.seen = []

    def forward(self, images):
        maps, reader = position_maps(64)
        self.seen.append(images)
        first, last = images[:, :2, 40, 40] * 255, images[:, :2, 60, 60] * 255
        scale = 20 / (last - first).mean(1)
        matrix = torch.zeros(len(images), 3, 3)
        matrix[:, 0, 0] = matrix[:, 1, 1] = scale
        matrix[:, :2, 2], matrix[:, 2, 2] = 40 - scale[:, None] * first, 1
        count = len(images)
        rows = {name: value[:count] for name, value in self.coefficients.items()}
        truth = reader(maps(rows, self.camera.map(lambda tensor: tensor[:count])))
        inverse = torch.linalg.inv(matrix)
        return to_photo(truth, inverse)


@pytest.fixture(scope="module")
def scene():
    pictures, landmarks, coefficients, camera, _ = portraits(ANGLES, SIZE)
    return pictures, landmarks, coefficients, camera


def ramps(count):
    """Photos whose red is x and green is y."""
    ramp = np.zeros((SIZE, SIZE, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(SIZE), np.arange(SIZE)[:, None]
    return [ramp] * count


def boxes_of(landmarks):
    return torch.cat([landmarks[..., :2].amin(1), landmarks[..., :2].amax(1)], dim=1)


def test_results_come_back_to_pixels_of_the_photo(scene):
    _, landmarks, coefficients, camera = scene
    model = FaceModel(Truth(coefficients, camera), device="cpu")
    boxes = boxes_of(landmarks).numpy()
    wrong = boxes + np.array([-8, -5, 6, 9])  # the second pass mends it
    results = model.reconstruct(ramps(3), boxes=[[box] for box in wrong], batch_size=3)
    for faces, truth in zip(
        results, true_faces(coefficients, camera, (SIZE, SIZE), 64), strict=True
    ):
        (face,) = faces
        assert np.abs(face.points - truth.points).max() < 0.6  # 8 bits of the marker
        assert np.abs(face.landmarks - truth.landmarks).max() < 0.6
        mapped = face.reconstruction.camera.project(face.reconstruction.vertices)[0]
        assert_close(mapped, face.reconstruction.image_vertices[0], atol=2e-3)
        assert np.abs(np.subtract(face.angles, truth.angles)).max() < 0.5
    first, second = model.predictor.seen
    assert ((second - first).abs().amax((1, 2, 3)) > 2 / 255).all()


def test_one_pass_trusts_the_boxes(scene):
    _, landmarks, coefficients, camera = scene
    predictor = Truth(coefficients, camera)
    model = FaceModel(predictor, device="cpu", passes=1)
    model.reconstruct(ramps(1)[0], boxes=[boxes_of(landmarks)[:1]])
    assert len(predictor.seen) == 1


def test_several_faces_in_a_photo_and_none(scene):
    _, landmarks, coefficients, camera = scene
    model = FaceModel(Truth(coefficients, camera), device="cpu", passes=1)
    box = boxes_of(landmarks)[0].tolist()
    results = model.reconstruct(ramps(3), boxes=[[box, box], [], [box]], batch_size=2)
    assert [len(faces) for faces in results] == [2, 0, 1]
    assert [len(images) for images in model.predictor.seen] == [2, 1]


def test_images_are_files_arrays_or_tensors(scene, tmp_path):
    pictures, landmarks, coefficients, camera = scene
    write_image(tmp_path / "a.png", pictures[0])
    floats = pictures[0] / np.float32(255)
    given = [tmp_path / "a.png", str(tmp_path / "a.png"), pictures[0], floats]
    given.append(torch.from_numpy(floats).permute(2, 0, 1))
    predictor = Truth(coefficients, camera)
    model = FaceModel(predictor, device="cpu", passes=1)
    model.reconstruct(given, boxes=[boxes_of(landmarks)[:1]] * 5, batch_size=1)
    assert all(torch.equal(images, predictor.seen[0]) for images in predictor.seen)


def test_a_crop_is_read_as_in_training(scene):
    """Equal to warping the whole picture; shrinking reads means of 2 x 2, 4 x 4 ... pixels."""
    picture = scene[0][0]
    for box in ([60.0, 70, 150, 170], [100, 100, 130, 128], [-20, 30, 90, 160]):
        (matrix,) = crop_matrices(torch.tensor([box]), 1.6, 96)
        whole = torch.from_numpy(picture).permute(2, 0, 1)[None]
        expected = warp_image(whole, matrix[None], (96, 96), antialias=True) / 255
        assert (cut_out(picture, matrix, 96) - expected).abs().max() < 0.02
    # 8 times smaller: a checkerboard becomes grey, not an alias
    checks = (np.indices((768, 768)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, 2)
    (matrix,) = crop_matrices(torch.tensor([[144.0, 144, 624, 624]]), 1.6, 96)
    assert (cut_out(checks, matrix, 96)[..., 4:-4, 4:-4] - 0.5).abs().max() < 0.01


def test_a_crop_outside_of_the_photo_is_black():
    (matrix,) = crop_matrices(torch.tensor([[-500.0, -500, -400, -400]]), 1.6, 32)
    assert (cut_out(np.full((50, 50, 3), 255, np.uint8), matrix, 32) == 0).all()


def test_depth_follows_the_scale_and_cameras_follow_the_crop(scene):
    _, landmarks, coefficients, camera = scene
    maps, reader = position_maps(64)
    truth = reader(maps(coefficients, camera))
    matrices = crop_matrices(boxes_of(landmarks), 1.6, 96)
    cropped = to_photo(truth, torch.linalg.inv(matrices))
    assert_close(
        cropped.image_vertices, apply_similarity(matrices, truth.image_vertices), atol=1e-3
    )
    back = to_photo(cropped, matrices)
    assert_close(back.image_vertices, truth.image_vertices, atol=1e-3)
    assert_close(back.camera.matrix, truth.camera.matrix, atol=1e-3)


def test_angles_are_those_of_the_pose(scene):
    """Pitch, yaw and roll of the camera that took the picture; the identity's fit costs little."""
    _, _, coefficients, camera = scene
    for face, angles in zip(
        true_faces(coefficients, camera, (SIZE, SIZE), 64), ANGLES, strict=True
    ):
        true = euler_to_matrix(torch.deg2rad(torch.tensor([angles], dtype=torch.float32)))
        found = euler_to_matrix(torch.deg2rad(torch.tensor([face.angles])))
        cosine = ((true.mT @ found).diagonal(dim1=1, dim2=2).sum() - 1) / 2
        assert float(torch.rad2deg(torch.arccos(cosine.clamp(max=1)))) < 6


def test_visibility_of_a_turned_head(scene):
    _, _, coefficients, camera = scene
    frontal, _, profile = true_faces(coefficients, camera, (SIZE, SIZE), 64)
    assert frontal.visibility_share > 0.9
    assert 0.35 < profile.visibility_share < 0.75
    assert profile.landmark_visibility[:8].mean() != pytest.approx(
        profile.landmark_visibility[9:17].mean(), abs=0.3
    )  # one side of the jaw
    reconstruction = frontal.reconstruction
    half = visibility_in_photos(
        reconstruction.image_vertices, reconstruction.faces, [(SIZE, SIZE // 2)]
    )
    right = reconstruction.image_vertices[0, :, 0] > SIZE / 2
    assert half[0, right].sum() == 0
    assert torch.equal(half[0, ~right], reconstruction.visibility[0, ~right])


def test_warnings(scene):
    _, _, coefficients, camera = scene
    frontal, _, profile = true_faces(coefficients, camera, (SIZE, SIZE), 64)
    assert frontal.warnings == []
    assert profile.warnings == ["extreme pose (yaw -71 degrees)"]
    small = camera.map(lambda m: m * torch.tensor([0.3, 0.3, 0.3])[:, None])
    assert "box too small" in true_faces(coefficients, small, (SIZE, SIZE), 64)[0].warnings[0]
    (cut, *_) = true_faces(coefficients, camera, (SIZE, SIZE // 2), 64)
    assert "face cut off" in cut.warnings[0]
    assert "points outside the picture" in cut.warnings[1]


def test_what_a_model_refuses(scene):
    _, _, coefficients, camera = scene
    predictor = Truth(coefficients, camera)
    with pytest.raises(ValueError, match="passes should be 1 or 2"):
        FaceModel(predictor, device="cpu", passes=3)
    with pytest.raises(ValueError, match="precision"):
        FaceModel(predictor, device="cpu", precision="half")
    with pytest.raises(ValueError, match="device=cuda:77"):
        FaceModel(predictor, device="cuda:77")
    model = FaceModel(predictor, device="cpu")
    with pytest.raises(ValueError, match="right > left"):
        model.reconstruct(ramps(1), boxes=[[[9, 9, 3, 12]]])
    with pytest.raises(ValueError, match="2 images"):
        model.reconstruct(ramps(2), boxes=[[]])
