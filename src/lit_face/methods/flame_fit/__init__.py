"""Photometric fitting of a head and a texture space to photos (FLAME's, and any other)."""

from lit_face.methods.flame_fit.predictor import FlameFit
from lit_face.methods.flame_fit.reference_predictor import ReferenceFit

__all__ = ["FlameFit", "ReferenceFit"]
