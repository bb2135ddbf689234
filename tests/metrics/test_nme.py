import numpy as np
import pytest
import torch

from lit_face.metrics.nme import NormalizedMeanError, box_size, nme
from lit_face.metrics.pose import angle_errors_deg, within_protocol
from lit_face.metrics.reconstruction import corresponding_error, icp_error
from lit_face.metrics.yaw_bins import balanced_summary, yaw_bin
from tests.helpers.tolerances import assert_close


@pytest.fixture
def points():
    generator = torch.Generator().manual_seed(0)
    true = 100 * torch.rand(4, 68, 3, generator=generator)
    return true + torch.randn(4, 68, 3, generator=generator), true


def test_a_known_shift_has_a_known_error():
    square = torch.tensor([[[0.0, 0, 0], [10, 0, 0], [0, 40, 0], [10, 40, 0]]])
    moved = square + torch.tensor([3.0, 4.0, 1000.0])
    assert_close(box_size(square), torch.tensor([20.0]))
    assert_close(nme(moved, square), torch.tensor([0.25]))
    assert_close(nme(moved, square, dimensions=3), torch.tensor([0.25]))  # depth's shift is free


def test_invariant_to_image_scale_and_order_of_faces(points):
    predicted, true = points
    for dimensions in (2, 3):
        error = nme(predicted, true, dimensions)
        assert_close(nme(2 * predicted, 2 * true, dimensions), error)
        assert_close(nme(predicted.flip(0), true.flip(0), dimensions), error.flip(0))


def test_metric_accumulates_images_not_batches(points):
    predicted, true = points
    metric = NormalizedMeanError()
    metric.update(predicted[:3], true[:3])
    metric.update(predicted[3:], true[3:])
    assert_close(metric.compute(), 100 * nme(predicted, true).mean())


def test_a_failed_prediction_is_not_dropped(points):
    predicted, true = points
    predicted[1, 5, 0] = float("nan")
    metric = NormalizedMeanError()
    metric.update(predicted, true)
    assert torch.isnan(metric.compute())


def test_yaw_bins_at_their_edges():
    yaw = np.array([0, 30, np.nextafter(30, 31), -30, 60, -60.001, -351.2, 110])
    assert yaw_bin(yaw).tolist() == [0, 0, 1, 0, 1, 2, 2, 2]


def test_balanced_mean_weighs_bins_not_images():
    summary = balanced_summary(np.array([1.0, 1, 1, 4, 7]), np.array([0, 5, 10, 45, 80]))
    assert summary["mean"] == 4.0
    assert summary["plain"] == pytest.approx(2.8)
    assert summary["std"] == pytest.approx(np.std([1, 4, 7]))


def test_icp_undoes_a_small_rigid_motion_but_no_scale():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(500, 3)) * [40, 60, 25]
    angle = 0.03
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    assert icp_error(true @ rotation.T + [500, -20, 9], true, 90.0) < 1e-6
    assert icp_error(1.2 * true, true, 90.0) > 0.01
    assert corresponding_error(1.2 * true @ rotation.T + 3, true, 90.0) < 1e-9
    assert np.isnan(icp_error(np.full((5, 3), np.nan), true, 90.0))


def test_angles_wrap():
    errors = angle_errors_deg(np.array([[-350.0, 170, 3]]), np.array([[9.0, -170, 1]]))
    np.testing.assert_allclose(errors, [[1, 20, 2]])
    assert within_protocol(np.array([[0, -99, 0], [0, 99.1, 0]])).tolist() == [True, False]
