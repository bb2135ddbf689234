"""Read what lies beside FLAME's model: landmarks, texture coordinates, vertex sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.io.obj import read_obj
from lit_face.io.unpickling import read_npy, read_npz, read_pickle
from lit_face.morphable_models.flame.files import WHERE, to_tensor

Array = NDArray[Any]

TEMPLATE_NAMES = ("head_template_mesh.obj", "head_template.obj")
TEXTURE_NAME, MASKS_NAME = "FLAME_texture.npz", "FLAME_masks.pkl"


def find_embedding(folder: Path) -> dict[str, Tensor]:
    """Read the landmark embedding of a folder; see `read_embedding`.

    Raises:
        FileNotFoundError: names the files that would do.
    """
    for name in ("landmark_embedding.npy", "landmark_embedding.npz"):
        if (folder / name).is_file():
            return read_embedding(folder / name)
    static, dynamic = folder / "flame_static_embedding.pkl", folder / "flame_dynamic_embedding.npy"
    if static.is_file() and dynamic.is_file():
        return read_embedding(static, dynamic)
    raise FileNotFoundError(
        f"No landmarks of FLAME: expected {folder / 'landmark_embedding.npy'} (or smplx's pair "
        f"{static.name} and {dynamic.name}) in morphable_model.root; {WHERE}."
    )


def read_embedding(path: str | Path, dynamic: str | Path | None = None) -> dict[str, Tensor]:
    """Read where landmarks lie on the mesh; names as in `landmarks.LandmarkEmbedding`.

    Without a fixed contour ('full_*', which smplx's files lack) that of a frontal view counts.

    Args:
        path: landmark_embedding.npy or .npz, or smplx's flame_static_embedding.pkl.
        dynamic: smplx's flame_dynamic_embedding.npy.

    Raises:
        ValueError: names the file and what is wrong.
    """
    path = Path(path)
    raw = _read_any(path)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} should hold a dictionary, found {type(raw).__name__}.")
    parts = dict(raw)
    if dynamic is not None:
        parts = _smplx_parts(parts, _read_any(Path(dynamic)), path)
    kinds = {"static": (51,), "dynamic": (79, 17), "full": (68,)}
    found: dict[str, Tensor] = {}
    for kind, shape in kinds.items():
        keys = (f"{kind}_lmk_faces_idx", f"{kind}_lmk_bary_coords")
        if kind == "full" and keys[0] not in parts:
            for name in ("faces", "weights"):
                pair = found[f"dynamic_{name}"][0], found[f"static_{name}"]
                found[f"full_{name}"] = torch.cat(pair)
            continue
        missing = [key for key in keys if key not in parts]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(map(str, parts)))}."
            )
        index, weights = (np.asarray(parts[key]) for key in keys)
        if kind == "full":
            index, weights = index.reshape(-1), weights.reshape(-1, 3)
        if index.shape != shape or weights.shape != (*shape, 3) or index.dtype.kind not in "iu":
            raise ValueError(
                f"{path}: '{keys[0]}' should be {shape} whole numbers and '{keys[1]}' "
                f"{(*shape, 3)}, found {index.shape} {index.dtype} and {weights.shape}."
            )
        if np.abs(weights.sum(-1) - 1).max() > 1e-2 or not np.isfinite(weights).all():
            raise ValueError(f"{path}: rows of '{keys[1]}' should sum to 1.")
        found[f"{kind}_faces"] = to_tensor(index, torch.int64)
        found[f"{kind}_weights"] = to_tensor(weights, torch.float32)
    return found


def check_embedding(embedding: Mapping[str, Tensor], faces: int) -> None:
    """Refuse an embedding that names faces the mesh lacks.

    Raises:
        ValueError: it belongs to another mesh.
    """
    top = max(int(v.max()) for k, v in embedding.items() if k.endswith("faces"))
    low = min(int(v.min()) for k, v in embedding.items() if k.endswith("faces"))
    if top >= faces or low < 0:
        raise ValueError(
            f"the landmark embedding names the face {top if top >= faces else low}, but the model "
            f"has {faces}: they do not belong together."
        )


def find_layout(folder: Path, faces: Tensor, vertices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read texture coordinates; a vertex on a seam becomes several.

    Returns:
        Coordinates (W,2), faces (F,3) of the split mesh, and the model's vertex (W,) of each.

    Raises:
        FileNotFoundError: names the files that would do.
        ValueError: the file belongs to another mesh.
    """
    texture = folder / TEXTURE_NAME
    if texture.is_file():
        with np.load(texture, allow_pickle=False) as stored:
            if "vt" in stored.files and "ft" in stored.files:
                return split_seams(
                    to_tensor(stored["vt"], torch.float32), stored["ft"], faces, texture
                )
    for name in TEMPLATE_NAMES:
        if (folder / name).is_file():
            return _template_layout(folder / name, faces, vertices)
    raise FileNotFoundError(
        f"No texture coordinates of FLAME: expected {folder / TEMPLATE_NAMES[0]} (or "
        f"{TEMPLATE_NAMES[1]}, or {TEXTURE_NAME} with 'vt' and 'ft') in morphable_model.root; "
        f"{WHERE}."
    )


def split_seams(vt: Tensor, ft: Array, faces: Tensor, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Give each pair of vertex and texture coordinate a vertex of its own; see `find_layout`."""
    corners = torch.from_numpy(ft.astype(np.int64))
    if corners.shape != faces.shape or int(corners.max()) >= len(vt):
        raise ValueError(
            f"{path} belongs to another mesh: 'ft' {tuple(corners.shape)} for {len(faces)} faces."
        )
    pairs, inverse = (
        torch.stack([faces, corners], -1).view(-1, 2).unique(dim=0, return_inverse=True)
    )
    return vt[pairs[:, 1]], inverse.view(-1, 3), pairs[:, 0]


def _template_layout(path: Path, faces: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    data = read_obj(path)
    if data.uv is None or data.faces.shape != tuple(faces.shape):
        raise ValueError(
            f"{path} should have texture coordinates and the model's {len(faces)} faces; found "
            f"{len(data.faces)} faces and {'no' if data.uv is None else 'some'} coordinates."
        )
    split = torch.from_numpy(data.faces)
    origin = torch.arange(len(data.vertices))
    origin[split] = faces
    same = split < count
    if int(origin.max()) >= count or not torch.equal(split[same], faces[same]):
        raise ValueError(f"{path} has other faces than the model: it belongs to another mesh.")
    return torch.from_numpy(data.uv).float(), split, origin


def read_masks(folder: Path, vertices: int) -> dict[str, Tensor]:
    """Read FLAME_masks.pkl, if it is there: name -> (N,) int64 vertices.

    Raises:
        ValueError: names vertices that the model lacks.
    """
    path = folder / MASKS_NAME
    if not path.is_file():
        return {}
    raw = read_pickle(path)
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} should hold a dictionary of vertex lists.")
    masks = {str(name): to_tensor(np.asarray(index), torch.int64) for name, index in raw.items()}
    top = max((int(index.max()) for index in masks.values() if len(index)), default=0)
    if top >= vertices:
        raise ValueError(f"{path} names vertex {top}, but the model has {vertices}.")
    return masks


def _smplx_parts(static: Mapping[str, Any], dynamic: object, path: Path) -> dict[str, Any]:
    if not isinstance(dynamic, Mapping):
        raise ValueError(f"the dynamic embedding beside {path} should hold a dictionary.")
    return {
        f"{kind}_{name}": source[key]
        for kind, source in (("static", static), ("dynamic", dynamic))
        for name, key in (("lmk_faces_idx", "lmk_face_idx"), ("lmk_bary_coords", "lmk_b_coords"))
        if key in source
    }


def _read_any(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; {WHERE}.")
    reader = {".npy": read_npy, ".npz": read_npz, ".pkl": read_pickle}.get(path.suffix)
    if reader is None:
        raise ValueError(f"{path} should be a .npy, .npz or .pkl file.")
    return reader(path)
