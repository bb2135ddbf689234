"""The pre-flight check: a composed config against the signatures of the classes that it names."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from lit_face.config.files import config_folder
from lit_face.config.instantiate import ConfigError, locate, targets

_SPECIAL = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}

# Arguments that the run passes to the object at a config path, besides the config's own.
PROVIDED = {
    "method": {"morphable_model"},
    "data": {"morphable_model", "seed"},
    "benchmark": {"morphable_model"},
    "landmark_start": {"morphable_model"},
}


def check_config(config: Any, known_keys: Iterable[str] | None = None) -> dict[str, Any]:
    """Find everything wrong with a composed config and raise once.

    Args:
        config: a DictConfig or plain mapping, composed.
        known_keys: top-level keys that may occur; None allows all.

    Returns:
        The config as plain, resolved data.

    Raises:
        ConfigError: one line a problem: unknown keys with the closest match, wrong types, missing
            values, untrusted or absent targets, impossible pairs.
    """
    plain, problems = _resolve(config)
    if known_keys is not None:
        known = list(known_keys)
        problems += [
            f"{key}: there is no such option{_suggest(key, known)}"
            for key in plain
            if key not in known
        ]
    trusted = tuple(plain.get("trusted_modules") or ())
    classes: dict[str, Callable[..., Any]] = {}
    for path, target in targets(plain):
        try:
            classes[path] = locate(target, trusted)
        except ConfigError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        problems += list(_check_node(path, _at(plain, path), classes[path]))
    fields = _field_problems(classes)  # why else options of the method may not suit the data
    problems = fields + (problems or _pair_problems(plain, classes))
    if problems:
        raise ConfigError(problems)
    return plain


def _resolve(config: Any) -> tuple[dict[str, Any], list[str]]:
    if not OmegaConf.is_config(config):
        return dict(config), []
    problems = [
        f"{key}: a value is required (it is '???'); give {key}=VALUE"
        for key in sorted(OmegaConf.missing_keys(config))
    ]
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError([*problems, str(error).splitlines()[0]]) from error
    return typing.cast("dict[str, Any]", plain), problems


def _check_node(path: str, node: Mapping[str, Any], factory: Callable[..., Any]) -> Iterator[str]:
    name = getattr(factory, "__name__", str(factory))
    signature = inspect.signature(factory)
    parameters = signature.parameters
    takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    given = {key: value for key, value in node.items() if key not in _SPECIAL}
    for key in given:
        if key not in parameters and not takes_anything:
            yield f"{path}.{key}: {name} has no argument '{key}'{_suggest(key, parameters)}"
    supplied = set(given) | PROVIDED.get(path, set())
    if not node.get("_partial_"):
        for key, parameter in parameters.items():
            variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            if parameter.default is parameter.empty and key not in supplied and not variadic:
                yield f"{path}.{key}: {name} needs a value for '{key}'"
    hints = _type_hints(factory)
    for key, value in given.items():
        problem = _type_problem(value, hints.get(key))
        if problem:
            yield f"{path}.{key}: {name} expects {problem}, got {value!r} ({type(value).__name__})"


def _type_hints(factory: Callable[..., Any]) -> dict[str, Any]:
    function = factory.__init__ if inspect.isclass(factory) else factory  # type: ignore[misc]
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _type_problem(value: Any, hint: Any) -> str | None:
    """Return the expected type's name where a plain value does not fit the hint."""
    if hint is None or _holds_target(value) or value == "???":
        return None
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    members = typing.get_args(hint) if is_union else (hint,)
    adapters = [adapter for member in members if (adapter := _adapter(member))]
    strict = isinstance(value, bool | str)
    if not adapters or any(_accepts(adapter, value, strict) for adapter in adapters):
        return None  # no plain type: objects have nodes, checked by their own signatures
    name = hint.__name__ if inspect.isclass(hint) else str(hint)
    return name.replace("typing.", "")


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=False))
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, AttributeError, NameError):
        return None


def _accepts(adapter: TypeAdapter[Any], value: Any, strict: bool) -> bool:
    try:
        adapter.validate_python(value, strict=strict)
    except ValidationError:
        return False
    return True


def _holds_target(value: Any) -> bool:
    return any(True for _ in targets(value))


def _pair_problems(plain: dict[str, Any], classes: Mapping[str, Callable[..., Any]]) -> list[str]:
    method = classes.get("method")
    problems: list[str] = []
    if method is not None and hasattr(method, "check_config"):
        problems += method.check_config(plain["method"], plain.get("data") or {})
    trainer = plain.get("trainer") or {}
    if str(trainer.get("precision", "")).startswith("16") and trainer.get("accelerator") == "cpu":
        problems.append("trainer.precision: 16-bit floats need a GPU; on a CPU use bf16-mixed")
    return problems


def _field_problems(classes: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Name the fields that the method needs and the data lack."""
    method, data = classes.get("method"), classes.get("data")
    if method is None or data is None:
        return []
    missing: set[str] = getattr(method, "requires", set()) - getattr(data, "provides", set())
    return [
        f"data: {method.__name__} needs the field '{field}', which {data.__name__} does not "
        f"provide{_providers(field)}"
        for field in sorted(missing)
    ]


def _providers(field: str) -> str:
    """Name the options of `data=` whose datamodule provides a field."""
    names = []
    for file in sorted((config_folder() / "data").glob("*.yaml")):
        node = yaml.safe_load(file.read_text()) or {}
        if field in getattr(locate(node["_target_"]), "provides", set()):
            names.append(f"data={file.stem}")
    return f"; these do: {', '.join(names)}" if names else ""


def _at(plain: Any, path: str) -> Any:
    node = plain
    for part in path.replace("[", ".[").split(".") if path else []:
        node = node[int(part[1:-1])] if part.startswith("[") else node[part]
    return node


def _suggest(key: str, options: Iterable[str]) -> str:
    match = difflib.get_close_matches(key, list(options), n=1)
    return f"; did you mean '{match[0]}'?" if match else ""
