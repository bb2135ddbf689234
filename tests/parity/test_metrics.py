"""Metrics against the numbers of the protocols' own evaluation code."""

import numpy as np
import pytest
import torch

from lit_face.metrics.nme import nme
from lit_face.metrics.reconstruction import corresponding_error, interocular
from lit_face.metrics.yaw_bins import balanced_summary


@pytest.mark.parametrize("seed", [101, 102])
def test_nme_and_summary_equal_3ddfa(reference, seed):
    data = np.load(reference / "metrics" / f"nme_3ddfa_{seed}.npz")
    left, top, right, bottom = data["roi_box"].astype(np.float64).T
    predicted = data["pred_pts68_crop120"].astype(np.float64).transpose(0, 2, 1).copy()
    predicted[..., 0] = predicted[..., 0] * ((right - left) / 120)[:, None] + left[:, None]
    predicted[..., 1] = predicted[..., 1] * ((bottom - top) / 120)[:, None] + top[:, None]
    true = data["gt_pts68"].transpose(0, 2, 1).astype(np.float64)
    error = nme(torch.as_tensor(predicted), torch.as_tensor(true)).numpy()
    np.testing.assert_allclose(error, data["nme_original"], rtol=5e-6)
    other = data["gt_pts68_reannotated"].transpose(0, 2, 1).astype(np.float64)
    again = nme(torch.as_tensor(predicted), torch.as_tensor(other)).numpy()
    np.testing.assert_allclose(again, data["nme_reannotated"], rtol=5e-6)
    summary = balanced_summary(100 * error, data["yaw_deg"])
    ours = [summary[name] for name in ("0_30", "30_60", "60_90", "mean", "std")]
    np.testing.assert_allclose(ours, data["summary_original"], atol=1e-4)


@pytest.mark.parametrize("seed", [301, 302])
def test_position_map_errors_equal_sadrnet(reference, seed):
    data = np.load(reference / "metrics" / f"nme_posmap_{seed}.npz")
    mask, (rows, columns) = data["face_mask"], data["kpt_ind"].T
    true, predicted = (data[f"{name}_posmap"].transpose(0, 2, 3, 1) for name in ("gt", "pred"))
    dense = [torch.as_tensor(maps[:, mask]) for maps in (predicted, true)]
    sparse = [torch.as_tensor(maps[:, rows, columns]) for maps in (predicted, true)]
    for name, points in (("dense", dense), ("sparse", sparse)):
        for dimensions in (2, 3):
            stored = data[f"{name}_nme{dimensions}d"]
            np.testing.assert_allclose(nme(*points, dimensions).numpy(), stored, rtol=2e-5)
    for row in range(len(true)):
        ours = corresponding_error(
            dense[0][row].numpy(), dense[1][row].numpy(), interocular(sparse[1][row].numpy())
        )
        assert ours == pytest.approx(float(data["recon_nme_l1scale"][row]), rel=2e-5)


def test_the_published_table_is_reproduced(reference):
    data = np.load(reference / "prn" / "nme_eval.npz")
    true, fit = (torch.as_tensor(data[n]).mT for n in ("gt", "fit"))
    error = nme(fit.double(), true.double()).numpy()
    np.testing.assert_allclose(error, data["nme"], rtol=1e-5)
    for name in ("fitted", "aflw"):
        summary = balanced_summary(100 * error, data[f"yaw_{name}"])
        counts, means, stds, plain = _table(data[f"table_{name}"])
        ours = [summary[key] for key in ("0_30", "30_60", "60_90", "mean")]
        np.testing.assert_allclose(ours, means, atol=1e-4)
        assert summary["std"] == pytest.approx(stds[-1], abs=1e-4)
        assert summary["plain"] == pytest.approx(plain, abs=1e-4)
        assert counts[-1] == len(error)


def _table(table):
    flat = np.concatenate([np.ravel(row) for row in table])
    return flat[:4], flat[4:8], flat[8:12], flat[12]
