"""Displacements of a base mesh from calibrated photos (Xiao et al., AAAI 2022)."""

from lit_face.methods.uv_implicit.implicit import ImplicitSurface
from lit_face.methods.uv_implicit.module import UVImplicitModule
from lit_face.methods.uv_implicit.network import FeatureNet, ImplicitNetwork, SurfaceClassifier

__all__ = [
    "FeatureNet",
    "ImplicitNetwork",
    "ImplicitSurface",
    "SurfaceClassifier",
    "UVImplicitModule",
]
