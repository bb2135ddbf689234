"""A run's folder explains the run: config, code version, environment, metrics."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import lit_face
from lit_face.io.files import atomic_write

_PACKAGES = ("torch", "pytorch-lightning", "torchvision", "hydra-core", "kornia", "numpy", "numba")


def write_run_files(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml` (resolved) and `environment.json`.

    Args:
        folder: the run's folder; made where absent.
        config: the resolved config as plain data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    with atomic_write(folder / "environment.json") as temporary:
        temporary.write_text(json.dumps(environment(), indent=2) + "\n")


def read_run_config(folder: Path) -> dict[str, Any]:
    """Read the resolved config of a run's folder."""
    file = folder / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is no run folder: it has no config.yaml.")
    return dict(yaml.safe_load(file.read_text()))


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> None:
    """Merge flat names and numbers into the run's `metrics.json`; what is not finite is null."""
    file = folder / "metrics.json"
    merged = json.loads(file.read_text()) if file.is_file() else {}
    numbers = {name: float(value) for name, value in metrics.items()}
    merged.update(
        {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    )
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n")


def environment() -> dict[str, Any]:
    """Return versions, platform, command and the code's commit."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "lit_face": lit_face.__version__,
        "commit": _commit(),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": packages,
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown (not a git checkout)"
    return done.stdout.strip()


def point_latest(folder: Path, method: str) -> None:
    """Point `latest` and `latest-<method>` beside a training's folder at it, each in one step."""
    for name in ("latest", f"latest-{method}"):
        temporary = folder.parent / f".{name}-{os.getpid()}"
        try:
            temporary.symlink_to(folder.name)
            temporary.replace(folder.parent / name)
        except OSError:  # a file system without symbolic links
            temporary.unlink(missing_ok=True)


def method_name(target: str) -> str:
    """Return the folder in `lit_face.methods` (or the package) that a `_target_` lies in."""
    parts = target.split(".")
    return parts[2] if target.startswith("lit_face.methods.") else parts[-2]
