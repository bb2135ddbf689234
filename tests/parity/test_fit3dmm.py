"""face3d's 3DMM fitting and sampling on the stand-in for BFM."""

import numpy as np
import pytest
import torch

from lit_face.geometry.rotations import face3d_matrix_to_angles
from lit_face.morphable_models.bfm import load_bfm, read_bfm
from lit_face.morphable_models.fitting import fit_landmarks
from tests.helpers.tolerances import assert_close

FLOAT32 = {"atol": 1e-5, "rtol": 1e-5}  # face3d fits its affine camera in float32


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(reference / "prn" / "fit3dmm.npz")


@pytest.fixture(scope="module")
def standin(reference):
    return load_bfm(reference / "prn" / "standin_BFM.mat").double()


def test_three_iterations_of_a_batch(golden, standin):
    upwards = np.stack([golden[f"c{case}_x"] for case in range(3)])
    fit = fit_landmarks(standin, torch.as_tensor(upwards * [1, -1]), rigid=False)
    for case in range(3):
        for kind, name in (("identity", "sp"), ("expression", "ep")):
            found = fit.coefficients[kind][case]
            expected = golden[f"c{case}_{name}"][:, 0] / getattr(standin, f"{kind}_std").numpy()
            assert_close(found, expected, **FLOAT32)
        matrix = fit.camera.matrix[case] * torch.tensor([1.0, -1, -1])[:, None]
        scale = matrix[:2, :3].norm(dim=1).mean()
        assert scale / 1000 == pytest.approx(float(golden[f"c{case}_s"]), rel=1e-6)
        angles = face3d_matrix_to_angles(matrix[None, :, :3] / scale)
        assert_close(angles[0], golden[f"c{case}_angles"], **FLOAT32)
        assert_close(matrix[:2, 3], golden[f"c{case}_t"][:2], **FLOAT32)
        true_scale, true_angles = golden[f"c{case}_gt_s"], golden[f"c{case}_gt_angles"]
        assert scale / 1000 == pytest.approx(float(true_scale), rel=0.05)
        assert np.abs(angles.numpy() - true_angles).max() < 1.5


def test_vertices_and_colours(reference, golden, standin):
    raw = read_bfm(reference / "prn" / "standin_BFM.mat")
    vertices = raw.vertices(np.full(10, 0.3), np.full(8, 0.2))[::50]
    assert_close(vertices, golden["generate_vertices_case"], atol=0.02, rtol=0)  # micrometres
    colors = standin.float().albedo(torch.as_tensor(golden["tex_para"].T))[0, :100]
    assert_close(colors, golden["generate_colors_first100"], atol=1e-5, rtol=0)
