"""Alignment and pose decomposition against stored results (reference/metrics/README.md)."""

import numpy as np
import pytest
import torch

from lit_face.geometry.alignment import procrustes
from lit_face.geometry.pose import decompose_affine, prnet_angles
from tests.helpers.tolerances import assert_close


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["similarity", "rigid"])
def test_procrustes_equals_horns_formula_in_many_digits(reference, kind, dtype):
    golden = np.load(reference / "metrics" / "procrustes.npz")
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for name in golden["names"]:
        case = {
            key.split("/")[1]: torch.from_numpy(golden[key]).to(dtype)
            for key in golden.files
            if key.startswith(f"{name}/")
        }
        fit = procrustes(
            case["source"], case["target"], case.get("weights"), scale=kind == "similarity"
        )
        for part in ("scale", "rotation", "translation"):
            expected = case[f"{kind}_{part}"]
            unit = max(1.0, float(expected.abs().max()))
            assert_close(getattr(fit, part) / unit, expected / unit, atol=tolerance, rtol=0)
        weights = case.get("weights", torch.ones(len(case["source"]), dtype=dtype))
        squared = (fit.apply(case["source"]) - case["target"]).square().sum(-1)
        rms = ((weights * squared).sum() / weights.sum()).sqrt()
        assert_close(rms, case[f"{kind}_rms"], atol=tolerance, rtol=tolerance)


def test_pose_decomposition_equals_3ddfas(reference):
    golden = np.load(reference / "metrics" / "pose_3ddfa_201.npz")
    pose = decompose_affine(torch.from_numpy(golden["P"]))
    assert_close(pose.scale, golden["scale"])
    assert_close(pose.rotation, golden["rotation"])
    assert_close(pose.translation, golden["translation"])
    assert_close(prnet_angles(pose.rotation).rad2deg(), golden["yaw_pitch_roll_deg"])
