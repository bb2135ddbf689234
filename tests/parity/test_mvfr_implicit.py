"""The implicit function on the reference's photos, cameras and weights."""

import json

import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.cost_volumes import argmax_displacement, depth_values, displaced
from lit_face.methods.uv_implicit import FeatureNet, ImplicitNetwork, ImplicitSurface
from lit_face.methods.uv_implicit.query import project, sample_features, variance
from lit_face.methods.uv_implicit.sampling import cost_label, released_samples


@pytest.fixture(scope="module")
def folder(reference):
    return reference / "mvfr"


def load(path):
    with np.load(path) as stored:
        return dict(stored)


def weights_of(golden):
    return {
        name.removeprefix("w::"): torch.from_numpy(value).float()
        if value.dtype == np.float16
        else torch.from_numpy(value)
        for name, value in golden.items()
        if name.startswith("w::")
    }


def camera_of(cams):
    cams = torch.from_numpy(cams).float()
    return PerspectiveCamera(cams[:, :, 1, :3, :3], cams[:, :, 0, :3, :3], cams[:, :, 0, :3, 3])


@pytest.fixture(params=["ifnet_s11", "ifnet_s12"])
def golden(folder, request):
    name = request.param
    return load(folder / f"networks/{name}.npz"), load(folder / f"networks/{name}_weights.npz")


def surface_of(golden, alignment="reference"):
    stored, weights = golden
    network = ImplicitNetwork(hidden=stored["mlp_dim"][1:-1].tolist())
    network.load_state_dict(weights_of(weights) or {k: torch.tensor(v) for k, v in weights.items()})
    return ImplicitSurface(network, weighting="none", alignment=alignment)


