"""FaceScape's bilinear models, and the built-in head in their formats."""

from lit_face.morphable_models.facescape.bilinear import Bilinear
from lit_face.morphable_models.facescape.model import FaceScape, facescape, load_bilinear

__all__ = ["Bilinear", "FaceScape", "facescape", "load_bilinear"]
