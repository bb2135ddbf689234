"""Build objects from config nodes, from an allow-list of packages only.

A config can come from somebody else's checkpoint, so `_target_` is untrusted input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException

TRUSTED_PREFIXES = (
    "lit_face.",
    "datamodules.",
    "callbacks.",
    "pytorch_lightning.",
    "torch.optim.",
    "torch.nn.",
    "torchmetrics.",
    "kornia.augmentation.",
)


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line a problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def targets(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (config path, `_target_`) of every node below `node`."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, str(node["_target_"])
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from targets(value, f"{path}[{number}]")


def trust_problem(target: str, trusted_modules: tuple[str, ...] = ()) -> str | None:
    """Say why a `_target_` may not be used, or None where it may."""
    own = tuple(f"{module.rstrip('.')}." for module in trusted_modules)
    if target.startswith(TRUSTED_PREFIXES + own):
        return None
    return (
        f"_target_ '{target}' is outside the trusted packages; add its package to "
        "trusted_modules=[...] if you trust it"
    )


def locate(target: str, trusted_modules: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Import the class or function that a `_target_` names.

    Raises:
        ConfigError: the package is not trusted, or there is no such name.
    """
    problem = trust_problem(target, trusted_modules)
    if problem:
        raise ConfigError([problem])
    parts = target.split(".")
    for split in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:split])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and not module_name.startswith(error.name):
                raise
            continue
        try:
            for name in parts[split:]:
                found = getattr(found, name)
        except AttributeError:
            break
        if callable(found):
            return found  # type: ignore[no-any-return]
        break
    raise ConfigError([f"_target_ '{target}' does not exist"])


def instantiate(node: Any, *, trusted_modules: tuple[str, ...] = (), **arguments: Any) -> Any:
    """Build what a config node describes; classes receive plain lists and dicts.

    Args:
        node: a plain mapping with `_target_`, or None, which gives None.
        trusted_modules: further packages that `_target_` may name.
        arguments: ready objects to pass besides the node's own arguments.

    Raises:
        ConfigError: a `_target_` anywhere below the node is not trusted.
        Exception: whatever the class raises.
    """
    if node is None:
        return None
    problems = [
        f"{path}: {problem}" if path else problem
        for path, target in targets(node)
        if (problem := trust_problem(target, trusted_modules))
    ]
    if problems:
        raise ConfigError(problems)
    try:
        return hydra.utils.instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None  # the class's own words, without Hydra's around them
        raise
