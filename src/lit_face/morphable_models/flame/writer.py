"""Write any head in FLAME's formats, for the miniature and for tests."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.io.files import atomic_folder
from lit_face.io.obj import obj_text
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.flame.contour_table import (
    as_release,
    contour_table,
    vertex_embedding,
)
from lit_face.morphable_models.flame.files import EXPRESSION_START, EXPRESSIONS
from lit_face.morphable_models.flame.rig import plausible_rig
from lit_face.morphable_models.flame.side_files import MASKS_NAME, TEMPLATE_NAMES, TEXTURE_NAME
from lit_face.morphable_models.texture_space import texture_space_of
from lit_face.morphable_models.texture_space_files import save_texture_space

log = logging.getLogger(__name__)

WRITER_VERSION = 5  # another number, another folder of the miniature
_METRES = 1e-3
_MASKS = {
    "face": "face", "neck": "neck", "scalp": "scalp", "nose": "nose", "lips": "lips",
    "eye_region": "eyes",
}  # fmt: skip
_SIDED = {"eyeball": "eyeballs", "ear": "ears"}


def write_flame(
    model: MorphableModel,
    folder: str | Path,
    texture_size: int = 256,
    texture_components: int = 50,
) -> Path:
    """Write generic_model.pkl, its landmarks, template, masks and texture space.

    Identity and expression components that the model lacks, of 300 and 100, are zero. Neck, jaw
    and eyes are `rig.plausible_rig`'s, without pose correctives. Single precision.

    Args:
        model: any with 68 landmarks and texture coordinates.
        folder: is created; an existing one stays as it is.
        texture_size: side of the texture space; FLAME's is 512.
        texture_components: leading colour components.
    """
    log.info("Writing a head in FLAME's formats into %s", folder)
    with atomic_folder(folder) as temporary:
        _write_pickle(temporary / "generic_model.pkl", _model(model), 2)
        _write_embedding(model, temporary / "landmark_embedding.npy")
        _write_pickle(temporary / MASKS_NAME, _masks(model), 0)
        vertices = model.mean.cpu().numpy() * np.float32(_METRES)
        text = obj_text(vertices, model.faces.cpu().numpy(), model.uv.cpu().numpy())
        (temporary / TEMPLATE_NAMES[0]).write_text(text)
        space = texture_space_of(model, texture_size, texture_components)
        save_texture_space(temporary / TEXTURE_NAME, space, model.uv, model.faces)
    return Path(folder)


def _model(model: MorphableModel) -> dict[str, Any]:
    weights, regressor = plausible_rig(model)
    mean = model.mean.cpu().numpy() * np.float32(_METRES)
    directions = np.zeros((len(mean), 3, EXPRESSION_START + EXPRESSIONS), np.float32)
    bases = (
        (0, model.identity_basis[..., :EXPRESSION_START]),
        (
            EXPRESSION_START,
            model.expression_basis[..., :EXPRESSIONS],
        ),
    )
    for start, basis in bases:
        directions[..., start : start + basis.shape[2]] = basis.cpu().numpy() * _METRES
    return {
        "v_template": mean,
        "f": model.faces.cpu().numpy().astype(np.uint32),
        "shapedirs": directions,
        "posedirs": np.zeros((len(mean), 3, 36), np.float32),
        "J_regressor": regressor,
        "J": regressor @ mean,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], range(5)], np.uint32),
        "weights": weights,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def _write_embedding(model: MorphableModel, path: Path) -> None:
    vertices, faces = model.mean.detach().cpu().float(), model.faces.cpu()
    index, weights = vertex_embedding(model.landmark_index.cpu(), faces)
    rows, row_weights = contour_table(vertices, faces, model.landmark_index.cpu())
    embedding = {
        "static_faces": index[17:], "static_weights": weights[17:],
        "dynamic_faces": rows, "dynamic_weights": row_weights,
        "full_faces": index, "full_weights": weights,
    }  # fmt: skip
    held = np.empty((), dtype=object)
    held[()] = as_release(embedding)
    np.save(path, held, allow_pickle=True)


def _masks(model: MorphableModel) -> dict[str, NDArray[np.int64]]:
    regions, left = model.regions, (model.mean[:, 0] > 0).cpu()
    masks = {name: regions[key].cpu() > 0.5 for name, key in _MASKS.items() if key in regions}
    for name, key in _SIDED.items():
        if key in regions:
            inside = regions[key].cpu() > 0.5
            masks |= {f"left_{name}": inside & left, f"right_{name}": inside & ~left}
    return {name: torch.nonzero(mask)[:, 0].numpy() for name, mask in masks.items()}


def _write_pickle(path: Path, content: object, protocol: int) -> None:
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol)
