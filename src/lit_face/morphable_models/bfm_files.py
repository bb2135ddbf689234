"""The files of the Basel Face Model as face3d lays them out, read and checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.io.matlab import find_fields, load_mat

Floats = NDArray[np.float32]

_MODEL_FIELDS: dict[str, tuple[int | None, ...] | int] = {
    "shapeMU": (None,), "shapePC": (None, None), "shapeEV": (None,),
    "expMU": (None,), "expPC": (None, None), "expEV": (None,),
    "texMU": (None,), "texPC": (None, None), "texEV": (None,),
    "tri": (3, None), "tri_mouth": (3, None), "kpt_ind": 68,
}  # fmt: skip
_INDEX_FIELDS = ("tri", "tri_mouth", "kpt_ind")
_WHERE_MODEL = (
    "BFM.mat is made from the Basel Face Model 2009 (register at faces.dmi.unibas.ch) and 3DDFA's "
    "expressions by `python -m lit_face.morphable_models.bfm2009 FOLDER OUT` or face3d's scripts; "
    "morphable_model=bfm2009 reads the originals as they are"
)
_WHERE_UV = "get BFM_UV.mat from the 3DMMasSTN repository and trim it to BFM.mat's vertices"
ORIGINAL_VERTICES, TRIMMED_VERTICES = 53490, 53215


@dataclass(frozen=True)
class BFMArrays:
    """What face3d's loader makes of BFM.mat, BFM_UV.mat and BFM_info.mat; indices 0-based.

    Attributes:
        mean: (3V,) shapeMU + expMU, micrometres, x y z interleaved.
        identity_basis: (3V,Ki) micrometres a unit of the raw coefficients (`Shape_Para`).
        identity_std: (Ki,) standard deviations of the raw coefficients.
        expression_basis: (3V,Ke) micrometres a unit of `Exp_Para`.
        expression_std: (Ke,).
        texture_mean: (3V,) red, green, blue interleaved, 0 to 255.
        texture_basis: (3V,Kt).
        texture_std: (Kt,).
        triangles: (T,3) int32 in the file's own winding.
        mouth_triangles: (M,3) int32; they close the mouth.
        landmark_index: (68,) int32.
        uv: (V,2) in [0,1], u right, v up.
        regions: name -> (V,) in [0,1], empty without BFM_info.mat.
    """

    mean: Floats
    identity_basis: Floats
    identity_std: Floats
    expression_basis: Floats
    expression_std: Floats
    texture_mean: Floats
    texture_basis: Floats
    texture_std: Floats
    triangles: NDArray[np.int32]
    mouth_triangles: NDArray[np.int32]
    landmark_index: NDArray[np.int32]
    uv: NDArray[np.float64]
    regions: dict[str, Floats] = field(default_factory=dict)

    @property
    def full_triangles(self) -> NDArray[np.int32]:
        """All triangles (T+M,3), the mouth's last."""
        return np.concatenate([self.triangles, self.mouth_triangles])

    def vertices(self, shape_para: NDArray[Any], exp_para: NDArray[Any]) -> Floats:
        """Return vertices (V,3), micrometres, for raw coefficients; missing trailing ones are 0."""
        identity = np.asarray(shape_para, np.float32).reshape(-1)
        expression = np.asarray(exp_para, np.float32).reshape(-1)
        vertices: Floats = self.mean + self.identity_basis[:, : len(identity)] @ identity
        vertices += self.expression_basis[:, : len(expression)] @ expression
        return np.asarray(vertices.reshape(-1, 3))


@dataclass(frozen=True)
class BFMPaths:
    """The three files of one model; the region file may be absent."""

    model: Path
    uv: Path
    info: Path


