"""A small folder of albedo maps as fits of photos leave them, with the whole maps beside it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_face.data.miniature import write_marker
from lit_face.data.miniature_ffhq import aligned_cameras, plan_pictures
from lit_face.data.miniature_people import PeoplePlan, people
from lit_face.data.photographs.texture import MOTTLE, noise_at
from lit_face.data.random import normal, uniform
from lit_face.data.texture_maps import HELD_OUT_FILE, TRUTH_FOLDER, TextureMap, write_texture_map
from lit_face.geometry.precision import fp32_region
from lit_face.io.files import atomic_folder, atomic_write, cache_root
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import ProceduralHead, procedural_head
from lit_face.morphable_models.texture_space import texture_space_of
from lit_face.rendering.texture_extraction import TexelGeometry, TextureExtractor, extractor_of

log = logging.getLogger("lit_face")

VERSION = 1
MAP_SIZE = 256
_SEED = 2048
_PICTURE = 256
_BATCH = 16
_HAIRY = 0.6  # share of maps whose scalp is under hair
_MOTTLING = 0.03  # of the albedo, standard deviation
_HAIR, _OFFSET = 620, 621


def miniature_texture_maps(count: int = 400, cache_folder: str | Path | None = None) -> Path:
    """Return the folder of the miniature, writing it on first use.

    Maps of the built-in head with mottled skin, one a person but for a tenth held out: the people
    to validate on are in no training map. Each is visible from one pose as in FFHQ's miniature;
    of most the scalp is under hair.
    `truth/<name>.npz` has the whole `map`; nothing but evaluation may read it.

    Args:
        count: number of maps, at least 16.
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        ValueError: fewer than 16 maps.
    """
    plan = plan_pictures(count)
    head = procedural_head()
    folder = cache_root(cache_folder) / "miniatures"
    folder = folder / f"texture-maps-v{VERSION}-{model_digest(head)}-{count}"
    if not folder.is_dir():
        log.info("Writing the miniature of texture maps, %d maps, to %s (once)", count, folder)
        with atomic_folder(folder) as temporary:
            write_maps(temporary, head, plan)
    return folder


@torch.no_grad()
@fp32_region()
def write_maps(folder: Path, model: ProceduralHead, plan: PeoplePlan) -> None:
    """Write the miniature into a folder; see `miniature_texture_maps`."""
    space = texture_space_of(model, MAP_SIZE)
    extractor = extractor_of(model.uv, model.faces, model.map_faces, MAP_SIZE)
    scalp = extractor.resampling(model.regions["scalp"][:, None])[0]
    for rows in torch.arange(len(plan.person)).split(_BATCH):
        keys = plan.picture_keys[rows]
        coefficients = people(model, plan.person[rows], plan.held_out[rows])
        maps = mottled(space(coefficients["albedo"]), keys).clamp(0, 1)
        found = _located(model, extractor, coefficients["identity"], keys)
        is_hairy = uniform(keys, _HAIR) < _HAIRY
        visible = found.visible[:, 0] & ~(is_hairy[:, None, None] & (scalp > 0.3))
        colors = (maps * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        seen = visible.numpy()
        confidence = (found.confidence[:, 0] * 255).round().to(torch.uint8).numpy()
        for place, row in enumerate(rows.tolist()):
            shown = np.where(seen[place][..., None], colors[place], 0).astype(np.uint8)
            texture = TextureMap(shown, seen[place], confidence[place])
            write_texture_map(folder / f"{row:05d}" / "uv.npz", texture)
            with atomic_write(folder / TRUTH_FOLDER / f"{row:05d}.npz") as temporary:
                np.savez_compressed(temporary, map=colors[place])
    held_out = plan.held_out.nonzero()[:, 0].tolist()
    names = "".join(f"{row:05d}\n" for row in held_out)
    (folder / HELD_OUT_FILE).write_text(names, encoding="utf-8")
    write_marker(
        folder, "texture maps", _SEED, model=model.name, digest=model_digest(model)
    )  # fmt: skip


def mottled(maps: Tensor, keys: Tensor) -> Tensor:
    """Give maps (B,3,S,S) the mottled skin of the procedural photographs, by keys (B,)."""
    size = maps.shape[-1]
    offset = uniform(keys, _OFFSET, 2, high=256.0)[:, :, None, None]
    place = torch.arange(size).float() * (260 / size)
    x, y = place + offset[:, 0], place[:, None] + offset[:, 1]
    noise = noise_at(MOTTLE, x.expand(-1, size, -1), y.expand(-1, -1, size))
    return maps * (1 + _MOTTLING * noise[:, None])


def _located(
    model: ProceduralHead, extractor: TextureExtractor, identity: Tensor, keys: Tensor
) -> TexelGeometry:
    """See people in neutral expression as FFHQ's miniature does."""
    vertices = model(identity, 0.3 * normal(keys, _HAIR + 2, model.expression_size))
    camera = aligned_cameras(keys, model.landmarks(vertices))
    found: TexelGeometry = extractor.locate(camera.project(vertices), (_PICTURE, _PICTURE))
    return found
