"""Photometric fitting of a head and a texture space to photos (FLAME's, and any other)."""

from lit_face.methods.flame_fit.predictor import FlameFit

__all__ = ["FlameFit"]