def find_bfm(root: str | Path) -> BFMPaths:
    """Find the files: `root` is BFM.mat itself or a folder with it (or with Out/BFM.mat).

    UV coordinates and regions lie beside the model: <stem>_UV.mat and <stem>_info.mat.

    Raises:
        FileNotFoundError: no model file; the message says where to get it.
    """
    root = Path(root)
    candidates = [root] if root.suffix == ".mat" else [root / "BFM.mat", root / "Out" / "BFM.mat"]
    for path in candidates:
        if path.is_file():
            return BFMPaths(
                path, path.with_name(f"{path.stem}_UV.mat"), path.with_name(f"{path.stem}_info.mat")
            )
    original = root / "01_MorphableModel.mat"
    note = (
        f" {original.name} is there: that is the untrimmed original without expressions."
        if original.is_file()
        else ""
    )
    tried = " or ".join(str(path) for path in candidates)
    raise FileNotFoundError(f"No BFM.mat: expected {tried}.{note} {_WHERE_MODEL}.")


def read_bfm(root: str | Path, uv_file: str | Path | None = None) -> BFMArrays:
    """Read the raw arrays of a BFM in face3d's layout.

    Args:
        root: see `find_bfm`.
        uv_file: UV coordinates that lie elsewhere.

    Raises:
        FileNotFoundError: no model file.
        ValueError: one message with everything that is missing, misshapen or out of range in any
            of the files.
    """
    paths = find_bfm(root)
    uv_path = paths.uv if uv_file is None else Path(uv_file)
    model, problems = _read_model(paths.model)
    vertices = len(model["shapeMU"]) // 3 if "shapeMU" in model else None
    uv, uv_problems = _read_uv(uv_path, vertices)
    regions, info_problems = _read_regions(paths.info, vertices)
    problems += uv_problems + info_problems
    if problems or uv is None:
        listing = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"BFM at {paths.model.parent} cannot be used:{listing}")
    indices = {name: model[name].astype(np.int32) - 1 for name in _INDEX_FIELDS}
    return BFMArrays(
        mean=(model["shapeMU"].astype(np.float64) + model["expMU"]).astype(np.float32),
        identity_basis=model["shapePC"],
        identity_std=model["shapeEV"],
        expression_basis=model["expPC"],
        expression_std=model["expEV"],
        texture_mean=model["texMU"],
        texture_basis=model["texPC"],
        texture_std=model["texEV"],
        triangles=np.ascontiguousarray(indices["tri"].T),
        mouth_triangles=np.ascontiguousarray(indices["tri_mouth"].T),
        landmark_index=indices["kpt_ind"],
        uv=uv,
        regions=regions,
    )


def _read_model(path: Path) -> tuple[dict[str, Floats], list[str]]:
    content = load_mat(path)
    if "model" not in content:
        found = ", ".join(sorted(content)) or "nothing"
        if len(np.atleast_1d(content.get("shapeMU", []))) == 3 * ORIGINAL_VERTICES:
            found += ": the untrimmed original of the Basel Face Model"
        return {}, [f"{path.name}: no struct 'model', found {found}. {_WHERE_MODEL}"]
    model = content["model"]
    if not isinstance(model, Mapping):
        return {}, [f"{path.name}: 'model' should be a struct, found {type(model).__name__}"]
    # float32 holds 1-based indices up to 16.7 million exactly.
    fields, problems = find_fields(model, _MODEL_FIELDS, np.float32)
    problems += _check_sizes(fields) + _check_indices(fields) + _check_scale(fields)
    return fields, [f"{path.name}: {problem}" for problem in problems]


def _check_sizes(model: Mapping[str, Floats]) -> list[str]:
    problems = []
    length = len(model["shapeMU"]) if "shapeMU" in model else None
    if length is not None and length % 3:
        problems.append(f"'shapeMU' should hold x, y, z of every vertex, found {length} values")
    for kind in ("shape", "exp", "tex"):
        mean, basis, std = (model.get(kind + part) for part in ("MU", "PC", "EV"))
        if length is not None and mean is not None and len(mean) != length:
            problems.append(f"'{kind}MU' should be ({length}, 1) like shapeMU, found {len(mean)}")
        if length is not None and basis is not None and len(basis) != length:
            problems.append(f"'{kind}PC' should have {length} rows, found {len(basis)}")
        if basis is not None and std is not None and basis.shape[1] != len(std):
            problems.append(
                f"'{kind}EV' should be ({basis.shape[1]}, 1) like the columns of {kind}PC, "
                f"found {len(std)}"
            )
    shape_std = model.get("shapeEV")
    if shape_std is not None and (np.diff(shape_std) > 1e-4 * shape_std.max()).any():
        problems.append("'shapeEV' should descend (standard deviations by mode)")
    return problems