def look(surface, stored):
    """Features, with cameras that are at the features' scale already."""
    image = torch.from_numpy(stored["images_bgr_u8"]).permute(0, 1, 4, 2, 3).flip(2) / 255
    camera = camera_of(stored["cams"])
    double = torch.tensor([2.0, 2.0, 1.0])[:, None]
    return surface.look_at(
        image, PerspectiveCamera(camera.intrinsics * double, camera.rotation, camera.translation)
    )


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_feature_net(folder, norm):
    golden = load(next((folder / "networks").glob(f"featurenet_{norm}_s*.npz")))
    network = FeatureNet(norm=norm).eval()
    network.load_state_dict(weights_of(golden))
    images = torch.from_numpy(golden["images_bgr_u8"]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        found = network(images)
    np.testing.assert_allclose(found, golden["features"], atol=2e-5, rtol=1e-5)


def test_default_network_has_the_released_names(folder):
    manifest = json.loads((folder / "networks/state_dict_manifest.json").read_text())
    state = ImplicitNetwork().state_dict()
    expected = manifest["ifnet_default"]["state_dict"]
    assert {name: list(value.shape) for name, value in state.items()} == expected


def test_query(golden):
    stored, _ = golden
    surface = surface_of(golden)
    seen = look(surface, stored)
    points = torch.from_numpy(stored["points"]).mT
    features = seen.maps.detach().permute(0, 1, 4, 2, 3).flatten(0, 1)
    np.testing.assert_allclose(features, stored["features"], atol=2e-3, rtol=2e-3)
    pixels, _ = project(seen.camera, points)
    np.testing.assert_allclose(pixels.flatten(0, 1), stored["xy_feature_px"], atol=2e-5, rtol=1e-5)
    sampled = sample_features(seen.maps, pixels, "reference").detach()
    np.testing.assert_allclose(sampled.mT.flatten(0, 1), stored["sampled"], atol=2e-5, rtol=1e-5)
    found = variance(seen.maps, pixels, alignment="reference").detach().mT
    np.testing.assert_allclose(found, stored["variance"], atol=2e-5, rtol=1e-5)
    position = torch.from_numpy(stored["movements"])
    cost = surface.cost_at(seen, points, position).detach()
    np.testing.assert_allclose(cost, stored["preds"], atol=2e-5)


def test_exact_alignment_is_that_of_aligned_corners(golden):
    stored, _ = golden
    surface = surface_of(golden, "exact")
    points = torch.from_numpy(stored["points"]).mT
    position = torch.from_numpy(stored["movements"])
    cost = surface.cost_at(look(surface, stored), points, position).detach()
    np.testing.assert_allclose(cost, stored["preds_align_corners_true"], atol=2e-5)


def test_loss_gradients_and_a_step_of_adam(golden):
    stored, _ = golden
    surface = surface_of(golden)
    network = surface.network
    points = torch.from_numpy(stored["points"]).mT
    position, labels = torch.from_numpy(stored["movements"]), torch.from_numpy(stored["labels"])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def loss():
        cost = surface.cost_at(look(surface, stored), points, position)
        return torch.nn.functional.mse_loss(cost, labels)

    first = loss()
    first.backward()
    assert first.item() == pytest.approx(float(stored["loss"]), abs=2e-5)
    norms = {name: p.grad.norm().item() for name, p in network.named_parameters()}
    expected = dict(zip(stored["grad_names"].tolist(), stored["grad_norms"], strict=True))
    assert norms == pytest.approx(expected, rel=2e-3, abs=1e-6)
    gradient = network.image_filter.conv0.weight.grad
    scale = np.abs(stored["grad_conv0_weight"]).max()
    # No tolerance is stated for gradients; photos went through [0,1] and back.
    np.testing.assert_allclose(gradient, stored["grad_conv0_weight"], atol=5e-3 * scale)
    optimizer.step()
    assert loss().item() == pytest.approx(float(stored["loss_after_adam_step"]), abs=2e-4)


@pytest.mark.parametrize("name", ["aggregate_V10_s12", "aggregate_V4_s11"])
@pytest.mark.parametrize("alignment", ["reference", "exact"])
def test_aggregation(folder, name, alignment):
    golden = load(folder / f"projection/{name}.npz")
    stored = "reference" if alignment == "reference" else "aligned"
    maps = torch.from_numpy(golden["features"]).permute(0, 2, 3, 1)
    maps = maps.unflatten(0, (int(golden["batch"]), -1))
    pixels, _ = project(camera_of(golden["cams"]), torch.from_numpy(golden["points"]).mT)
    pixels_there = golden["xy_feature_px"]
    np.testing.assert_allclose(pixels.flatten(0, 1), pixels_there, atol=1e-3, rtol=2e-5)
    sampled = sample_features(maps, pixels, alignment)
    np.testing.assert_allclose(sampled.mT.flatten(0, 1), golden[f"sampled_{stored}"], atol=2e-5)
    found = variance(maps, pixels, alignment=alignment).mT
    vector = torch.cat([found, torch.from_numpy(golden["movements"])[:, None]], 1)
    np.testing.assert_allclose(vector, golden[f"mlp_input_{stored}"], atol=2e-5)


@pytest.mark.parametrize("name", ["if_dataset_D21_s12", "if_dataset_D201_s11"])
def test_released_samples_and_labels(folder, name):
    golden = load(folder / f"dataset/{name}.npz")
    planes, count = int(golden["d_size"]), int(golden["points_num"])
    step = float(golden["interval_scale"]) / float(golden["rt_scale"])
    assert step == pytest.approx(float(golden["displacement_scale"]), rel=1e-7)
    truth = golden["mv_model_units"] / step
    rng = np.random.RandomState(int(golden["numpy_seed"]))
    texel, displacement = released_samples(truth, rng, count, planes, float(golden["sigma"]))
    np.testing.assert_array_equal(golden["rows"][texel], golden["train_rows"])
    np.testing.assert_array_equal(golden["cols"][texel], golden["train_cols"])
    np.testing.assert_allclose(displacement, golden["train_d_index"], rtol=1e-6, atol=1e-6)
    offset = torch.from_numpy(displacement - truth[texel])
    label = cost_label(offset, planes, rounded=True)
    np.testing.assert_allclose(label, golden["train_labels"], atol=1e-6)
    points = golden["pos"][texel] + golden["norm"][texel] * step * displacement[:, None]
    np.testing.assert_allclose(points.T, golden["train_points"], rtol=1e-6, atol=1e-6)
    position = 2 * displacement / planes
    np.testing.assert_allclose(position, golden["train_displacements"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["assemble_D8_s12", "assemble_D9_s11"])
def test_volume_and_displaced_maps(folder, name):
    golden = load(folder / f"regression/{name}.npz")
    mask = torch.from_numpy(golden["mask"])[None, None].float()
    volume = torch.from_numpy(golden["volume"])[None]
    planes = volume.shape[1]
    index = golden["points_index"].astype(int)
    filled = torch.zeros_like(volume[0])
    filled[index[0] + planes // 2, index[1], index[2]] = torch.from_numpy(golden["preds"])
    np.testing.assert_array_equal(filled, volume[0])
    np.testing.assert_array_equal(np.unique(index[0]), depth_values(planes))
    best = argmax_displacement(volume, mask)
    np.testing.assert_array_equal(best[0, 0], golden["argmax_index"] * golden["mask"])
    position, normal = (
        torch.from_numpy(golden[kind]).permute(2, 0, 1)[None] for kind in ("pos_map", "norm_map")
    )
    step = float(golden["displacement_scale"])
    for displacement, expected in (
        (best, "pos_argmax"),
        (torch.from_numpy(golden["pred_index"])[None, None], "pos_reg"),
    ):
        moved = displaced(position, normal, displacement * step, mask)
        np.testing.assert_allclose(moved[0].permute(1, 2, 0), golden[expected], atol=1e-5)
