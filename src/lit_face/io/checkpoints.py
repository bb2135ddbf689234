"""Checkpoints of lit_face: which file a path means, what is in it; nothing in it is executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What torch.load raises for cut, damaged or foreign files, by where the cut falls.
UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


def find_checkpoint(given: str | Path, prefer: str = "last") -> Path:
    """Return the checkpoint that a path means: a file, or the best one in a run's folder.

    Args:
        given: a `.ckpt` file or a run's folder.
        prefer: 'last' takes the newest that can be resumed, 'best' the best by the monitor.

    Raises:
        FileNotFoundError: says what was looked for and where.
    """
    path = Path(given)
    if path.is_file():
        return path
    folder = path / "checkpoints"
    found = sorted(folder.glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    if prefer == "best":
        found.sort(key=lambda file: file.stem == "best")
    if not found:
        state = "has no checkpoint in checkpoints/ (was it stopped before its first validation?)"
        raise FileNotFoundError(f"{path} {state if path.is_dir() else 'does not exist'}.")
    return found[-1]


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint of lit_face as plain data.

    Raises:
        ValueError: the file is cut, is no checkpoint, or was not written by lit_face.
    """
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"{file} cannot be read as a checkpoint ({file.stat().st_size} bytes): it is cut, "
            f"damaged or holds more than plain data. Copy it again, or use another one. ({reason})"
        ) from error
    if not isinstance(content, dict) or "lit_face" not in content:
        raise ValueError(
            f"{file} was not written by lit_face: it has no key 'lit_face' with the run's config."
        )
    if content["lit_face"]["format"] != 1:
        raise ValueError(
            f"{file} has format {content['lit_face']['format']}; this lit_face reads format 1."
        )
    return content


def load_weights(method: Any, state: Mapping[str, Any], file: Path) -> None:
    """Load weights strictly.

    Raises:
        ValueError: names the first keys and shapes that differ.
    """
    own = method.state_dict()
    missing, surplus = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [
        f"{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the method"
        for key in sorted(set(own) & set(state))
        if own[key].shape != state[key].shape
    ]
    if missing or surplus or shapes:
        details = [f"missing {missing[:3]}"] * bool(missing) + [f"unknown {surplus[:3]}"] * bool(
            surplus
        )
        raise ValueError(
            f"{file} does not fit {type(method).__name__}: {'; '.join(details + shapes[:3])}. "
            "It is from another method or another version of it; evaluate it with its own config."
        )
    method.load_state_dict(state)
