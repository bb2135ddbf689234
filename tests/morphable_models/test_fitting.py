"""Fitting to landmarks, on faces whose answer is known."""

import pytest
import torch

from lit_face.geometry.pose import head_angles
from lit_face.morphable_models.fitting import fit_landmarks
from tests.helpers.faces import cameras, head
from tests.helpers.tolerances import assert_close


def known_faces(count=3):
    model, camera = head(), cameras(count, size=320, seed=2, yaw_deg=40)
    vertices = model(**{k: v for k, v in sample(count).items() if k != "albedo"})
    return model, camera, camera.project(model.landmarks(vertices))


def sample(count):
    return head().sample(count, torch.Generator().manual_seed(4))


def test_a_landmark_fit_explains_the_landmarks_and_finds_the_pose():
    model, camera, landmarks = known_faces()
    fit = fit_landmarks(
        model, landmarks.double(), iterations=8, identity_weight=1.0, expression_weight=1.0
    )
    plain = fit_landmarks(model, landmarks.double(), identity_size=0, expression_size=0)
    assert (fit.residual_px < 0.3 * plain.residual_px).all()
    error = (head_angles(fit.camera) - head_angles(camera)).rad2deg().abs()
    assert error.max() < 5
    assert torch.linalg.det(fit.camera.matrix[:, :, :3]).min() > 0


def test_faces_of_a_batch_do_not_touch_and_the_prior_shrinks():
    model, _, landmarks = known_faces()
    both = fit_landmarks(model, landmarks.double())
    alone = fit_landmarks(model, landmarks[1:2].double())
    assert_close(both.coefficients["identity"][1:2], alone.coefficients["identity"], atol=1e-8)
    stiff = fit_landmarks(model, landmarks.double(), identity_weight=1e9, expression_weight=1e9)
    assert all(c.abs().max() < 1e-3 for c in stiff.coefficients.values())


def test_landmarks_of_another_count_are_named():
    with pytest.raises(ValueError, match="68"):
        fit_landmarks(head(), torch.zeros(1, 5, 2))
