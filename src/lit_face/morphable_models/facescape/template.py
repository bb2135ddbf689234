"""The template and the mask that UV maps need, from a bilinear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_face.geometry.uv_template import rasterize_template
from lit_face.io.files import atomic_write, cache_root
from lit_face.io.images import write_image
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.facescape.bilinear import MASK_FILE, TEMPLATE_FILE, Bilinear
from lit_face.morphable_models.facescape.model import FaceScape, load_bilinear
from lit_face.morphable_models.facescape.writer import WRITER_VERSION, write_bilinear

_MASK_SIZE = 512


def bilinear_of(model: MorphableModel) -> Bilinear:
    """Return a model's bilinear form; a linear model's face is written as one into the cache, once.

    Raises:
        ValueError: a linear model without a region 'face'.
    """
    if isinstance(model, FaceScape):
        return model.bilinear
    folder = cache_root() / f"bilinear-{WRITER_VERSION}-{model_digest(model)}"
    if not folder.is_dir():
        write_bilinear(model, folder)
    return load_bilinear(folder)


def write_template(bilinear: Bilinear, folder: Path) -> None:
    """Write `1_neutral.obj` and `facial_mask.png` of a bilinear model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mean = (bilinear.core[:, 0] @ bilinear.id_mean).view(-1, 3)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mean.tolist()]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in bilinear.uv.tolist()]
    corners = np.stack([bilinear.faces.numpy(), bilinear.faces_uv.numpy()], axis=-1) + 1
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in face) for face in corners.tolist()]
    with atomic_write(folder / TEMPLATE_FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_mask(bilinear, folder / MASK_FILE)


def write_mask(bilinear: Bilinear, path: Path) -> None:
    """Write a model's own mask of the face in UV, or all that its triangles cover, as a picture."""
    if bilinear.mask is not None:
        write_image(path, bilinear.mask.numpy().astype(np.uint8) * 255)
        return
    texels = rasterize_template(
        bilinear.uv.double().numpy(), bilinear.faces_uv.numpy(), bilinear.faces.numpy(), _MASK_SIZE
    )
    mask = np.zeros((_MASK_SIZE, _MASK_SIZE), np.uint8)
    mask[texels.rows, texels.columns] = 255
    write_image(path, mask)
