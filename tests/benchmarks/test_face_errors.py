import numpy as np
import torch

from lit_face.benchmarks.aflw2000_tables import result_tables
from lit_face.benchmarks.face_errors import (
    SurfacePoints,
    Truth,
    camera_angles_deg,
    image_errors,
    mean_face,
)
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.types import Reconstruction
from tests.helpers.faces import faces, head


def true_reconstruction(batch, maps, points):
    model = head()
    vertices = model(batch.coefficients["identity"], batch.coefficients["expression"])
    dense = batch.camera.project(points.pick(vertices))
    return Reconstruction(
        dense, vertices, model.faces, maps.texel_uv, batch.landmarks, "mm", camera=batch.camera
    )


def test_the_truth_has_no_error_and_a_shift_has_its_own():
    batch, maps = faces(3, seed=5), PositionMaps(head(), 24)
    points = SurfacePoints(head(), maps.texel_uv)
    true = true_reconstruction(batch, maps, points)
    angles = camera_angles_deg(batch.camera)
    truth = Truth(batch.landmarks, true.image_vertices, angles)
    for name, values in image_errors(true, truth).items():
        assert np.abs(values).max() < 1e-3, name
    shifted = Reconstruction(
        true.image_vertices + 2, true.vertices, true.faces, true.uv, true.landmarks + 2, "mm",
        camera=batch.camera,
    )  # fmt: skip
    errors = image_errors(shifted, truth)
    size = (batch.landmarks[..., :2].amax(1) - batch.landmarks[..., :2].amin(1)).prod(1).sqrt()
    np.testing.assert_allclose(errors["nme_2d_sparse"], 100 * 8**0.5 / size, rtol=1e-4)
    np.testing.assert_allclose(errors["nme_3d_sparse"], errors["nme_2d_sparse"], rtol=1e-4)
    assert errors["nme_reconstruction"].max() < 1e-2  # aligned away


def test_a_failed_image_is_nan_everywhere():
    batch, maps = faces(2, seed=6), PositionMaps(head(), 24)
    points = SurfacePoints(head(), maps.texel_uv)
    true = true_reconstruction(batch, maps, points)
    truth = Truth(batch.landmarks, true.image_vertices, camera_angles_deg(batch.camera))
    broken = true.image_vertices.clone()
    broken[1, 3] = float("nan")
    failed = Reconstruction(broken, true.vertices, true.faces, true.uv, true.landmarks, "mm")
    for values in image_errors(failed, truth).values():
        assert np.isnan(values[1])


def test_angles_of_cameras():
    angles = torch.tensor([[0.1, -0.9, 0.3], [-0.2, 1.2, -0.1]])
    flip = torch.tensor([1.0, -1.0, -1.0])[:, None]
    camera = AffineCamera.orthographic(
        torch.tensor([0.4, 2.0]), flip * euler_to_matrix(angles), torch.zeros(2, 3)
    )
    np.testing.assert_allclose(camera_angles_deg(camera), torch.rad2deg(angles), atol=1e-3)


def test_the_mean_face_fills_the_box_that_a_crop_expects():
    batch, maps = faces(2, size=128), PositionMaps(head(), 24)
    points = SurfacePoints(head(), maps.texel_uv)
    baseline = mean_face(head(), points, batch, margin=1.6)
    low, high = baseline.landmarks[0, :, :2].amin(0), baseline.landmarks[0, :, :2].amax(0)
    torch.testing.assert_close((high - low).mean(), torch.tensor(80.0), atol=1e-2, rtol=0)
    torch.testing.assert_close((high + low) / 2, torch.tensor([63.5, 63.5]), atol=1e-2, rtol=0)
    assert baseline.landmarks[0, 8, 1] > baseline.landmarks[0, 27, 1]  # chin below the nose
    nearest = baseline.landmarks[0, :, 2].argmin().item()
    assert nearest == 30  # the nose tip is nearest to the camera


def test_published_rows_only_for_the_real_dataset():
    summary = dict.fromkeys(
        [
            "nme_2d_sparse", "nme_2d_sparse_plain", "nme_3d_sparse", "nme_2d_dense", "nme_3d_dense",
            "nme_reconstruction", "nme_reconstruction_corresponding", "pose_mae_deg",
            "nme_2d_sparse_0_30", "nme_2d_sparse_30_60", "nme_2d_sparse_60_90",
            "pose_pitch_mae_deg", "pose_yaw_mae_deg", "pose_roll_mae_deg",
        ],
        1.0,
    )  # fmt: skip
    miniature = result_tables("PRN", summary, summary, is_miniature=True)
    real = result_tables("PRN", summary, summary, is_miniature=False)
    assert len(miniature[1].rows) == 2
    rows = {row[0]: row[1:] for row in real[1].rows}
    assert rows["PRN (published)"] == [2.75, 3.51, 4.61, 3.62]
