import pytest
import torch

from lit_face.data.photometric import Photometric
from lit_face.data.random import sample_keys
from lit_face.data.transforms import FaceTransform
from lit_face.types import FaceBatch
from tests.helpers.tolerances import assert_close

KEYS = sample_keys(1, 0, torch.arange(64))
ALL = Photometric(0.5, 0.5, 0.3, 0.5, 0.5, 0.05, 0.5)


@pytest.fixture
def picture():
    return torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


def test_the_default_changes_nothing(picture):
    assert Photometric()(picture, KEYS) is picture
    assert not Photometric().is_random


def test_a_picture_s_key_alone_decides(picture):
    whole = ALL(picture, KEYS)
    assert_close(ALL(picture[5:9], KEYS[5:9]), whole[5:9], atol=1e-6)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert (whole - picture).abs().mean() > 0.05


def test_shadows_only_darken_and_leave_one_side(picture):
    shaded = Photometric(shadow=1.0)(picture, KEYS)
    factor = (shaded / picture).clamp(0, 1.0001)
    assert (shaded <= picture + 1e-6).all()
    spread = factor.amax((1, 2, 3)) - factor.amin((1, 2, 3))
    assert (spread > 0.1).float().mean() > 0.9
    assert_close(factor[:, 0], factor[:, 2], atol=1e-4)  # the same for every colour


def test_grey_loses_colour_and_keeps_brightness(picture):
    grey = Photometric(grey=1.0)(picture, KEYS)
    ratio = (grey[:, 0] / grey[:, 1])[(grey < 1).all(1).all(2).all(1)]  # none clipped
    assert len(ratio) > 32
    assert ratio.flatten(1).std(dim=1).max() < 1e-4  # one tint a picture
    assert (ratio.flatten(1).mean(1) - 1).abs().max() < 0.4
    luminance = (picture * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    plain = (grey[:, 0] - grey[:, 1]).abs().amax((1, 2)) < 1e-6
    assert 10 < plain.sum() < 54
    assert_close(grey[plain, 0], luminance[plain], atol=1e-5)


def test_noise_has_at_most_its_level():
    flat = torch.full((64, 3, 64, 64), 0.5)
    noisy = Photometric(noise=0.04)(flat, KEYS) - 0.5
    level = noisy.flatten(1).std(dim=1)
    assert level.max() < 0.042
    assert level.max() > 0.03
    assert noisy.mean().abs() < 1e-3


def test_bars_are_black_and_at_one_side(picture):
    barred = Photometric(bars=1.0)(picture, KEYS)
    black = (barred == 0).all(1)
    assert black.float().mean((1, 2)).max() <= 0.25 + 1e-6
    rows, columns = black.all(2).any(1), black.all(1).any(1)
    assert not (rows & columns).any()


def test_labels_do_not_move(picture):
    points = torch.rand(64, 68, 3) * 20 + 5
    batch = FaceBatch(picture, landmarks=points, random_key=KEYS)
    plain = FaceTransform(24, mirror=0.0)(batch)
    changed = FaceTransform(24, mirror=0.0, photometric=ALL)(batch)
    assert_close(plain.landmarks, changed.landmarks, atol=0)
    assert (plain.image - changed.image).abs().mean() > 0.03