def _check_indices(model: Mapping[str, Floats]) -> list[str]:
    problems = []
    vertices = len(model["shapeMU"]) // 3 if "shapeMU" in model else None
    for name in _INDEX_FIELDS:
        index = model.get(name)
        if index is None or not index.size:
            continue
        low, high = int(index.min()), int(index.max())
        if low < 1:
            problems.append(f"'{name}' should count from 1, found {low}: add 1 to every index")
        if vertices is not None and high > vertices:
            problems.append(f"'{name}' names vertex {high} of {vertices}")
    return problems


def _check_scale(model: Mapping[str, Floats]) -> list[str]:
    """The outer eye corners lie 60 to 130 mm apart; another number shows another unit."""
    if not {"shapeMU", "expMU", "kpt_ind"} <= model.keys():
        return []
    mean, index = model["shapeMU"], model["kpt_ind"].astype(np.int64) - 1
    if len(mean) % 3 or len(mean) != len(model["expMU"]):
        return []
    if index.min() < 0 or index.max() >= len(mean) // 3:
        return []
    points = (mean + model["expMU"]).reshape(-1, 3)[index]
    distance = float(np.linalg.norm(points[36] - points[45]))
    if 60e3 <= distance <= 130e3:
        return []
    for unit, factor in (("millimetres", 1e3), ("centimetres", 1e4), ("metres", 1e6)):
        if 60e3 <= distance * factor <= 130e3:
            return [f"in {unit}, not micrometres: multiply shape and exp by {factor:g}"]
    return [f"outer eye corners {distance:.4g} apart, expected about 90000 micrometres"]


def _read_uv(path: Path, vertices: int | None) -> tuple[NDArray[np.float64] | None, list[str]]:
    wanted = f"'UV' of shape ({vertices or 'V'}, 2)"
    if not path.is_file():
        return None, [f"{path} not found, expected {wanted}: {_WHERE_UV}"]
    try:
        fields, problems = find_fields(load_mat(path), {"UV": (None, 2)}, np.float64)
    except ValueError as error:
        return None, [str(error)]
    problems = [f"{path.name}: {problem}" for problem in problems]
    uv = fields.get("UV")
    if uv is None:
        return None, problems
    if vertices is not None and len(uv) != vertices:
        note = ""
        if (len(uv), vertices) == (ORIGINAL_VERTICES, TRIMMED_VERTICES):
            note = "; it is untrimmed: keep the rows that 'trimIndex' of 3DDFA's model_info names"
        problems.append(f"{path.name}: expected {wanted}, found {uv.shape}{note}")
    if uv.min() < -1e-6 or uv.max() > 1 + 1e-6:
        problems.append(
            f"{path.name}: 'UV' should lie in [0, 1], found [{uv.min():.4g}, {uv.max():.4g}]"
        )
    return uv, problems


def _read_regions(path: Path, vertices: int | None) -> tuple[dict[str, Floats], list[str]]:
    """Read `regions` (name -> weight a vertex) or, from the original file, the rows of `segbin`."""
    if not path.is_file():
        return {}, []
    try:
        info = load_mat(path).get("model_info")
    except ValueError as error:
        return {}, [str(error)]
    if not isinstance(info, Mapping):
        return {}, [f"{path.name}: no struct 'model_info'"]
    if isinstance(info.get("regions"), Mapping):
        length = vertices if vertices is not None else (None,)
        wanted = dict.fromkeys(info["regions"], length)
        regions, problems = find_fields(info["regions"], wanted, np.float32)
        return regions, [f"{path.name}: regions: {problem}" for problem in problems]
    fields, problems = find_fields(info, {"segbin": (4, vertices)}, np.float32)
    if problems:
        return {}, [f"{path.name}: {problem}" for problem in problems]
    return dict(zip(("nose", "eyes", "mouth"), fields["segbin"], strict=False)), []
