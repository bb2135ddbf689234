"""HDF5 files (.h5): read named datasets and say everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.files import atomic_write
from lit_face.io.matlab import Shape, find_fields

__all__ = ["read_datasets", "write_datasets"]


def _h5py() -> ModuleType:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Files ending in .h5 need h5py: pip install 'lit_face[h5]' (or: pip install h5py)."
        ) from error
    return h5py  # type: ignore[no-any-return]


def read_datasets(
    path: str | Path,
    datasets: Mapping[str, Shape],
    dtype: type[np.generic] = np.float32,
    optional: frozenset[str] = frozenset(),
    texts: tuple[str, ...] = (),
) -> tuple[dict[str, NDArray[Any]], dict[str, str], list[str]]:
    """Read numeric datasets and texts.

    Args:
        path: the file.
        datasets: name ('shape/model/mean') -> expected shape, as in `io.matlab.find_fields`.
        dtype: what every dataset becomes.
        optional: names that may be absent.
        texts: names of texts; those that are absent are left out.

    Returns:
        arrays, texts, and one sentence for each problem.

    Raises:
        ModuleNotFoundError: h5py is not installed; gives the pip command.
        FileNotFoundError: no such file.
        ValueError: not an HDF5 file, or truncated.
    """
    path = Path(path)
    h5py = _h5py()
    if not path.is_file():
        raise FileNotFoundError(f"No file {path}.")
    try:
        with h5py.File(path, "r") as file:
            names = _dataset_names(file, h5py)
            content = {name: file[name][()] for name in datasets if name in names}
            found = {name: _decode(file[name][()]) for name in texts if name in names}
    except OSError as error:
        raise ValueError(
            f"{path}: not a readable HDF5 file ({error}). Copy or download it again."
        ) from error
    missing = [name for name in datasets if name not in content and name not in optional]
    arrays, problems = find_fields(
        content, {name: shape for name, shape in datasets.items() if name in content}, dtype
    )
    if missing:
        present = ", ".join(sorted(names)) or "none"
        problems += [f"no dataset '{name}'" for name in missing] + [f"there are: {present}"]
    return arrays, found, problems


def write_datasets(path: str | Path, datasets: Mapping[str, NDArray[Any] | str]) -> None:
    """Write arrays and texts as datasets, compressed; groups are made from the names."""
    h5py = _h5py()
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for name, value in datasets.items():
            if isinstance(value, str):
                file.create_dataset(name, data=value)
            else:
                file.create_dataset(name, data=value, compression="gzip", shuffle=True)


def _dataset_names(file: Any, h5py: ModuleType) -> set[str]:
    names: set[str] = set()

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.add(name)

    file.visititems(visit)
    return names


def _decode(value: Any) -> str:
    """Texts are stored as strings, bytes, or arrays of bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.dtype.kind in "OSU" else value.tobytes()
    if isinstance(value, str):
        return value
    return bytes(value).decode("utf-8", errors="replace").rstrip("\0")
