"""Weights of identity networks: files read as plain tensors, and digests that tell them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_face.io.checkpoints import UNREADABLE

_LISTED = 3  # keys in a message
SHIPPED = Path(__file__).parent / "weights"


def shipped_weights() -> dict[str, Path]:
    """Return the files of weights that come with lit_face, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def load_weights(
    network: nn.Module, file: str | Path, option: str, ignored: Collection[str] = ()
) -> None:
    """Copy the weights of a file into a network; nothing in the file is executed.

    Args:
        network: has the file's names, all of them and no other.
        file: of a state dict, as `torch.save` or safetensors write it, or the name of one of
            `shipped_weights`.
        option: that names the file, for messages.
        ignored: prefixes of names that the file may have beside the network's.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or lists missing, unknown and misshapen keys.
    """
    path = shipped_weights().get(str(file), Path(file).expanduser())
    if not path.is_file():
        names = ", ".join(shipped_weights()) or "none"
        raise FileNotFoundError(
            f"{option}: {path} does not exist. Weights that come with lit_face: {names}."
        )
    state = _read_state(path, option)
    state = {name: v for name, v in state.items() if not name.startswith(tuple(ignored))}
    own = network.state_dict()
    for name, value in own.items():  # older files do not count the batches
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    lists = {
        "missing": sorted(set(own) - set(state)),
        "unknown": sorted(set(state) - set(own)),
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in sorted(set(own) & set(state))
            if state[name].shape != own[name].shape
        ],
    }
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:_LISTED])}{', ...' * (len(keys) > _LISTED)}"
        for what, keys in lists.items()
        if keys
    ]
    if problems:
        raise ValueError(
            f"{option}: {path} does not fit {type(network).__name__} as it is configured; "
            f"{'; '.join(problems)}."
        )
    network.load_state_dict(state)


def weights_digest(network: nn.Module) -> str:
    """Return a digest of what a network knows: names and values, as float32, of its state.

    Two networks with one digest are the same judge; the device and the storage do not matter.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read_state(path: Path, option: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                content: Any = load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{option}: {path} cannot be read as plain tensors: it is cut, damaged or holds more "
            f"than that. ({reason})"
        ) from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{option}: {path} holds no state dict but {type(content).__name__}.")
    bad = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if bad:
        raise ValueError(f"{option}: {path}: '{bad[0]}' should be a tensor: is it a state dict?")
    # Files written from a wrapped network have one prefix more.
    return {str(key).removeprefix("module."): value for key, value in content.items()}
