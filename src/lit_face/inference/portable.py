"""Trained predictors in a portable form: a folder with safetensors and a plain config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_face.config.instantiate import ConfigError, instantiate, locate, targets
from lit_face.io.portable_folder import is_portable_folder, read_portable, write_portable
from lit_face.io.start_weights import filled_by_checkpoint

__all__ = ["is_portable_folder", "load_portable", "save_portable"]

_NETWORKS = ("lit_face.methods.", "lit_face.identity.")


def save_portable(
    predictor: nn.Module, folder: str | Path, record: Mapping[str, Any] | None = None
) -> Path:
    """Write a predictor (`method.predictor()`) as a portable folder.

    Args:
        predictor: has `config`; its state_dict holds all that it needs.
        folder: must not exist, or be empty.
        record: plain values about the weights: licence, training data, numbers reached. The text
            `notice` becomes NOTICE.txt; `sha256` is added.

    Raises:
        FileExistsError: there is something already.
    """
    config: Any = predictor.config
    return write_portable(folder, config, predictor.state_dict(), record or {})


def load_portable(folder: str | Path, trusted_modules: tuple[str, ...] = ()) -> nn.Module:
    """Build the predictor that a portable folder holds, ready for use (evaluation mode, CPU).

    Nothing in the folder is executed: the config is plain YAML and names lit_face's own methods.

    Args:
        folder: what `save_portable` wrote.
        trusted_modules: further packages that the config may name; never taken from the folder.

    Returns:
        The predictor; `predictor.record` is the record of its weights.

    Raises:
        FileNotFoundError, ValueError: what is wrong with the folder.
    """
    config, state, record = read_portable(folder)
    predictor = build(config, state, str(folder), trusted_modules)
    predictor.record = record  # type: ignore[assignment]
    return predictor


def build(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    trusted_modules: tuple[str, ...] = (),
) -> nn.Module:
    """Build a network from an untrusted config and fill it, in evaluation mode.

    Args:
        config: plain values with `_target_`.
        state: its state_dict.
        source: the file, for messages.
        trusted_modules: see `load_portable`.

    Raises:
        ValueError: what is wrong with them.
    """
    _check_targets(config, trusted_modules, source)
    with filled_by_checkpoint():
        network: nn.Module = instantiate(config, trusted_modules=trusted_modules)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{source}: the weights do not fit the config: {error}") from error
    return network.eval()


def _check_targets(
    config: Mapping[str, Any], trusted_modules: tuple[str, ...], source: str
) -> None:
    """Let a config name classes of networks in lit_face's methods only."""
    prefixes = (*_NETWORKS, *(f"{module.rstrip('.')}." for module in trusted_modules))
    for path, name in targets(config):
        if name.startswith(prefixes):
            found = locate(name, trusted_modules)
            if isinstance(found, type) and issubclass(found, nn.Module):
                continue
        raise ConfigError(
            [f"{source}: predictor.{path}: '{name}' is no network of lit_face's methods."]
        )
    if "_target_" not in config:
        raise ConfigError([f"{source}: predictor has no key '_target_'."])
