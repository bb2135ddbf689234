"""What a pickle of arrays may consist of, as inert objects, and the arrays they stand for.

Arrays are built from the bytes that were found with numpy's safe functions alone (numpy's own
`__setstate__` believes a file's flags, and so its pointers). See `lit_face.io.unpickling`.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None))
_DTYPE = re.compile(r"[?bhilqpBHILQPefdgFDG]|[biufcSUV]\d+|O8?|bool|u?int\d+|float\d+")
_KEPT_OBJECT = "O"


class UnsafePickleError(ValueError):
    """A pickle asks for something that plain arrays do not need."""


class PickledFunction:
    """What a file may call; it cannot be changed by a file (BUILD of an object sets attributes)."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise UnsafePickleError("a pickle tries to change a function")


class PickledObject:
    """An object that is made empty and then given a state, which is kept and not looked at."""

    __slots__ = ("state",)
    state: Any

    def __new__(cls, *arguments: object) -> PickledObject:
        """Make an empty one."""
        if arguments:
            raise UnsafePickleError(f"a pickle makes {cls.__name__} with arguments")
        made = super().__new__(cls)
        made.state = None
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state

    def field(self, name: str) -> Any:
        """Return an entry of the state."""
        if not isinstance(self.state, dict) or name not in self.state:
            raise ValueError(f"a pickled {type(self).__name__} has no '{name}'")
        return self.state[name]


class Ch(PickledObject):
    """Stands for chumpy.ch.Ch."""

    __slots__ = ()


class Select(PickledObject):
    """Stands for chumpy.reordering.Select: entries of another array."""

    __slots__ = ()


class CscMatrix(PickledObject):
    """Stands for scipy's compressed sparse columns."""

    __slots__ = ()


class NumpyArray(PickledObject):
    """Stands for numpy.ndarray; its state is version, shape, type, order and data."""

    __slots__ = ()


class NumpyType:
    """Stands for numpy.dtype: a name and a byte order, nothing else of what a file may claim."""

    __slots__ = ("dtype",)

    def __init__(self, name: object, *_: object) -> None:
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise UnsafePickleError(f"a pickle asks for the array type {name!r}")
        self.dtype = np.dtype(_KEPT_OBJECT if name.startswith(_KEPT_OBJECT) else name)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise UnsafePickleError("a pickle has an array type with an unknown byte order")
        if any(part is not None for part in state[2:5]):
            raise UnsafePickleError("a pickle has an array type with fields")
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class Scalar:
    """Stands for one number of numpy's."""

    __slots__ = ("content", "type")

    def __init__(self, kind: object, content: object = b"") -> None:
        self.type, self.content = kind, content


class PickledTensor:
    """Stands for a torch tensor: storage, offset, size, stride."""

    __slots__ = ("parts",)

    def __init__(self, storage: object, offset: object, size: object, stride: object) -> None:
        self.parts = (storage, offset, size, stride)


class Storage:
    """Stands for a torch storage: a file of its own, inside."""

    __slots__ = ("content",)

    def __init__(self, content: object) -> None:
        self.content = content


def empty_array(kind: object, *_: object) -> NumpyArray:
    """Return an array without content, as numpy's `_reconstruct`."""
    if kind is not NumpyArray:
        raise UnsafePickleError("a pickle makes an array of another class than numpy.ndarray")
    return NumpyArray()


def array_of_buffer(content: object, kind: object, shape: object, order: object) -> NumpyArray:
    """Return an array of bytes, as numpy's `_frombuffer` (protocol 5)."""
    made = NumpyArray()
    made.state = (1, shape, kind, order == "F", content)
    return made


def encode(text: object, codec: object = "latin1") -> bytes:
    """Return the bytes of a latin1 text, the only codec that arrays use."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise UnsafePickleError(f"a pickle encodes with {codec!r}")
    return text.encode("latin1")


def reconstruct_object(kind: object, base: object, state: object = None) -> PickledObject:
    """Return an empty object of a known class, as `copyreg._reconstructor` (protocols 0, 1)."""
    if not (isinstance(kind, type) and issubclass(kind, PickledObject)) or state is not None:
        raise UnsafePickleError("a pickle reconstructs an unknown class")
    return kind()


def make_set(items: object = ()) -> set[Any]:
    """Return a set of a list."""
    if not isinstance(items, list | tuple):
        raise UnsafePickleError("a pickle makes a set of something else than a list")
    return set(items)


def make_dict(items: object = ()) -> dict[Any, Any]:
    """Return a dictionary of a list of pairs."""
    if not isinstance(items, list | tuple):
        raise UnsafePickleError("a pickle makes a dictionary of something else than a list")
    return dict(items)


def make_object(*_: object) -> None:
    """Refuse a bare object: only `reconstruct_object` may name it."""
    raise UnsafePickleError("a pickle makes a bare object")


def rebuild_tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> PickledTensor:
    """Return a tensor, as torch's `_rebuild_tensor_v2`."""
    return PickledTensor(storage, offset, size, stride)


