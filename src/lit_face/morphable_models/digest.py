"""A short name for the content of a model, for files that were made from it."""

from __future__ import annotations

import hashlib

from lit_face.morphable_models.base import MorphableModel

_PARTS = (
    "mean", "faces", "uv", "landmark_index", "identity_basis", "expression_basis", "identity_std",
    "expression_std", "albedo_mean", "albedo_basis",
)  # fmt: skip


def model_digest(model: MorphableModel) -> str:
    """Return ten hexadecimal digits that change with any number of the model."""
    digest = hashlib.sha256()
    for name in _PARTS:
        array = getattr(model, name).detach().cpu().contiguous().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array)
    return digest.hexdigest()[:10]
