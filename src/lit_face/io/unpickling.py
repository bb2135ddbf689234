"""Read arrays out of pickles without running what is in them.

A pickle is a program. This reader never imports, looks up or calls anything a file names: every
global of a short allow-list stands for an inert object of `lit_face.io.pickled_arrays`; everything
else is refused, and arrays are built afterwards from the bytes that were found.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from lit_face.io.pickled_arrays import (
    ArrayBuilder,
    Ch,
    CscMatrix,
    NumpyArray,
    NumpyType,
    PickledFunction,
    Scalar,
    Select,
    Storage,
    UnsafePickleError,
    array_of_buffer,
    empty_array,
    encode,
    make_dict,
    make_object,
    make_set,
    rebuild_tensor,
    reconstruct_object,
    shaped,
)

__all__ = ["UnsafePickleError", "read_npy", "read_npz", "read_pickle", "unpickle"]

_MULTIARRAY = {"_reconstruct": PickledFunction(empty_array), "scalar": PickledFunction(Scalar)}
_BUILTIN = {"set": PickledFunction(make_set), "object": PickledFunction(make_object)}
_COPY = {"_reconstructor": PickledFunction(reconstruct_object)}
_ALLOWED: dict[str, Mapping[str, Any]] = {
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "numpy.core.numeric": {"_frombuffer": PickledFunction(array_of_buffer)},  # protocol 5
    "numpy._core.numeric": {"_frombuffer": PickledFunction(array_of_buffer)},
    "numpy": {"ndarray": NumpyArray, "dtype": PickledFunction(NumpyType)},
    "_codecs": {"encode": PickledFunction(encode)},
    "__builtin__": _BUILTIN,
    "builtins": _BUILTIN,
    "copy_reg": _COPY,
    "copyreg": _COPY,
    "collections": {"OrderedDict": PickledFunction(make_dict)},
    "scipy.sparse.csc": {"csc_matrix": CscMatrix},
    "scipy.sparse._csc": {"csc_matrix": CscMatrix},
    "chumpy.ch": {"Ch": Ch},
    "chumpy.reordering": {"Select": Select},
    "torch._utils": {"_rebuild_tensor_v2": PickledFunction(rebuild_tensor)},
    "torch.storage": {"_load_from_bytes": PickledFunction(Storage)},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get(module, {})
        if name in allowed:
            return allowed[name]
        if module.split(".")[0] == "chumpy":
            raise UnsafePickleError(
                f"holds a chumpy object of the class '{module}.{name}', which this reader does "
                "not know: convert the file once to plain arrays with chumpy itself (Python 3.8, "
                "numpy < 1.24)"
            )
        raise UnsafePickleError(
            f"asks for '{module}.{name}', which reading arrays does not need: refused, nothing "
            "was run. Pickles can run programs; get the file from its owners"
        )


def unpickle(stream: IO[bytes], name: str | Path) -> Any:
    """Read a pickle of arrays, protocols 0 to 5, of Python 2 or 3.

    Args:
        stream: at the pickle's first byte.
        name: of the file, for messages.

    Returns:
        Dictionaries, lists, tuples, sets, numbers, texts and numpy arrays. Torch tensors, chumpy
        and scipy's sparse objects become dense numpy arrays; texts of Python 2 are latin1.

    Raises:
        UnsafePickleError: a global that is not on the list; names the file and the global.
        ValueError: not a pickle, cut off, or arrays that contradict themselves.
    """
    try:
        return ArrayBuilder()(_Unpickler(stream, encoding="latin1").load())
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{name} {error}.") from error
    except RecursionError as error:
        raise ValueError(f"{name}: nested too deeply to be a file of arrays.") from error
    except Exception as error:  # pickle raises nearly anything on a broken file
        raise ValueError(f"{name} cannot be read as a pickle of arrays: {error}.") from error


def read_pickle(path: str | Path) -> Any:
    """Read a .pkl file; see `unpickle`."""
    with Path(path).open("rb") as stream:
        return unpickle(stream, path)


def read_npy(path: str | Path) -> Any:
    """Read a .npy file; where it holds objects, through `unpickle` (0-d: the object itself)."""
    with Path(path).open("rb") as stream:
        return _read_npy(stream, str(path))


def read_npz(path: str | Path) -> dict[str, Any]:
    """Read all arrays of a .npz file, those of objects through `unpickle`.

    Raises:
        ValueError: not a .npz file; see `unpickle`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            found = {}
            for member in members:
                with archive.open(member) as stream:
                    found[member[:-4]] = _read_npy(stream, f"{path}: {member}")
            return found
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no .npz file ({error}).") from error


def _read_npy(stream: IO[bytes], name: str) -> Any:
    try:
        version = npy_format.read_magic(stream)  # type: ignore[no-untyped-call]
        reader = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = reader(stream)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{name} is no .npy file ({error}).") from error
    if dtype.hasobject:
        found = unpickle(stream, name)
        single = isinstance(found, np.ndarray) and found.dtype == object and found.shape == ()
        return found.item() if single else found
    content = stream.read()
    if len(content) != prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} is cut off: its array should be {shape} {dtype}.")
    return shaped(np.frombuffer(content, dtype), shape, fortran)
