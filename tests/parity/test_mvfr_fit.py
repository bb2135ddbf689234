"""mvfr's triangulation and bilinear fit: shared/reference/mvfr/fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.triangulation import pixel_rays, triangulate
from lit_face.morphable_models.bilinear_fit import fit_bilinear, place
from lit_face.morphable_models.facescape.bilinear import residual


def read(reference, name):
    with np.load(reference / "mvfr" / "fit" / f"{name}.npz") as stored:
        return {key: torch.from_numpy(np.asarray(stored[key])) for key in stored.files}


@pytest.mark.parametrize("case", [11, 12])
def test_triangulation(reference, case):
    golden = read(reference, f"triangulate_s{case}")
    found = triangulate(golden["K"], golden["Rt"], golden["kp2d"])
    np.testing.assert_allclose(found.points, golden["kp3d"], atol=1e-6)
    centre, ray = pixel_rays(
        golden["K"][0], golden["Rt"][0], torch.tensor([[100.5, 200.25]]).double()
    )
    np.testing.assert_allclose(centre, golden["cam0_centre"], atol=1e-8)
    towards = golden["cam0_invproject_100p5_200p25_d1"] - centre
    np.testing.assert_allclose(ray[0], towards / towards.norm(), atol=1e-8)
    camera = PerspectiveCamera(golden["K"][:1], golden["Rt"][:1, :, :3], golden["Rt"][:1, :, 3])
    pixel = camera.project(golden["true_points"][None, :1])[0, 0, :2]
    np.testing.assert_allclose(pixel, golden["cam0_project_p0"], atol=1e-6)


@pytest.fixture(scope="module", params=[11, 12])
def fit(request, reference):
    golden = read(reference, f"bilinear_fit_s{request.param}")
    golden["core"] = residual(golden["core_raw"].numpy(), Path("core"))
    golden["index"] = golden["lm_index_full"].view(68, 3)[:, 0] // 3
    golden["corners"] = golden["core"].view(-1, 3, 52, 50)[golden["index"]].double()
    return golden


def first_placement(fit):
    points = fit["corners"][:, :, 0] @ fit["factors_id_0"]
    return points, place(points[None], fit["lm_3d"][None], torch.ones(1, 68).double())


def test_first_rigid_step(fit):
    _, placement = first_placement(fit)
    np.testing.assert_allclose(placement.scale[0], fit["rigid0_scale"], rtol=1e-9)
    np.testing.assert_allclose(placement.rotation[0], fit["rigid0_rot"], atol=1e-9)
    np.testing.assert_allclose(placement.target_mean[0], fit["rigid0_trans"], atol=1e-9)
    goal = placement.to_model(fit["lm_3d"][None])[0]
    np.testing.assert_allclose(goal, fit["aligned_targets0"], atol=1e-6)


def test_energies(fit):
    start = fit["factors_id_0"]
    points, placement = first_placement(fit)
    goal = placement.to_model(fit["lm_3d"][None])[0]
    prior = 20 * ((start - fit["id_mean"]).square() / fit["id_var"]).sum()
    energy = (points - goal).square().sum() + prior
    np.testing.assert_allclose(energy, fit["energy_id0"], rtol=1e-9)
    expression = torch.cat([torch.ones(1).double(), fit["exp_test"]])
    points = torch.einsum("ncei,i,e->nc", fit["corners"], start, expression)
    np.testing.assert_allclose((points - goal).square().sum(), fit["energy_exp_test"], rtol=1e-9)


def test_whole_fit(fit):
    found = fit_bilinear(
        fit["core"],
        fit["id_mean"],
        fit["id_var"],
        fit["factors_id_0"],
        fit["index"],
        fit["lm_3d"][None],
    )
    world_mm = float(1 / fit["out_scale"])
    assert float((found.vertices[0] - fit["out_verts"]).norm(dim=1).max()) * world_mm < 0.01
    np.testing.assert_allclose(found.scale[0], fit["out_scale"], rtol=1e-5)
    np.testing.assert_allclose(found.rotation[0], fit["out_rot"], atol=1e-4)
    assert float(found.expression.amin()) >= 0
    assert float(found.expression.amax()) <= 1
