"""Change single values of a config that a checkpoint brought along."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from omegaconf import OmegaConf

from lit_face.config import ConfigError
from lit_face.config.files import config_folder, group_options


def override_stored(
    config: dict[str, Any], overrides: Sequence[str], ignore: Collection[str] = ()
) -> dict[str, Any]:
    """Apply `key=value` overrides to a plain config; whole groups cannot be chosen anew.

    Raises:
        ConfigError: all overrides that name a group or no key of the config.
    """
    problems = []
    groups = group_options(config_folder())
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        if key in ignore:
            continue
        if key in groups:
            problems.append(
                f"{key}: the stored run fixes its groups; change single values ({key}.KEY=VALUE) "
                "or start a new run"
            )
            continue
        problem = _set(config, key, _value(text), is_new=override.startswith("+"))
        problems += [problem] if problem else []
    if problems:
        raise ConfigError(problems)
    return config


def _value(text: str) -> Any:
    """Read a value as config files do; plain YAML takes 1e-4 for text."""
    holder: Any = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))
    return holder["value"]


def _set(config: dict[str, Any], key: str, value: Any, *, is_new: bool) -> str | None:
    node, parts = config, key.split(".")
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if part not in node and not (last and is_new):
            close = difflib.get_close_matches(part, [str(k) for k in node], n=1)
            hint = f"; did you mean '{'.'.join([*parts[:depth], close[0]])}'?" if close else ""
            return f"{key}: there is no such option in the stored config{hint}"
        if last:
            node[part] = value
        elif isinstance(node[part], dict):
            node = node[part]
        else:
            return f"{key}: '{'.'.join(parts[: depth + 1])}' holds a value, not options"
    return None
