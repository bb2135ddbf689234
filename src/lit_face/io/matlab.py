"""MATLAB files: read named numeric fields and say everything that is wrong with them at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

Shape = int | tuple[int | None, ...]


def load_mat(path: str | Path) -> dict[str, Any]:
    """Read a .mat file (version 7 or older) with structs as dicts and cells as lists.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a MATLAB file, truncated, or saved in the HDF5 form of version 7.3.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No MATLAB file {path}.")
    try:
        content = scipy.io.loadmat(path, simplify_cells=True)
    except NotImplementedError as error:
        raise ValueError(
            f"{path}: saved in MATLAB's version 7.3 form; save it again with save(..., '-v7')."
        ) from error
    except Exception as error:  # scipy raises a dozen types on damaged files
        raise ValueError(
            f"{path}: not a readable MATLAB file ({type(error).__name__}: {error}). "
            "Copy or download it again."
        ) from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def find_fields(
    content: Mapping[str, Any],
    fields: Mapping[str, Shape],
    dtype: type[np.generic] = np.float64,
    optional: frozenset[str] = frozenset(),
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Pick numeric fields, check their shapes and finiteness, and cast them.

    Args:
        content: a loaded .mat file or one of its structs.
        fields: name -> expected shape. A number n accepts any array of n values and flattens it;
            in a tuple None accepts any length, and trailing axes of length 1 may be missing.
        dtype: what every field becomes (files mix uint8, int16, float32 and float64).
        optional: names that may be absent; they are left out of the result.

    Returns:
        the good fields, and one sentence for each missing, misshapen, non-numeric or non-finite
        field.
    """
    problems: list[str] = []
    arrays: dict[str, NDArray[Any]] = {}
    for name, shape in fields.items():
        if name not in content:
            if name not in optional:
                present = ", ".join(sorted(content)) or "none"
                problems.append(f"no field '{name}' (there are: {present})")
            continue
        found = np.asarray(content[name])
        if found.dtype.kind not in "buif":
            problems.append(f"'{name}' should be numbers, found {found.dtype}")
            continue
        shaped = _fit(found, shape)
        if shaped is None:
            wanted = f"{shape} values" if isinstance(shape, int) else _text(shape)
            problems.append(f"'{name}' should be {wanted}, found {_text(found.shape)}")
            continue
        if not np.isfinite(shaped).all():
            count = int((~np.isfinite(shaped)).sum())
            problems.append(f"'{name}' has {count} NaN or infinite values")
            continue
        arrays[name] = shaped.astype(dtype)
    return arrays, problems


def read_fields(
    path: str | Path,
    fields: Mapping[str, Shape],
    dtype: type[np.generic] = np.float64,
    optional: frozenset[str] = frozenset(),
) -> dict[str, NDArray[Any]]:
    """Read numeric fields of a .mat file; see `load_mat` and `find_fields`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: lists everything that is wrong with the file.
    """
    arrays, problems = find_fields(load_mat(path), fields, dtype, optional)
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems) + ".")
    return arrays


def _fit(array: NDArray[Any], shape: Shape) -> NDArray[Any] | None:
    """Return the array in the expected shape, or None."""
    if isinstance(shape, int):
        return array.reshape(-1) if array.size == shape else None
    lengths = list(np.squeeze(array).shape)
    lengths += [1] * (len(shape) - len(lengths))  # trailing axes that were squeezed away
    if len(lengths) != len(shape):
        return None
    if any(want not in (None, have) for want, have in zip(shape, lengths, strict=True)):
        return None
    return array.reshape(lengths)


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
