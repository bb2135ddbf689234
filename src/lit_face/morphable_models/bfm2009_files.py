"""The original Basel Face Model 2009 and the files that others added to it, read and checked.

What face3d's MATLAB script joins (its examples/Data/BFM/generate.m), read in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.matlab import Shape, find_fields, load_mat
from lit_face.morphable_models.bfm_files import ORIGINAL_VERTICES, TRIMMED_VERTICES
from lit_face.morphable_models.units import height_problems

Floats = NDArray[np.float32]
Index = NDArray[np.int64]

MODEL_FILE = "01_MorphableModel.mat"
_EXPRESSION_FILES = ("Model_Expression.mat", "Model_Exp.mat", "Exp_Pca.bin")
_TRIM_FILES = ("model_info.mat", "BFM_exp_idx.mat")
_FOLDERS = (".", "raw", "3ddfa", "stn", "BFM")  # face3d sorts its inputs like this
_WHERE_EXPRESSION = (
    "get Model_Expression.mat (29 modes, those of 300W-LP) from 3DDFA's page, or Exp_Pca.bin and "
    "std_exp.txt (79 modes, those of Deep3D) from Juyong/3DFace and Deep3DFaceRecon"
)
_MODEL_FIELDS: dict[str, Shape] = {
    "shapeMU": (None,), "shapePC": (None, None), "shapeEV": (None,),
    "texMU": (None,), "texPC": (None, None), "texEV": (None,), "tl": (None, 3),
}  # fmt: skip


@dataclass
class Parts2009:
    """Everything that was found; indices 0-based, positions micrometres.

    Attributes:
        fields: of 01_MorphableModel.mat, untrimmed.
        expression_mean: (3n,), expression_basis: (3n,Ke), expression_std: (Ke,); n vertices are
            left after trimming.
        trim: (n,) vertices that are kept, or None.
        triangles: (T,3) of the trimmed mesh, or None. landmark_index: (68,) likewise.
        mouth_triangles: (M,3) that close the mouth, may be empty.
        segbin: (4,N) or (4,n) masks of nose, eyes, mouth and rest, or None.
        uv: (N,2) or (n,2), or None.
    """

    fields: dict[str, Floats]
    expression_mean: Floats
    expression_basis: Floats
    expression_std: Floats
    trim: Index | None = None
    triangles: Index | None = None
    landmark_index: Index | None = None
    mouth_triangles: Index = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    segbin: NDArray[np.bool_] | None = None
    uv: NDArray[np.float64] | None = None


def find_file(root: Path, *names: str) -> Path | None:
    """Return the first file of these names in the folder or its usual subfolders."""
    for name in names:
        for folder in _FOLDERS:
            path = root / folder / name
            if path.is_file():
                return path
    return None


def read_parts(root: str | Path) -> Parts2009:
    """Read the folder: 01_MorphableModel.mat, expressions, and whatever else is there.

    Raises:
        FileNotFoundError: the model or its expressions are missing; says where to get them.
        ValueError: everything that is misshapen or does not fit together, in one message.
    """
    root = Path(root)
    root = root.parent if root.name == MODEL_FILE else root
    path, expression_path = find_file(root, MODEL_FILE), find_file(root, *_EXPRESSION_FILES)
    if path is None:
        hint = " BFM.mat is there: use morphable_model=bfm." if find_file(root, "BFM.mat") else ""
        if find_file(root, "BFM_model_front.mat"):
            hint += " BFM_model_front.mat is Deep3D's cropped model, not the original."
        raise FileNotFoundError(
            f"No {MODEL_FILE} in {root}: register at faces.dmi.unibas.ch for the Basel Face Model "
            f"2009.{hint}"
        )
    if expression_path is None:
        raise FileNotFoundError(f"No expressions in {root}: {_WHERE_EXPRESSION}.")
    fields, problems = _read_model(path)
    trim_path = find_file(root, *_TRIM_FILES)
    info = {} if trim_path is None else load_mat(trim_path)
    info = info.get("model_info", info)
    trim = _one_based(info, "trimIndex")
    count = len(fields["shapeMU"]) // 3 if "shapeMU" in fields else 0
    kept = count if trim is None else len(trim)
    expression, found = _read_expression(expression_path, kept)
    problems += found
    if trim is None and expression is not None and len(expression[0]) == 3 * TRIMMED_VERTICES:
        problems.append(
            f"{expression_path.name} belongs to {TRIMMED_VERTICES} vertices, but which of the "
            f"{count} these are is not known: give 3DDFA's model_info.mat or Deep3D's "
            "BFM_exp_idx.mat (field trimIndex)"
        )
    if trim is not None and count and not 0 <= trim.min() <= trim.max() < count:
        problems.append(f"'trimIndex' names vertex {trim.max() + 1} of {count}, counted from 1")
    if problems or expression is None:
        listing = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"BFM 2009 at {root} cannot be used:{listing}")
    parts = Parts2009(fields, *expression, trim=trim)
    _read_extras(root, info, parts)
    return parts


def _read_model(path: Path) -> tuple[dict[str, Floats], list[str]]:
    fields, problems = find_fields(load_mat(path), _MODEL_FIELDS, np.float32)
    problems = [f"{path.name}: {problem}" for problem in problems]
    if "shapeMU" not in fields:
        return fields, problems
    length = len(fields["shapeMU"])
    if length % 3:
        return fields, [*problems, f"'shapeMU' should hold x, y, z of every vertex, found {length}"]
    for kind in ("shape", "tex"):
        mean, basis, std = (fields.get(kind + part) for part in ("MU", "PC", "EV"))
        if mean is not None and len(mean) != length:
            problems.append(f"'{kind}MU' should have {length} values, found {len(mean)}")
        if basis is not None and len(basis) != length:
            problems.append(f"'{kind}PC' should have {length} rows, found {len(basis)}")
        if basis is not None and std is not None and basis.shape[1] != len(std):
            problems.append(f"'{kind}PC' has {basis.shape[1]} modes, '{kind}EV' {len(std)}")
    std, triangles = fields.get("shapeEV"), fields.get("tl")
    if std is not None and (np.diff(std) > 1e-4 * std.max()).any():
        problems.append("'shapeEV' should descend (standard deviations by mode)")
    if triangles is not None and not 1 <= triangles.min() <= triangles.max() <= length // 3:
        problems.append(
            f"'tl' names vertices {triangles.min():.0f} to {triangles.max():.0f}, expected 1 to "
            f"{length // 3}: MATLAB counts from 1"
        )
    height = float(np.ptp(fields["shapeMU"].reshape(-1, 3)[:, 1]))
    return fields, problems + height_problems(height, "micrometres")


def _read_expression(
    path: Path, vertices: int
) -> tuple[tuple[Floats, Floats, Floats] | None, list[str]]:
    """Return mean, basis and standard deviations of 3DDFA's or Deep3D's expressions."""
    if path.suffix == ".mat":
        wanted: dict[str, Shape] = {
            "mu_exp": (None,), "w_exp": (None, None), "sigma_exp": (None,),
        }  # fmt: skip
        fields, problems = find_fields(load_mat(path), wanted, np.float32)
        if problems:
            return None, [f"{path.name}: {problem}" for problem in problems]
        found = fields["mu_exp"], fields["w_exp"], fields["sigma_exp"]
    else:
        std_path = path.with_name("std_exp.txt")
        if not std_path.is_file():
            return None, [f"{std_path} is missing: {path.name} has no standard deviations"]
        try:
            found = _read_exp_pca(
                path, vertices, np.loadtxt(std_path, dtype=np.float32).reshape(-1)
            )
        except ValueError as error:
            return None, [str(error)]
    mean, basis, std = found
    if len(basis) != len(mean) or basis.shape[1] != len(std):
        return found, [
            f"{path.name}: basis {basis.shape}, mean {len(mean)} and {len(std)} deviations do not "
            "belong together"
        ]
    if len(mean) != 3 * vertices and len(mean) != 3 * TRIMMED_VERTICES:
        return found, [f"{path.name}: {len(mean) // 3} vertices, the model has {vertices}"]
    return found, []


def _read_exp_pca(path: Path, vertices: int, std: Floats) -> tuple[Floats, Floats, Floats]:
    """Read Deep3D's basis: int32 K, float32 mean (3n), then K modes of 3n values.

    Deep3D leaves the file's mean out (its neutral face is shapeMU), and so do we.
    """
    raw = path.read_bytes()
    count = int(np.frombuffer(raw[:4], "<i4")[0]) if len(raw) >= 4 else 0
    values = np.frombuffer(raw[4:], "<f4")
    length = len(values) // (count + 1) if 0 < count < 1000 else 0
    if not length or len(values) != length * (count + 1) or length % 3:
        raise ValueError(f"{path.name}: {len(raw)} bytes are no basis of {count} modes")
    if not np.isfinite(values).all():
        raise ValueError(f"{path.name}: has NaN or infinite values")
    if length != 3 * vertices and length != 3 * TRIMMED_VERTICES:
        raise ValueError(f"{path.name}: {length // 3} vertices, the model has {vertices}")
    basis = values[length:].reshape(count, length).T
    return np.zeros(length, np.float32), np.ascontiguousarray(basis), std


def _read_extras(root: Path, info: Mapping[str, Any], parts: Parts2009) -> None:
    """Take triangles, landmarks, mouth, regions and UV where there are any."""
    triangles = _one_based(info, "tri")
    if triangles is not None:
        parts.triangles = triangles.reshape(3, -1).T if len(triangles) == 3 else triangles
    for name in ("keypoints", "kpt_ind"):
        index = _one_based(info, name)
        if index is not None and index.size == 68:
            parts.landmark_index = index.reshape(-1)
            break
    mouth_path = find_file(root, "Model_tri_mouth.mat")
    mouth = _one_based(load_mat(mouth_path), "tri_mouth") if mouth_path else None
    if mouth is not None and mouth.ndim == 2:
        parts.mouth_triangles = np.ascontiguousarray(mouth.T if len(mouth) == 3 else mouth)
    masks = np.asarray(info.get("segbin", []))
    if masks.ndim == 2 and 4 in masks.shape:
        parts.segbin = (masks if len(masks) == 4 else masks.T) > 0
    uv_path = find_file(root, "BFM_UV.mat")
    if uv_path is not None:
        fields, problems = find_fields(load_mat(uv_path), {"UV": (None, 2)}, np.float64)
        count = len(parts.fields["shapeMU"]) // 3
        kept = count if parts.trim is None else len(parts.trim)
        if problems or len(fields["UV"]) not in (count, kept):
            detail = "; ".join(problems) or f"'UV' has {len(fields['UV'])} rows, not {count}"
            raise ValueError(f"{uv_path}: {detail}.")
        parts.uv = fields["UV"]


def _one_based(content: Mapping[str, Any], name: str) -> Index | None:
    if name not in content:
        return None
    return np.squeeze(np.asarray(content[name])).astype(np.int64) - 1


__all__ = ["MODEL_FILE", "ORIGINAL_VERTICES", "Parts2009", "find_file", "read_parts"]
