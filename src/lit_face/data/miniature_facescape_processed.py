"""The FaceScape miniature, preprocessed, fitted and mapped by the real commands."""

from __future__ import annotations

import logging
from pathlib import Path

from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.facescape_maps import MapOptions, fit_base_meshes, write_maps
from lit_face.data.facescape_preparation import PreparationOptions, preprocess
from lit_face.data.miniature_facescape import SIZES, MiniatureSize, miniature_facescape
from lit_face.morphable_models.facescape import load_bilinear

log = logging.getLogger("lit_face")

DONE_FILE = "prepared.txt"
UV_SIZE = {"default": 128, "tiny": 32}  # side of the maps, texels


def processed_miniature(
    size: str = "default",
    uv_size: int | None = None,
    cache_folder: str | Path | None = None,
    workers: int = 1,
) -> FaceScapeFolder:
    """Return the processed folder of the miniature; the first call makes it (minutes).

    Args:
        size: 'default' or 'tiny', see `miniature_facescape`.
        uv_size: side of the maps, texels; None for 128, or 32.
        cache_folder: see `lit_face.io.files.cache_root`.
        workers: processes.
    """
    raw = miniature_facescape(size, cache_folder)
    chosen: MiniatureSize = SIZES[size]
    core = UV_SIZE[size] if uv_size is None else uv_size
    folder = FaceScapeFolder(raw.with_name(f"{raw.name}-processed-{core}"))
    if not (folder.root / DONE_FILE).is_file():
        log.info("Preparing the miniature of FaceScape in %s (once)", folder.root)
    preprocess(raw, folder.root, PreparationOptions(long_side=max(chosen.photo)), workers)
    fit_base_meshes(folder, load_bilinear(folder.predefined))
    write_maps(
        folder,
        workers=workers if workers > 1 else 0,
        options=MapOptions(size=2 * core),
        progress=lambda done, total, name: log.info(
            "FaceScape miniature: maps of %d of %d samples (%s)", done, total, name
        ),
    )
    (folder.root / DONE_FILE).write_text("The miniature is complete.\n", encoding="utf-8")
    return folder
