"""The regulariser on the reference's volumes and weights."""

import json

import numpy as np
import pytest
import torch

from lit_face.geometry.cost_volumes import expected_displacement
from lit_face.methods.uv_regularize import PlainRegularizer, UNetRegularizer
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def folder(reference):
    return reference / "mvfr"


def load(path):
    with np.load(path) as stored:
        return {
            name: torch.from_numpy(stored[name])
            for name in stored.files
            if stored[name].dtype.kind != "U"
        } | {name: stored[name].tolist() for name in stored.files if stored[name].dtype.kind == "U"}


def weights_of(golden):
    state = {name: value for name, value in golden.items() if name.startswith("w::")}
    return {
        name.removeprefix("w::"): value if value.dtype == torch.int64 else value.float()
        for name, value in state.items()
    }


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    "name", ["regnet_bc1_D201_s11", "regnet_bc1_D41_s12", "regnet_bc4_D21_s13"]
)
def test_unet(folder, name):
    golden = load(folder / f"networks/{name}.npz")
    network = UNetRegularizer(int(name.split("_bc")[1][0]))
    network.load_state_dict(weights_of(golden))
    volume, mask = golden["volume"].float(), golden["mask"][:, None].float()
    with torch.no_grad():
        scores = network.eval()(volume * mask)
    expected = golden["logits_eval"]
    if scores.shape != expected.shape:
        assert scores[..., ::4, ::4].shape == expected.shape
    shown = scores if scores.shape == expected.shape else scores[..., ::4, ::4]
    assert relative(shown, expected) < 1e-4
    assert relative(expected_displacement(scores, mask)[:, 0], golden["pred_eval"]) < 1e-4

    scores = network.train()(volume * mask)
    found = expected_displacement(scores, mask)[:, 0]
    assert relative(found.detach(), golden["pred_train"]) < 1e-4
    loss = torch.nn.functional.mse_loss(found, golden["gt_index"] * mask[:, 0])
    assert loss.item() == pytest.approx(golden["loss_train"].item(), rel=1e-4)
    loss.backward()
    norms = {name: p.grad.norm().item() for name, p in network.named_parameters()}
    expected_norms = dict(zip(golden["grad_names"], golden["grad_norms"].tolist(), strict=True))
    assert norms == pytest.approx(expected_norms, rel=2e-3, abs=1e-4)
    for key, value in network.state_dict().items():
        stored = golden.get(f"bn_after_train_fwd::{key}")
        if stored is not None:
            assert_close(value, stored, atol=1e-5, rtol=1e-4)


def test_released_names(folder):
    manifest = json.loads((folder / "networks/state_dict_manifest.json").read_text())
    for network, name in (
        (UNetRegularizer(1), "regnet_default"),
        (PlainRegularizer(), "simpleregnet"),
    ):
        shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
        assert shapes == manifest[name]["state_dict"]


@pytest.mark.parametrize("name", ["simpleregnet_D10_s12", "simpleregnet_D41_s11"])
def test_plain_variant(folder, name):
    golden = load(folder / f"networks/{name}.npz")
    network = PlainRegularizer()
    network.load_state_dict(weights_of(golden))
    mask = golden["mask"][:, None].float()
    with torch.no_grad():
        scores = network(golden["volume"].float() * mask)
    assert relative(scores * mask, golden["logits"] * mask) < 1e-4
    assert relative(expected_displacement(scores, mask)[:, 0], golden["pred"]) < 1e-4


@pytest.mark.parametrize("name", ["softargmax_D10_s12", "softargmax_D41_s11"])
def test_expected_displacement(folder, name):
    golden = load(folder / f"regression/{name}.npz")
    mask = golden["mask"][:, None].float()
    assert_close(golden["volume_in"] * mask, golden["logits_after_mask"], atol=0, rtol=0)
    found = expected_displacement(golden["volume_in"], mask)[:, 0]
    assert_close(found, golden["pred"], atol=1e-5, rtol=0)
    loss = torch.nn.functional.mse_loss(found, golden["gt_index"] * mask[:, 0])
    assert loss.item() == pytest.approx(golden["loss"].item(), rel=1e-6, abs=1e-5)
