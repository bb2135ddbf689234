"""lit_face: learn 3D faces from images. Importing it is light: no torch, no global state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_face._compat import arm_torchvision_repair

if TYPE_CHECKING:
    from lit_face.inference.model import FaceModel

__version__ = "0.1.0"

arm_torchvision_repair()


def load(path: str | Path, device: str = "auto", **options: Any) -> FaceModel:
    """Load a trained model for use: `lit_face.load(FILE).reconstruct(photos)`.

    See `lit_face.inference.loading.load` for what `path` may be and for the options.
    """
    from lit_face.inference.loading import load as load_model

    return load_model(path, device, **options)
