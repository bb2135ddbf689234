"""Landmarks and UV coordinates that a user gives for a model whose own files lack them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.matlab import load_mat
from lit_face.io.obj import read_obj

_UV_SUFFIXES = (".mat", ".npz", ".npy", ".obj")
_LANDMARK_SUFFIXES = (".txt", ".npy", ".npz", ".json")
_LANDMARKS = 68


def read_landmark_file(path: str | Path, vertices: int) -> Tensor:
    """Read the vertices (68,) of the iBUG points, counted from 0.

    Args:
        path: .txt (68 numbers), .npy, .npz (key 'landmarks68') or .json (a list).
        vertices: of the model.

    Raises:
        FileNotFoundError, ValueError: names the file and what is wrong.
    """
    path = _existing(path, "landmarks68", _LANDMARK_SUFFIXES)
    try:
        if path.suffix == ".txt":
            values: NDArray[Any] = np.loadtxt(path, comments="#").reshape(-1)
        elif path.suffix == ".json":
            values = np.asarray(json.loads(path.read_text()), dtype=np.float64).reshape(-1)
        else:
            values = _numpy_array(path, "landmarks68").reshape(-1)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{path}: not a list of 68 vertex numbers ({error}).") from error
    whole = values.astype(np.int64)
    if len(whole) != _LANDMARKS or not np.array_equal(whole, values):
        raise ValueError(f"{path}: expected 68 whole vertex numbers, found {len(values)} values.")
    if whole.min() < 0 or whole.max() >= vertices:
        hint = "; subtract 1 if they count from 1" if whole.max() == vertices else ""
        raise ValueError(
            f"{path}: vertices {whole.min()} to {whole.max()}, but the model has {vertices}, "
            f"counted from 0{hint}."
        )
    return torch.from_numpy(whole)


def read_uv_file(path: str | Path, vertices: int) -> Tensor:
    """Read one UV coordinate a vertex: (V,2) float32, u right, v up.

    Args:
        path: .mat (field 'UV' or 'uv'), .npz (key 'uv'), .npy, or an .obj with the model's vertices
            in its order (of several texture points of a vertex the first one counts).
        vertices: of the model.

    Raises:
        FileNotFoundError, ValueError: names the file and what is wrong.
    """
    path = _existing(path, "uv", _UV_SUFFIXES)
    if path.suffix == ".obj":
        found = read_obj(path)
        if found.uv is None:
            raise ValueError(f"{path}: has no texture coordinates (vt).")
        count = _obj_vertices(path)
        if count != vertices:
            raise ValueError(f"{path}: {count} vertices, but the model has {vertices}.")
        values: NDArray[Any] = found.uv[:count]
    elif path.suffix == ".mat":
        content = load_mat(path)
        key = "UV" if "UV" in content else "uv"
        if key not in content:
            raise ValueError(f"{path}: no field 'UV', found {', '.join(sorted(content))}.")
        values = np.asarray(content[key])
    else:
        values = _numpy_array(path, "uv")
    if values.shape != (vertices, 2) or values.dtype.kind not in "fiu":
        raise ValueError(f"{path}: uv should be ({vertices}, 2) numbers, found {values.shape}.")
    if not np.isfinite(values).all() or values.min() < -1e-4 or values.max() > 1 + 1e-4:
        raise ValueError(
            f"{path}: uv should lie in [0, 1], found [{values.min():.4g}, {values.max():.4g}]."
        )
    return torch.from_numpy(np.clip(values, 0, 1).astype(np.float32))


def beside(model: Path, ending: str, suffixes: tuple[str, ...]) -> Path | None:
    """Return `<stem>_<ending><suffix>` beside a model file, if there is one."""
    for suffix in suffixes:
        path = model.with_name(f"{model.stem}_{ending}{suffix}")
        if path.is_file():
            return path
    return None


def landmark_file_beside(model: Path) -> Path | None:
    """Return `<stem>_landmarks68.txt` (.npy, .npz, .json) beside a model file, if there is one."""
    return beside(model, "landmarks68", _LANDMARK_SUFFIXES)


def uv_file_beside(model: Path) -> Path | None:
    """Return `<stem>_uv.mat` (.npz, .npy, .obj) beside a model file, if there is one."""
    return beside(model, "uv", _UV_SUFFIXES)


def _existing(path: str | Path, option: str, suffixes: tuple[str, ...]) -> Path:
    path = Path(path)
    if path.suffix not in suffixes:
        raise ValueError(f"{option}={path}: should be a file of {', '.join(suffixes)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{option}={path}: no such file.")
    return path


def _numpy_array(path: Path, key: str) -> NDArray[Any]:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if key not in content.files:
            raise ValueError(f"{path}: no array '{key}', found {', '.join(content.files)}.")
        return np.asarray(content[key])


def _obj_vertices(path: Path) -> int:
    with path.open(errors="replace") as lines:
        return sum(line.startswith("v ") for line in lines)
