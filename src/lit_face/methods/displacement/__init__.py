"""Mesoscopic displacement from facial textures (pix2pixHD generator, as FaceScape releases)."""

from lit_face.methods.displacement.module import DisplacementModule
from lit_face.methods.displacement.network import GlobalGenerator
from lit_face.methods.displacement.predictor import DisplacementPredictor

__all__ = ["DisplacementModule", "DisplacementPredictor", "GlobalGenerator"]
