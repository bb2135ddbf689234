"""Compose configs as Hydra does, and say everything that is wrong with the overrides at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from lit_face.config.files import config_folder, group_options, is_trained
from lit_face.config.instantiate import ConfigError

RUN_PLACEHOLDER = "RUN"


def check_overrides(config_name: str, overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Compare command-line overrides with the groups' options and the composed config's keys.

    Returns:
        Problems, one line each, and the overrides that have none.
    """
    groups = group_options(config_folder())
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError([str(error).splitlines()[0]]) from error
    chosen = [o for o in parsed if o.key_or_group in groups]
    problems = {
        _line(o): _option_problem(o, groups) or _method_problem(o, config_name) for o in chosen
    }
    usable = [_line(o) for o in chosen if not problems[_line(o)]]
    base = compose_config(config_name, [line for line in usable if not _is_sweep(line, chosen)])
    for override in parsed:
        if override.key_or_group.startswith("hydra") or override in chosen:
            continue
        if not (override.is_add() or override.is_delete() or override.is_force_add()):
            problems[_line(override)] = _key_problem(base, override.key_or_group)
    good = [_line(o) for o in parsed if not problems.get(_line(o))]
    return [problem for problem in problems.values() if problem], good


def _line(override: Override) -> str:
    """Return an override as it was typed."""
    return override.input_line or ""


def _is_sweep(line: str, overrides: Sequence[Override]) -> bool:
    return any(_line(o) == line and o.is_sweep_override() for o in overrides)


def compose_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a config; `paths.run` is a placeholder, as no run has started.

    Raises:
        ConfigError: Hydra's own message where the overrides do not compose.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = compose(config_name, [*overrides])
    except HydraException as error:
        raise ConfigError([str(error)]) from error
    OmegaConf.update(config, "paths.run", RUN_PLACEHOLDER, force_add=True)
    return config


def _option_problem(override: Override, groups: dict[str, dict[str, str]]) -> str | None:
    if override.is_sweep_override() or override.is_delete():
        return None
    options, value = groups[override.key_or_group], override.value()
    wanted = value if isinstance(value, list) else [value]
    for name in wanted:
        if name is not None and str(name) not in options:
            close = difflib.get_close_matches(str(name), options, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            return (
                f"{override.key_or_group}={name}: no such option; {hint}"
                f"There are: {', '.join(options)}"
            )
    return None


def _method_problem(override: Override, config_name: str) -> str | None:
    """Say where a method that is trained is to be fitted, or the other way round."""
    name = None if override.is_sweep_override() else override.value()
    if override.key_or_group != "method" or not isinstance(name, str):
        return None
    if is_trained(name) and config_name != "train":
        return f"method={name} is trained before it is used; give ckpt=RUN, which brings its method"
    if not is_trained(name) and config_name == "train":
        return (
            f"method={name} fits photos and has nothing to train: python reconstruct.py "
            f"method={name} finder=folder finder.landmarks=FOLDER input=PHOTOS out=FOLDER"
        )
    return None


def _key_problem(config: DictConfig, dotted: str) -> str | None:
    node: Any = config
    done: list[str] = []
    for part in dotted.split("."):
        if not isinstance(node, DictConfig):
            return None
        keys = [str(key) for key in node]  # `in` is false for missing values
        if part not in keys:
            close = difflib.get_close_matches(part, keys, n=1)
            hint = f"; did you mean '{'.'.join([*done, close[0]])}'?" if close else ""
            return f"{dotted}: there is no such option{hint} (add a new one with +{dotted}=...)"
        if OmegaConf.is_missing(node, part) or OmegaConf.is_interpolation(node, part):
            return None
        node = node[part]
        done.append(part)
    return None
