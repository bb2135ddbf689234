"""FaceScape's bilinear model as an object, and the reader of v1.0's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.images import read_image
from lit_face.io.obj import read_obj_topology

Array = NDArray[Any]

TEMPLATE_FILE, MASK_FILE = "1_neutral.obj", "facial_mask.png"
LANDMARKS = 68


@dataclass(frozen=True, eq=False)
class Bilinear:
    """A bilinear head model: vertices = core . identity . expression, mm.

    Attributes:
        core: (3V,E,I) float32; expression 0 is neutral, the others are offsets from it (residual
            form): `expression` is (1, weights in [0,1]).
        id_mean: (I,) and
        id_var: (I,) of the population.
        start: (I,) where fits begin.
        landmark_index: (68,) int64 vertices.
        faces: (F,3) int64.
        uv: (U,2), u right, v up.
        faces_uv: (F,3) int64 rows of `uv`.
        mask: (S,S) bool the face in UV, row 0 at v = 1; None where no file says.
        name: with the file's.
    """

    core: Tensor
    id_mean: Tensor
    id_var: Tensor
    start: Tensor
    landmark_index: Tensor
    faces: Tensor
    uv: Tensor
    faces_uv: Tensor
    mask: Tensor | None
    name: str

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Return vertices (B,V,3), mm.

        Args:
            identity: (B,I) weights of the core, not standard deviations.
            expression: (B,E), the first of them 1.
        """
        by_person = torch.einsum("nei,bi->bne", self.core, identity.to(self.core))
        found = (by_person @ expression.to(self.core)[:, :, None])[..., 0]
        return found.view(len(identity), -1, 3)


def read_bilinear(folder: Path) -> Bilinear:
    """Read core_*.npy, factor_*.json and 1_neutral.obj of a folder; facial_mask.png if there.

    Raises:
        FileNotFoundError: names the missing file.
        ValueError: arrays that do not fit each other, by file and key.
    """
    core_path = single(folder, "core_*.npy", "core_847_50_52.npy")
    factor_path = single(folder, "factor_*.json", "factor_847_50_52.json")
    template_path = single(folder, TEMPLATE_FILE, TEMPLATE_FILE)
    raw = np.load(core_path, mmap_mode="r", allow_pickle=False)
    if raw.ndim != 3 or raw.shape[2] % 3 or not np.issubdtype(raw.dtype, np.floating):
        raise ValueError(
            f"{core_path}: the core should be floats (identities, expressions, 3 x vertices), "
            f"found {raw.shape} {raw.dtype}."
        )
    try:
        factors = json.loads(factor_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{factor_path}: broken JSON ({error}).") from error
    identities, vertices = raw.shape[0], raw.shape[2] // 3
    id_mean, id_var, start = (
        vector(factors, key, identities, factor_path, core_path)
        for key in ("id_mean", "id_var", "factors_id_0")
    )
    check_variance(id_var, factor_path)
    template = read_obj_topology(template_path)
    if len(template.vertices) != vertices:
        raise ValueError(
            f"{template_path} has {len(template.vertices)} vertices, but {core_path.name} has "
            f"{vertices} (its last axis, {raw.shape[2]}, over 3): files of two versions?"
        )
    if not len(template.faces) or template.faces_uv.min() < 0:
        raise ValueError(f"{template_path}: every corner needs a texture coordinate (f v/vt ...).")
    faces = np.asarray(factors.get("faces", template.faces + 1)) - 1
    if faces.shape != template.faces.shape or not (faces == template.faces).all():
        faces = template.faces  # other triangles of the same vertices: the template has UV
    return Bilinear(
        core=residual(raw, core_path),
        id_mean=id_mean,
        id_var=id_var,
        start=start,
        landmark_index=_landmarks(factors, vertices, factor_path),
        faces=torch.from_numpy(faces.astype(np.int64)),
        uv=torch.from_numpy(template.uv).float(),
        faces_uv=torch.from_numpy(template.faces_uv),
        mask=read_mask(folder / MASK_FILE),
        name=f"facescape-{core_path.stem.removeprefix('core_')}",
    )


def residual(raw: Array, path: Path) -> Tensor:
    """Return the core (3V,E,I) of a file's (I,E,3V): expressions as offsets from the first."""
    core = np.array(raw, dtype=np.float32)
    if not np.isfinite(core).all():
        raise ValueError(f"{path}: the core has values that are not finite.")
    core[:, 1:] -= core[:, :1]
    return torch.from_numpy(core).permute(2, 1, 0)


def single(folder: Path, pattern: str, example: str) -> Path:
    """Find the one file of a pattern.

    Raises:
        FileNotFoundError: none.
        ValueError: several.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"{folder / pattern} is missing ({example} in the release); see "
            "docs/data/facescape.md for FaceScape's bilinear model."
        )
    if len(found) > 1:
        raise ValueError(f"{folder}: one file {pattern} is expected, found {len(found)}.")
    return found[0]


def vector(content: Mapping[str, Any], key: str, count: int, path: Path, other: Path) -> Tensor:
    """Return `count` finite numbers of a key; `other` is the file that says how many."""
    if key not in content:
        raise ValueError(f"{path}: no key '{key}', found {', '.join(sorted(content))}.")
    try:
        values = np.asarray(content[key], dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: '{key}' should be numbers ({error}).") from error
    if len(values) != count:
        raise ValueError(
            f"{path}: '{key}' should have {count} numbers, as {other.name} has identities; "
            f"found {len(values)}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: '{key}' has values that are not finite.")
    return torch.from_numpy(values).float()


def check_variance(id_var: Tensor, path: Path) -> None:
    """Refuse variances that are not positive."""
    if not (id_var > 0).all():
        raise ValueError(
            f"{path}: 'id_var' should be positive, found {float(id_var.min()):.4g}; files got "
            "before December 2021 have wrong ones."
        )


def read_mask(path: Path) -> Tensor | None:
    """Read a UV mask (S,S), or None without a file."""
    if not path.is_file():
        return None
    pixels = read_image(path)
    if pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"{path}: the mask should be square, found {pixels.shape[:2]}.")
    return torch.from_numpy(pixels[..., 0] > 127)


def _landmarks(factors: Mapping[str, Any], vertices: int, path: Path) -> Tensor:
    flat = np.asarray(factors.get("lm_index_full", ()), dtype=np.float64).reshape(-1)
    points = flat.reshape(-1, 3) if len(flat) == 3 * LANDMARKS else np.full((1, 3), -1.0)
    in_threes = (points == points[:, :1] + np.arange(3)).all() and not (points[:, 0] % 3).any()
    if not in_threes or points.min() < 0 or points.max() >= 3 * vertices:
        raise ValueError(
            f"{path}: 'lm_index_full' should be {3 * LANDMARKS} flat indices, x, y, z of 68 of the "
            f"{vertices} vertices; found {len(flat)} numbers"
            + (f" up to {flat.max():g}." if len(flat) else ".")
        )
    return torch.from_numpy((points[:, 0] // 3).astype(np.int64))
