"""From a command line to a task: help, pre-flight check, Hydra."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HYDRA_SOURCES = ("--config-path", "--config-name", "--config-dir", "-cp", "-cn", "-cd")


def start(name: str, module: str, examples: str, script: str | None = None) -> None:
    """Run the task `module.run(config, folder)` with the config `conf/<name>.yaml`.

    Args:
        name: of the primary config and of the script.
        module: has `run(config, folder)` and `config_from(overrides)`, which returns (config,
            folder) for command lines that bring their own config, or None.
        examples: command lines for --help.
        script: how the task is called, where that is not by its name.
    """
    arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        from lit_face.config.help import help_text

        sys.stdout.write(help_text(script or f"{name}.py", name, examples))
        return
    with user_errors():
        overrides = [a for a in arguments if not a.startswith("-") and ("=" in a or a[0] in "+~")]
        stored = _stored_config(module, overrides)
        if stored is not None:
            run_task(module, *stored)
            return
        if not any(argument.split("=")[0] in _HYDRA_SOURCES for argument in arguments):
            _preflight(name, overrides, is_sweep="-m" in arguments or "--multirun" in arguments)
    _hydra(name, module)


def run_task(module: str, config: Any, folder: Path) -> Any:
    """Check a composed config, write the run's files and run the task."""
    from lit_face.config import check_config
    from lit_face.config.run_folder import write_run_files

    with user_errors():
        plain = check_config(config)
        write_run_files(folder, plain)
    return importlib.import_module(module).run(plain, folder)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn an error of the preparation into one message and exit status 2.

    LIT_FACE_TRACEBACK=1 shows the traceback instead.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if os.environ.get("LIT_FACE_TRACEBACK") == "1":
            raise
        problems = getattr(error, "problems", None) or [str(error)]
        lines = "\n".join(f"  {problem}" for problem in problems)
        sys.stderr.write(f"lit_face cannot start:\n{lines}\n")
        sys.exit(2)


def _stored_config(module: str, overrides: Sequence[str]) -> tuple[Any, Path] | None:
    if not any(o.startswith(("resume=", "ckpt=")) for o in overrides):
        return None
    task = importlib.import_module(module)
    return task.config_from(overrides)  # type: ignore[no-any-return]


def _preflight(name: str, overrides: Sequence[str], *, is_sweep: bool) -> None:
    from lit_face.config import ConfigError, check_config
    from lit_face.config.composition import check_overrides, compose_config

    problems, good = check_overrides(name, overrides)
    if not is_sweep:
        try:
            config = compose_config(name, good)
            check_config(config)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _hydra(name: str, module: str) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from lit_face.config.files import config_folder

    def task(config: DictConfig) -> Any:
        return run_task(module, config, Path(HydraConfig.get().runtime.output_dir))

    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(task)()
