"""The Basel Face Model from the user's copy, or its miniature from the procedural head."""

from __future__ import annotations

import logging
from pathlib import Path

from lit_face.io.files import cache_root
from lit_face.morphable_models.bfm import BFM, load_bfm, write_bfm
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import procedural_head

log = logging.getLogger(__name__)


def basel_face_model(root: str | Path | None = None) -> BFM:
    """Load BFM.mat and BFM_UV.mat.

    Args:
        root: folder that holds them (face3d's layout). None writes the procedural head in that
            layout into the cache, once, and reads it back with the same reader.

    Raises:
        FileNotFoundError, ValueError: what is missing or misshapen, field by field.
    """
    if root is not None:
        return load_bfm(root)
    head = procedural_head()
    folder = cache_root() / f"bfm-miniature-{model_digest(head)}"  # another head, another folder
    if not (folder / "BFM_info.mat").is_file():
        write_bfm(head, folder, truncate=True)
    return load_bfm(folder)
