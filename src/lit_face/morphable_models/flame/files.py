"""Find, read and check FLAME's model file (flame.is.tue.mpg.de; see docs/data/flame.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.unpickling import read_npz, read_pickle
from lit_face.morphable_models.units import height_problems

Array = NDArray[Any]

MODEL_NAMES = (
    "generic_model", "FLAME_NEUTRAL", "flame2023", "flame2023_Open", "flame2023_no_jaw",
)  # fmt: skip
EXPRESSION_START, EXPRESSIONS = 300, 100
JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
WHERE = "get it from flame.is.tue.mpg.de (free registration), see docs/data/flame.md"
_KEYS = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")


@dataclass(frozen=True, eq=False)
class FlameArrays:
    """The content of a FLAME model file, in metres.

    Attributes:
        template: (V,3).
        faces: (F,3) int64.
        shape_basis: (V,3,400 or more) a standard deviation; 300 identities, then expressions.
        pose_basis: (V,3,36).
        joint_regressor: (5,V).
        parents: of each joint, -1 for the root.
        weights: (V,5).
        edition: file name and ten digits of a hash of template and bases: codes fitted with one
            edition mean nothing in another.
    """

    template: Tensor
    faces: Tensor
    shape_basis: Tensor
    pose_basis: Tensor
    joint_regressor: Tensor
    parents: tuple[int, ...]
    weights: Tensor
    edition: str


def find_model(root: str | Path) -> Path:
    """Return the model's file.

    Args:
        root: the file, or a folder that holds one of `MODEL_NAMES` as .npz or .pkl.

    Raises:
        FileNotFoundError: there is none; says what was looked for and where to get it.
        ValueError: there are several.
    """
    root = Path(root).expanduser()
    if root.is_file():
        return root
    found: dict[str, Path] = {}
    for name in MODEL_NAMES:
        for suffix in (".npz", ".pkl"):  # a converted file goes before its source
            if name not in found and (root / f"{name}{suffix}").is_file():
                found[name] = root / f"{name}{suffix}"
    if not found:
        raise FileNotFoundError(
            f"No FLAME model: expected {root / 'generic_model.pkl'} (or {', '.join(MODEL_NAMES)} "
            f"as .pkl or .npz). Set morphable_model.root or LIT_FACE_FLAME to its folder; {WHERE}."
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found.values())
        raise ValueError(
            f"{root} holds several FLAME models ({names}), whose codes differ: give the file, for "
            f"example morphable_model.root={next(iter(found.values()))}."
        )
    return next(iter(found.values()))


def read_flame(path: str | Path, dtype: torch.dtype = torch.float32) -> FlameArrays:
    """Read generic_model.pkl, flame2023.pkl, ... or what `convert_flame` made of it.

    Raises:
        ValueError: everything that is missing or misshapen, in one message.
    """
    path = Path(path)
    raw = read_npz(path) if path.suffix == ".npz" else read_pickle(path)
    arrays = check_flame(raw, path)
    digest = hashlib.blake2b(digest_size=5)
    for name in ("v_template", "shapedirs"):
        digest.update(np.ascontiguousarray(arrays[name], np.float32).tobytes())
    parents = arrays["kintree_table"][0].astype(np.int64)
    return FlameArrays(
        template=to_tensor(arrays["v_template"], dtype),
        faces=to_tensor(arrays["f"], torch.int64),
        shape_basis=to_tensor(arrays["shapedirs"], dtype),
        pose_basis=to_tensor(arrays["posedirs"], dtype),
        joint_regressor=to_tensor(arrays["J_regressor"], dtype),
        parents=tuple(-1 if p in (-1, 4294967295) else int(p) for p in parents),
        weights=to_tensor(arrays["weights"], dtype),
        edition=f"{path.stem}-{digest.hexdigest()}",
    )


def check_flame(raw: object, path: Path) -> dict[str, Array]:
    """Return a model file's arrays after checking them.

    Raises:
        ValueError: all problems in one message.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} holds no dictionary of arrays: it is no FLAME model.")
    missing = [key for key in _KEYS if key not in raw]
    if missing:
        raise ValueError(
            f"{path} is no FLAME model: it lacks {', '.join(missing)}; it has "
            f"{', '.join(sorted(map(str, raw))) or 'nothing'}."
        )
    arrays = {key: np.asarray(raw[key]) for key in _KEYS}
    problems = _shape_problems(arrays) or _value_problems(arrays)
    if problems:
        raise ValueError(f"{path} is no FLAME model that can be used: {'; '.join(problems)}.")
    return arrays


def _shape_problems(arrays: Mapping[str, Array]) -> list[str]:
    count = len(arrays["v_template"]) if arrays["v_template"].ndim else 0
    joints = len(JOINTS)
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (None, 3), "f": (None, 3), "shapedirs": (count, 3, None),
        "posedirs": (count, 3, 9 * (joints - 1)), "J_regressor": (joints, count),
        "kintree_table": (2, joints), "weights": (count, joints),
    }  # fmt: skip
    problems = []
    for key, shape in expected.items():
        found = arrays[key].shape
        fits = len(found) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found, strict=True)
        )
        if not fits or arrays[key].dtype.kind not in "iuf":
            text = ",".join("n" if size is None else str(size) for size in shape)
            problems.append(f"'{key}' should be ({text}) numbers, found {found}")
    if not problems and arrays["shapedirs"].shape[2] < EXPRESSION_START + EXPRESSIONS:
        problems.append(
            f"'shapedirs' has {arrays['shapedirs'].shape[2]} columns, expected 300 identities and "
            "100 expressions: a shortened file, in which it is not known where expressions start"
        )
    return problems


def _value_problems(arrays: Mapping[str, Array]) -> list[str]:
    problems = [
        f"'{key}' has values that are not finite"
        for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
        if not np.isfinite(arrays[key]).all()
    ]
    faces, count = arrays["f"].astype(np.int64), len(arrays["v_template"])
    if not len(faces) or faces.min() < 0 or faces.max() >= count:
        problems.append(f"'f' should name vertices 0 to {count - 1}")
    sums = arrays["weights"].sum(1)
    if not problems and np.abs(sums - 1).max() > 1e-3:
        problems.append(
            f"rows of 'weights' should sum to 1, found {sums.min():.4g}..{sums.max():.4g}"
        )
    parents = [int(parent) for parent in arrays["kintree_table"][0]]
    if parents[0] not in (-1, 4294967295) or any(
        not 0 <= parent < joint for joint, parent in enumerate(parents[1:], 1)
    ):
        problems.append(f"'kintree_table' should have one root, the first joint; found {parents}")
    if not problems:
        problems = height_problems(float(np.ptp(arrays["v_template"][:, 1])), "metres")
    return problems


def to_tensor(array: Array, dtype: torch.dtype) -> Tensor:
    """Return an array of any number type as a tensor (torch lacks some unsigned types)."""
    plain = array.astype(np.int64) if array.dtype.kind in "iu" else array
    return torch.from_numpy(np.ascontiguousarray(plain)).to(dtype)
