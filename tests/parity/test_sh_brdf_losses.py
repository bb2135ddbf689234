"""Losses and priors of NextFace: shared/reference/sh_brdf/losses.npz."""

import numpy as np
import pytest
import torch

from lit_face.methods.sh_brdf import losses
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def golden(reference):
    with np.load(reference / "sh_brdf" / "losses.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


@pytest.fixture(scope="module")
def maps(golden):
    return golden["tex3"].permute(0, 3, 1, 2), golden["ref3"].permute(0, 3, 1, 2)


EVERYWHERE = torch.ones(24, 24)


def single(golden, name):
    """A term alone: every number of the reference contains its penalty of the range."""
    return golden[f"loss_{name}_only"] - golden["loss_box_only"]


def test_range_symmetry_and_colour(golden, maps):
    maps, reference = maps
    assert_close(
        1000 * losses.map_range(maps, EVERYWHERE).double(), golden["loss_box_only"], rtol=1e-5
    )
    # Differences of two numbers of 17 in float32: the reference has five digits of them.
    assert_close(
        losses.map_symmetry(maps, EVERYWHERE).double(), single(golden, "symmetry"), atol=2e-5
    )
    assert_close((maps - reference).abs().mean().double(), single(golden, "rgb"), atol=2e-5)
    both = losses.map_consistency(maps, reference, EVERYWHERE).double()
    assert_close(both, single(golden, "rgb") + single(golden, "chroma"), atol=3e-5)


def test_sums_over_neighbours_and_grey_are_our_means_times_their_number(golden, maps):
    values, _ = maps
    down = (values[..., 1:, :] - values[..., :-1, :]).square().mean()
    across = (values[..., 1:] - values[..., :-1]).square().mean()
    assert_close(losses.map_smooth(values, EVERYWHERE), down + across)
    pairs = values[..., 1:].numel()
    ours = pairs * losses.map_smooth(values, EVERYWHERE).double()
    assert_close(ours, single(golden, "smooth"), rtol=1e-5)
    grey = values.numel() * losses.map_grey(values, EVERYWHERE).double()
    assert_close(grey, single(golden, "mean"), rtol=1e-5)


def test_weighted_sum_of_the_diffuse_map(golden, maps):
    maps, reference = maps
    symmetry, colour, chroma, smooth = golden["weights_diffuse"].tolist()[:4]
    assert colour == chroma
    total = (
        symmetry * losses.map_symmetry(maps, EVERYWHERE)
        + colour * losses.map_consistency(maps, reference, EVERYWHERE)
        + smooth * maps[..., 1:].numel() * losses.map_smooth(maps, EVERYWHERE)
        + 1000 * losses.map_range(maps, EVERYWHERE)
    )
    assert_close(total.double(), golden["loss_diffuse"], rtol=1e-5)


def test_blur(golden):
    image = golden["image"].permute(0, 3, 1, 2)
    expected = golden["image_smoothed"].permute(0, 3, 1, 2)
    assert_close(losses.smooth_image(image), expected, atol=1e-6)


def test_prior_of_raw_coefficients_is_that_of_normalised_ones(golden):
    normalised = golden["coeff"].double() / golden["variance"].double().sqrt()
    assert_close(losses.prior(normalised), golden["stat_reg"], rtol=1e-5)


def test_landmarks(reference):
    with np.load(reference / "sh_brdf" / "camera.npz", allow_pickle=False) as arrays:
        pixels = torch.from_numpy(arrays["pixels"])
        noisy = torch.from_numpy(arrays["landmarks"])
        expected = torch.from_numpy(np.asarray(arrays["landmark_loss"]))
    distance = (pixels - noisy).square().sum(-1)
    assert_close(distance.mean().double(), expected, rtol=1e-5)
    # Ours: the same mean, in sides of the picture, where all points weigh the same.
    points = torch.cat([pixels, pixels[:, :28]], dim=1)
    others = torch.cat([noisy, noisy[:, :28]], dim=1)
    mean = (points - others).square().sum(-1).mean()
    assert_close(losses.landmark(points, others, side=256, heavy=1.0), mean / 256**2)
