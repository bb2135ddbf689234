"""Embeddings of faces that tell people apart: aligned crops to features.

Every network maps (B,3,112,112) RGB in [-1,1], as `align_faces` makes them, to features (B,D) that
are not normalised; the cosine of two faces' features says how alike they are.
"""

from lit_face.identity.alignment import align_faces, feature_size, mask_faces
from lit_face.identity.arcface import ArcFaceResNet
from lit_face.identity.facenet import FaceNet
from lit_face.identity.small import SmallEmbedder
from lit_face.identity.state_files import load_weights, shipped_weights, weights_digest

__all__ = [
    "ArcFaceResNet",
    "FaceNet",
    "SmallEmbedder",
    "align_faces",
    "feature_size",
    "load_weights",
    "mask_faces",
    "shipped_weights",
    "weights_digest",
]
