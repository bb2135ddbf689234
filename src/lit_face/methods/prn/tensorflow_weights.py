"""Weights of the released TensorFlow checkpoint, by their names there (prefix `resfcn256/`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from lit_face.methods.prn.network import PRNNetwork, ResidualBlock

_PREFIX = "resfcn256/"


def load_tensorflow_weights(network: PRNNetwork, arrays: Mapping[str, np.ndarray]) -> None:
    """Fill a network of the paper's size from TensorFlow arrays, strictly.

    Args:
        network: `PRNNetwork()` with the defaults.
        arrays: name -> array; optimiser slots are ignored.

    Raises:
        ValueError: names the missing, surplus or misshapen variables.
    """
    wanted = dict(tensorflow_tensors(network))
    given = {name: value for name, value in arrays.items() if not is_optimizer_slot(name)}
    missing, surplus = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    problems = [f"missing: {missing[:5]}"] * bool(missing)
    problems += [f"unknown: {surplus[:5]}"] * bool(surplus)
    converted = {}
    for name in set(wanted) & set(given):
        tensor, flip = wanted[name]
        value = _to_torch(given[name], flip)
        if value.shape != tensor.shape:
            problems.append(f"{name}: expected {tuple(tensor.shape)}, found {tuple(value.shape)}")
        converted[name] = value
    if problems:
        raise ValueError("These are not weights of resfcn256; " + "; ".join(problems))
    with torch.no_grad():
        for name, value in converted.items():
            wanted[name][0].copy_(value)


def expected_variables(network: PRNNetwork) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every variable in a TensorFlow checkpoint, optimiser included.

    The released one was written by Adam, which keeps two slots a trainable variable and two
    scalars: 545 names for the paper's network.
    """
    variables: dict[str, tuple[int, ...]] = {}
    for name, (tensor, flip) in tensorflow_tensors(network):
        shape = tuple(tensor.shape)
        if len(shape) == 4:
            first, second, *kernel = shape
            shape = (*kernel, first, second) if flip else (*kernel, second, first)
        variables[name] = shape
        if not name.endswith(("/moving_mean", "/moving_variance")):
            variables |= {f"{name}/Adam": shape, f"{name}/Adam_1": shape}
    return variables | {"beta1_power": (), "beta2_power": ()}


def is_optimizer_slot(name: str) -> bool:
    """Whether a variable belongs to the training, not to the network."""
    return name.endswith(("/Adam", "/Adam_1", "_power")) or name == "global_step"


def tensorflow_tensors(network: PRNNetwork) -> Iterator[tuple[str, tuple[Tensor, bool]]]:
    """Yield (TensorFlow name, (our tensor, whether a transposed kernel became a convolution's))."""
    blocks = list(network.encoder.children())  # type: ignore[union-attr]
    yield from _layer("Conv", blocks[0])
    for number, block in enumerate(blocks[1:]):
        yield from _block(f"resBlock{f'_{number}' if number else ''}", block)
    transposed = [*network.decoder.children(), network.output]
    for number, layer in enumerate(transposed):
        name = f"Conv2d_transpose{f'_{number}' if number else ''}"
        yield from _layer(name, layer, transposed=True)


def _block(name: str, block: nn.Module) -> Iterator[tuple[str, tuple[Tensor, bool]]]:
    if not isinstance(block, ResidualBlock):
        raise ValueError("TensorFlow weights fit backbone 'resfcn' only.")
    if isinstance(block.shortcut, nn.Conv2d):
        yield f"{_PREFIX}{name}/shortcut/weights", (block.shortcut.weight, False)
    yield from _layer(f"{name}/Conv", block.reduce)
    yield from _layer(f"{name}/Conv_1", block.spatial)
    yield f"{_PREFIX}{name}/Conv_2/weights", (block.expand.weight, False)
    yield from _norm(name, block.norm)


def _layer(
    name: str, layer: nn.Module, *, transposed: bool = False
) -> Iterator[tuple[str, tuple[Tensor, bool]]]:
    for module in layer.children():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            flip = transposed and isinstance(module, nn.Conv2d)
            yield f"{_PREFIX}{name}/weights", (module.weight, flip)
        elif isinstance(module, nn.BatchNorm2d):
            yield from _norm(name, module)


def _norm(name: str, norm: nn.BatchNorm2d) -> Iterator[tuple[str, tuple[Tensor, bool]]]:
    start = f"{_PREFIX}{name}/BatchNorm/"
    yield start + "gamma", (norm.weight, False)
    yield start + "beta", (norm.bias, False)
    if norm.running_mean is not None and norm.running_var is not None:
        yield start + "moving_mean", (norm.running_mean, False)
        yield start + "moving_variance", (norm.running_var, False)


def _to_torch(array: np.ndarray, flip: bool) -> Tensor:
    value = torch.as_tensor(np.asarray(array, dtype=np.float64))
    if value.ndim == 4:
        value = value.permute(3, 2, 0, 1)  # both kinds: (kh,kw,a,b) -> (b,a,kh,kw)
        if flip:
            value = value.transpose(0, 1).flip(2, 3)
    return value
