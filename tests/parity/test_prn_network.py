"""The network, its training step and optimiser against the TensorFlow graph's own numbers."""

import json

import numpy as np
import pytest
import torch

from lit_face.methods.prn.losses import position_map_loss
from lit_face.methods.prn.network import PRNNetwork
from lit_face.methods.prn.tensorflow_adam import TensorFlowAdam
from lit_face.methods.prn.tensorflow_weights import (
    _to_torch,
    load_tensorflow_weights,
    tensorflow_tensors,
)
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def weights(reference):
    return dict(np.load(reference / "prn" / "net_weights_s101.npz"))


@pytest.fixture(scope="module")
def forward(reference):
    return np.load(reference / "prn" / "net_forward_s101.npz")


@pytest.fixture(scope="module")
def train(reference):
    return np.load(reference / "prn" / "net_train_s101.npz")


def build(weights, dtype):
    network = PRNNetwork().to(dtype)
    load_tensorflow_weights(network, weights)
    return network


def images(array, dtype):
    return torch.as_tensor(array).permute(0, 3, 1, 2).to(dtype) / 255


def test_counts():
    network = PRNNetwork()
    parameters = sum(p.numel() for p in network.parameters())
    statistics = sum(b.numel() for n, b in network.named_buffers() if "running" in n)
    assert (parameters, parameters + statistics) == (13_353_618, 13_365_508)


def test_every_variable_of_the_released_checkpoint_has_a_place(reference):
    released = json.loads((reference / "prn" / "tf_checkpoint_variables.json").read_text())
    names = {n for n in released if "Adam" not in n and "_power" not in n}
    ours = dict(tensorflow_tensors(PRNNetwork()))
    assert names == set(ours)
    load_tensorflow_weights(PRNNetwork(), {n: np.zeros(released[n], np.float32) for n in released})


def test_forward_and_activations_in_float64(weights, forward):
    network = build(weights, torch.float64).eval()
    taps = []
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda m, i, o: taps.append(o))
    with torch.no_grad():
        output = network(images(forward["x_u8"], torch.float64))
    assert_close(output.permute(0, 2, 3, 1), forward["y"], atol=1e-7, rtol=0)
    assert len(taps) == len(forward["tap_names"]) == 48
    for number, tap in enumerate(taps):
        tap = tap.sigmoid() if number == 47 else tap.relu()
        values = tap.permute(0, 2, 3, 1).reshape(-1)[forward[f"tap{number:02d}_idx"]]
        stored = torch.as_tensor(forward[f"tap{number:02d}_val"])
        tight = 1e-10 if stored.dtype == torch.float64 else 1e-7
        assert_close(values, stored, atol=tight, rtol=1e-7)


def test_forward_in_float32(weights, forward):
    network = build(weights, torch.float32).eval()
    with torch.no_grad():
        output = network(images(forward["x_u8"], torch.float32))
    assert_close(output.permute(0, 2, 3, 1), forward["y"], atol=1e-4, rtol=0)


def test_training_step_in_float64(weights, forward, train):
    network = build(weights, torch.float64).train()
    target = images(train["target_u8"], torch.float64)
    weight = torch.as_tensor(train["weight"], dtype=torch.float64)
    output = network(images(forward["x_u8"], torch.float64))
    loss = position_map_loss(output, target, weight.reshape(1, 256, 256), kind="mse")
    assert loss.item() == pytest.approx(0.26503304766157, abs=1e-12)
    loss.backward()
    ours = dict(tensorflow_tensors(network))
    for name, norm in zip(train["grad_names"], train["grad_l2"], strict=True):
        gradient = ours[str(name)][0].grad
        assert gradient.norm().item() == pytest.approx(float(norm), rel=1e-8)
    for name, (tensor, _) in ours.items():
        if f"after1|{name}" in train:
            assert_close(tensor, train[f"after1|{name}"].astype(np.float64), atol=1e-6, rtol=1e-6)


def test_three_steps_of_tensorflow_adam(weights, forward, train):
    network = build(weights, torch.float64).train()
    optimizer = TensorFlowAdam(network.parameters(), lr=1e-4)
    target, inputs = (
        images(train["target_u8"], torch.float64),
        images(forward["x_u8"], torch.float64),
    )
    weight = torch.as_tensor(train["weight"], dtype=torch.float64).reshape(1, 256, 256)
    losses = []
    for step in range(4):
        loss = position_map_loss(network(inputs), target, weight, kind="mse")
        losses.append(loss.item())
        if step < 3:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    np.testing.assert_allclose(losses, train["adam_losses"], rtol=0, atol=1e-7)
    ours = dict(tensorflow_tensors(network))
    for name in (n for n in train.files if n.startswith("adam3|")):
        tensor, flip = ours[name.removeprefix("adam3|")]
        assert_close(tensor, _to_torch(train[name], flip), atol=1e-8, rtol=0)
