"""Weights of a network from a run of lit_face or from a released file; nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_face.io.checkpoints import UNREADABLE, find_checkpoint

_NESTED = ("model_state_dict", "state_dict")


def load_network(network: nn.Module, given: str | Path, option: str, prefix: str) -> None:
    """Copy weights into a network, all of them.

    Args:
        network: whose `state_dict` names them.
        given: a run's folder or checkpoint, or a file of torch with a state dict (bare, or under
            `model_state_dict` or `state_dict`, as training scripts write it).
        option: of the config, for messages.
        prefix: of the network's names in a run's checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or lists missing, unknown and misshapen names.
    """
    try:
        path = find_checkpoint(Path(given).expanduser(), prefer="best")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{option}: {error}") from None
    state = _state_of(path, option, prefix)
    own = network.state_dict()
    missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    problems = [f"missing {', '.join(missing[:3])}"] * bool(missing)
    problems += [f"unknown {', '.join(unknown[:3])}"] * bool(unknown)
    problems += [
        f"{name} is {tuple(state[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name in sorted(set(own) & set(state))
        if own[name].shape != state[name].shape
    ][:3]
    if problems:
        raise ValueError(
            f"{option}: {path} does not fit {type(network).__name__}: {'; '.join(problems)}. Give "
            "the network the options that these weights were trained with."
        )
    network.load_state_dict(state)


def _state_of(path: Path, option: str, prefix: str) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{option}: {path} cannot be read as plain tensors: it is cut, damaged or holds more "
            f"than that. ({reason})"
        ) from error
    if isinstance(content, Mapping) and "lit_face" in content:
        state = content["state_dict"]
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not found:
            target = content["lit_face"]["config"]["method"]["_target_"]
            raise ValueError(f"{option}: {path} is of {target}, which has no such network.")
        return found
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(torch.is_tensor(v) for v in content.values()):
        raise ValueError(f"{option}: {path} should hold a state dict, names to tensors.")
    return dict(content)
