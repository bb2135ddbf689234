import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from lit_face.metrics.image_means import MaskedL1, MaskedPSNR, MaskedSSIM
from lit_face.metrics.photometric import (
    PerceptualDistance,
    masked_l1,
    masked_psnr,
    masked_ssim,
    overlap,
    share_inside,
)
from tests.helpers.tolerances import assert_close


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(0)
    true = 0.2 + 0.6 * torch.rand(3, 3, 32, 32, generator=generator)
    mask = torch.zeros(3, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    return true, mask


def test_known_errors_have_their_closed_forms(pictures):
    true, mask = pictures
    assert_close(masked_l1(true + 0.1, true, mask), torch.full((3,), 0.1))
    assert_close(masked_psnr(true - 0.1, true, mask), torch.full((3,), 20.0), atol=1e-3, rtol=0)
    assert_close(masked_psnr(true, true, mask), torch.full((3,), 100.0), atol=1e-3, rtol=0)
    assert_close(masked_ssim(true, true, mask), torch.ones(3))
    half = torch.where(torch.arange(32) < 16, 0.2, 0.0)  # half of the masked pixels
    assert_close(masked_l1(true + half, true, mask), torch.full((3,), 0.1))
    expected = -10 * math.log10(0.04 / 2)
    assert_close(
        masked_psnr(true + half, true, mask), torch.full((3,), expected), atol=1e-3, rtol=0
    )


def test_nothing_outside_of_the_mask_counts_not_even_nan(pictures):
    true, mask = pictures
    wild = torch.where(mask > 0, true + 0.05, torch.nan)
    for function in (masked_l1, masked_psnr, masked_ssim):
        assert_close(function(wild, true, mask), function(true + 0.05, true, mask))


def test_a_mask_of_ones_is_torchmetrics_ssim_but_for_the_border(pictures):
    true, _ = pictures
    predicted = (true + 0.1 * torch.sin(50 * true)).clamp(0, 1)
    ours = masked_ssim(predicted, true, torch.ones(3, 1, 32, 32))
    theirs = structural_similarity_index_measure(predicted, true, data_range=1.0, reduction="none")
    assert_close(ours, theirs, atol=0.02, rtol=0)


def test_an_empty_mask_is_no_perfect_score(pictures):
    true, mask = pictures
    for function in (masked_l1, masked_psnr, masked_ssim):
        assert function(true, true, 0 * mask).isnan().all()


def test_overlap_of_known_squares():
    first, second = torch.zeros(2, 1, 1, 10, 10)
    first[..., :5, :] = 1
    second[..., 3:9, :] = 1
    assert_close(overlap(first, second), torch.tensor([20 / 90]))
    assert_close(share_inside(first, second), torch.tensor([0.4]))


@pytest.mark.parametrize(
    ("metric", "function"),
    [(MaskedL1, masked_l1), (MaskedPSNR, masked_psnr), (MaskedSSIM, masked_ssim)],
)
def test_metrics_accumulate_images_and_do_not_hide_failures(pictures, metric, function):
    true, mask = pictures
    predicted = true * torch.tensor([0.9, 0.8, 0.7])[:, None, None, None]
    found = metric()
    found.update(predicted[:1], true[:1], mask[:1])
    found.update(predicted[1:], true[1:], mask[1:])
    assert_close(found.compute(), function(predicted, true, mask).mean())
    found.update(true[:1], true[:1], 0 * mask[:1])
    assert found.compute().isnan()


def test_lpips_is_refused_without_its_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="alexnet-owt"):
        PerceptualDistance()