def shaped(flat: Array, shape: tuple[int, ...], fortran: bool) -> Array:
    """Return a writable copy of flat numbers in a shape."""
    return flat.reshape(shape, order="F" if fortran else "C").copy(order="K")


class ArrayBuilder:
    """Turns what the unpickler left into plain arrays; shared objects once."""

    def __init__(self) -> None:
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()
        self._kinds: dict[type, Callable[[Any], Any]] = {
            dict: self._dict,
            list: lambda value: [self(item) for item in value],
            tuple: lambda value: tuple(self(item) for item in value),
            set: lambda value: {item if isinstance(item, _PLAIN) else None for item in value},
            Ch: lambda value: self(value.field("x")),
            Select: self._select,
            CscMatrix: self._csc,
            NumpyArray: self._array,
            Scalar: lambda value: self._flat(value.type, value.content)[0],
            PickledTensor: _tensor,
            Storage: lambda value: _storage(value).numpy(),
        }

    def __call__(self, value: Any) -> Any:
        """Return what an object stands for."""
        if isinstance(value, _PLAIN):
            return value
        key = id(value)
        if key in self._open:
            raise ValueError("an object that contains itself")
        if key not in self._done:
            kind = self._kinds.get(type(value))
            if kind is None:
                raise ValueError(f"an object of the kind {type(value).__name__.strip('_')}")
            self._open.add(key)
            self._done[key] = kind(value)
            self._open.discard(key)
        return self._done[key]

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if not all(isinstance(name, str | bytes | int) for name in value):
            raise ValueError("a dictionary with keys that are not text")
        return {name: self(item) for name, item in value.items()}

    def _array(self, value: NumpyArray) -> Array:
        state = value.state
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without shape, type and data")
        _, shape, kind, fortran, content = state
        shape = _sizes(shape)
        if isinstance(kind, NumpyType) and kind.dtype.hasobject:
            if not isinstance(content, list) or len(content) != prod(shape):
                raise ValueError("an array of objects whose list has another length")
            objects = np.empty(len(content), dtype=object)
            for row, item in enumerate(content):
                objects[row] = self(item)
            return shaped(objects, shape, bool(fortran))
        flat = self._flat(kind, content)
        if len(flat) != prod(shape):
            raise ValueError(f"an array of shape {shape} with {len(flat)} numbers")
        return shaped(flat, shape, bool(fortran))

    @staticmethod
    def _flat(kind: object, content: object) -> Array:
        data = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(kind, NumpyType) or kind.dtype.hasobject:
            raise ValueError("an array without a type")
        if not isinstance(data, bytes | bytearray):
            raise ValueError("an array whose data is not bytes")
        return np.frombuffer(data, kind.dtype)

    def _select(self, value: Select) -> Array:
        source = np.asarray(self(value.field("a"))).ravel()
        index = np.asarray(self(value.field("idxs"))).ravel()
        shape = _sizes(self(value.field("preferred_shape")))
        picked: Array = source[index].reshape(shape)
        return picked

    def _csc(self, value: CscMatrix) -> Array:
        data, indices, starts = (
            np.asarray(self(value.field(name))) for name in ("data", "indices", "indptr")
        )
        rows, columns = _sizes(self(value.field("_shape")))
        counts = np.diff(starts)
        sound = len(starts) == columns + 1 and (counts >= 0).all() and len(data) == len(indices)
        if not sound or starts[0] != 0 or starts[-1] != len(data):
            raise ValueError("a sparse matrix whose column pointers contradict its data")
        if len(data) and not (indices.min() >= 0 and indices.max() < rows):
            raise ValueError("a sparse matrix with entries outside its shape")
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (indices, np.repeat(np.arange(columns), counts)), data)
        return dense


def _sizes(value: object) -> tuple[int, ...]:
    sizes = np.asarray(value)
    if sizes.ndim != 1 or (sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 0)):
        raise ValueError(f"a shape should be whole numbers, found {value!r}")
    return tuple(int(size) for size in sizes)


def _storage(value: Storage) -> torch.Tensor:
    """Read a storage's own file with torch's reader of plain weights: (N,) numbers."""
    content = value.content
    data = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(data, bytes):
        raise ValueError("a tensor's storage that is not bytes")
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|(\w+\.[\w.]+) was not", str(error))
        named = "" if found is None else f": '{found[1] or found[2]}'"
        raise UnsafePickleError(
            f"holds a torch file that asks for more than numbers{named}; refused, nothing was run"
        ) from error
    if not isinstance(loaded, torch.TypedStorage):
        raise ValueError("a torch file that holds no storage")
    return torch.tensor([], dtype=loaded.dtype).set_(loaded)  # type: ignore[call-overload, no-any-return]


def _tensor(value: PickledTensor) -> Array:
    storage, offset, size, stride = value.parts
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    start = _sizes([offset])[0]
    view = torch.as_strided(_storage(storage), _sizes(size), _sizes(stride), start)
    array: Array = view.clone().numpy()
    return array
