"""Write the face of any head model in the formats of FaceScape's bilinear model v1.0."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.geometry.meshes import subset_mesh
from lit_face.geometry.uv_template import core_window, rasterize_template
from lit_face.io.files import atomic_folder
from lit_face.io.images import write_image
from lit_face.io.obj import obj_text
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger(__name__)

WRITER_VERSION = 1  # another number, another folder of the miniature
IDENTITIES, EXPRESSIONS = 24, 22
MASK_SIZE = 512
_MARGIN = 0.06  # of the core window, free around the face
_ERODED = 5  # texels of 512: the mask ends two before the face does
_SMALL_MODE = 2.0  # standard deviations that are taken for a full expression


@dataclass(frozen=True, eq=False)
class FaceTemplate:
    """The face of a head model, without eyeballs and the inside of the mouth.

    Attributes:
        vertex: (V,) int64 the model's vertex of each.
        faces: (F,3) int64.
        uv: (V,2), the face's box in the core window.
        landmark_index: (68,) int64.
        scale: (2,) and
        shift: (2,): uv of the template = the model's * scale + shift.
    """

    vertex: Tensor
    faces: Tensor
    uv: Tensor
    landmark_index: Tensor
    scale: Tensor
    shift: Tensor

    def head_uv(self, model: MorphableModel) -> Tensor:
        """Return the template's layout, carried on over the whole head (Vhead,2)."""
        return model.uv * self.scale + self.shift


def face_template(model: MorphableModel) -> FaceTemplate:
    """Cut the face out of a head model and lay its UV out in the core window.

    Raises:
        ValueError: the model has no region 'face', or landmarks outside of it.
    """
    if "face" not in model.regions:
        raise ValueError(f"The model '{model.name}' has no region 'face'; use the built-in head.")
    inside = sum(model.regions.get(name, model.uv.new_zeros(len(model.uv))) for name in _HOLES)
    is_kept = (model.regions["face"][model.faces] > 0.5).all(1)
    is_kept &= ~(torch.as_tensor(inside)[model.faces] > 0.5).any(1)
    used = torch.zeros(len(model.uv), dtype=torch.bool)
    used[model.faces[is_kept]] = True
    if not used[model.landmark_index].all():
        raise ValueError(f"The face of the model '{model.name}' lacks some of its landmarks.")
    vertex = subset_mesh(model.faces, used)[1]
    new_index = used.long().cumsum(0) - 1
    scale, shift = _into_window(model.uv[vertex])
    return FaceTemplate(
        vertex=vertex,
        faces=new_index[model.faces[is_kept]],
        uv=model.uv[vertex] * scale + shift,
        landmark_index=new_index[model.landmark_index],
        scale=scale,
        shift=shift,
    )


_HOLES = ("eyeballs", "mouth_interior")


def write_bilinear(
    model: MorphableModel,
    folder: Path,
    identities: int = IDENTITIES,
    expressions: int = EXPRESSIONS,
) -> None:
    """Write core_*.npy, factor_*.json, 1_neutral.obj and facial_mask.png.

    The core is additive: entry [0, e] is the mean face with expression e at its full weight, entry
    [i, e] identity mode i of one standard deviation, whatever e.

    Args:
        model: head model with a region 'face'.
        folder: is created; an existing one stays as it is.
        identities: leading modes of the model to keep; the mean comes on top.
        expressions: strongest expressions to keep; the neutral one comes on top.
    """
    template = face_template(model)
    with atomic_folder(folder) as temporary:
        core = _core(model, template, identities, expressions)
        name = f"built_in_{core.shape[0]}_{core.shape[1]}"
        np.save(temporary / f"core_{name}.npy", core, allow_pickle=False)
        (temporary / f"factor_{name}.json").write_text(json.dumps(_factors(template, len(core))))
        vertices = model.mean[template.vertex].numpy()
        text = obj_text(vertices, template.faces.numpy(), template.uv.numpy())
        (temporary / "1_neutral.obj").write_text(text, encoding="utf-8")
        write_image(temporary / "facial_mask.png", face_mask(template, MASK_SIZE))


def face_mask(template: FaceTemplate, size: int) -> NDArray[np.uint8]:
    """Return the mask (S,S) of the face in UV, 0 or 255, ending a little before the face does."""
    faces = template.faces.numpy()
    texels = rasterize_template(template.uv.numpy(), faces, faces, size)
    mask = np.zeros((size, size), np.uint8)
    mask[texels.rows, texels.columns] = 255
    width = max(3, round(_ERODED * size / MASK_SIZE))
    return np.asarray(cv2.erode(mask, np.ones((width, width), np.uint8)), np.uint8)


def full_expressions(model: MorphableModel) -> Tensor:
    """Return offsets (V,3,E) of a head model's expressions at their full weight, mm."""
    named = getattr(model, "named_expression", None)
    if named is not None:
        codes = [
            named(name) for name in getattr(model, "expression_names", ()) if name != "neutral"
        ]
        return model.expression_basis @ torch.stack(codes, dim=1)
    if len(getattr(model, "expression_names", ())) == model.expression_size:
        return model.expression_basis / model.expression_std  # shapes of weight 0 to 1
    return model.expression_basis * _SMALL_MODE


def _core(
    model: MorphableModel, template: FaceTemplate, identities: int, expressions: int
) -> NDArray[np.float32]:
    offsets = full_expressions(model)[template.vertex].flatten(0, 1)
    strongest = offsets.norm(dim=0).argsort(descending=True)[:expressions].sort().values
    modes = model.identity_basis[template.vertex].flatten(0, 1)[:, :identities]
    mean = model.mean[template.vertex].flatten()
    core = torch.zeros(1 + modes.shape[1], 1 + len(strongest), len(mean))
    core[0] = mean
    core[0, 1:] += offsets[:, strongest].mT
    core[1:] = modes.mT[:, None]
    return core.numpy()


def _factors(template: FaceTemplate, identities: int) -> dict[str, Any]:
    first = np.eye(1, identities)[0]
    points = 3 * template.landmark_index.numpy()[:, None] + np.arange(3)
    return {
        "id_mean": first.tolist(),
        "id_var": np.where(first > 0, 1e-4, 1.0).tolist(),
        "factors_id_0": first.tolist(),
        "lm_index_full": points.flatten().tolist(),
        "faces": (template.faces.numpy() + 1).tolist(),
    }


def _into_window(uv: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the box of uv into the core window, with a margin."""
    rows, columns = core_window(MASK_SIZE)
    low = torch.tensor([columns.start, MASK_SIZE - rows.stop]) / MASK_SIZE
    high = torch.tensor([columns.stop, MASK_SIZE - rows.start]) / MASK_SIZE
    low, high = low + _MARGIN * (high - low), high - _MARGIN * (high - low)
    bottom, top = uv.amin(0), uv.amax(0)
    scale = (high - low) / (top - bottom)
    return scale, low - bottom * scale
