import math

import numpy as np
import pytest

from lit_face.inference.one_euro import OneEuroFilter, RotationFilter

RATE = 100.0


def run(filtered, values):
    return np.array([filtered(value, number / RATE) for number, value in enumerate(values)])


def turn(angle):
    return np.array(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )


def test_without_gain_it_is_the_first_order_low_pass_filter():
    """A step: what is missing shrinks by the same factor every time."""
    found = run(OneEuroFilter(2.0), [np.zeros(3)] + 20 * [np.ones(3)])
    factor = 1 / (1 + 1 / (2 * math.pi * 2.0 / RATE))
    np.testing.assert_allclose(found[:, 1], 1 - (1 - factor) ** np.arange(21), atol=1e-12)


def test_what_moves_steadily_lags_by_the_time_constant():
    speed, gain = 3.0, 2.0
    ramp = speed * np.arange(600) / RATE
    found = run(OneEuroFilter(1.0, gain), ramp)
    # In the steady state of a discrete filter the lag is interval (1 - a) / a = 1 / (2 pi cutoff).
    lag = (ramp[-1] - found[-1]) / speed
    assert lag == pytest.approx(1 / (2 * math.pi * (1.0 + gain * speed)), rel=0.01)


def test_noise_is_reduced_as_the_filter_s_variance_says():
    noise = np.random.default_rng(0).normal(size=(4000, 2))
    found = run(OneEuroFilter(3.0), noise)[500:]
    factor = 1 / (1 + 1 / (2 * math.pi * 3.0 / RATE))
    assert found.var() == pytest.approx(factor / (2 - factor), rel=0.15)


def test_joint_points_do_not_depend_on_the_axes():
    """Turn the points, then filter, or filter, then turn: only the vector's length counts."""
    path = np.cumsum(np.random.default_rng(1).normal(size=(80, 5, 3)), axis=0)
    first = run(OneEuroFilter(1.0, 0.5, joint=True), path) @ turn(0.7).T
    second = run(OneEuroFilter(1.0, 0.5, joint=True), path @ turn(0.7).T)
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_rotations_about_one_axis_are_filtered_like_numbers():
    angles = np.cumsum(np.random.default_rng(2).normal(size=200)) * 0.1
    numbers = run(OneEuroFilter(1.0, 2.0), angles)
    rotations = run(RotationFilter(1.0, 2.0), [turn(angle) for angle in angles])
    wanted = np.array([turn(angle) for angle in numbers])
    np.testing.assert_allclose(rotations, wanted, atol=1e-9)
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (200, 3, 3)), atol=1e-9
    )


def test_gaps_in_time_are_worth_their_length():
    """After a long gap the new value counts almost alone."""
    filtered = OneEuroFilter(1.0)
    filtered(np.zeros(1), 0.0)
    assert filtered(np.ones(1), 100.0)[0] > 0.99


def test_senseless_settings_and_times_are_refused():
    for settings in ((0.0, 1.0), (1.0, -1.0), (1.0, 1.0, 0.0)):
        with pytest.raises(ValueError, match="positive cutoffs"):
            OneEuroFilter(*settings)
    filtered = OneEuroFilter(1.0)
    filtered(np.zeros(1), 1.0)
    with pytest.raises(ValueError, match="should advance"):
        filtered(np.zeros(1), 1.0)
