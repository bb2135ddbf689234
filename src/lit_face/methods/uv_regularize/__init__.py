"""Smooth displacements from the cost volumes of uv_implicit (Xiao et al., AAAI 2022)."""

from lit_face.methods.uv_regularize.module import UVRegularizeModule
from lit_face.methods.uv_regularize.network import PlainRegularizer, UNetRegularizer

__all__ = ["PlainRegularizer", "UNetRegularizer", "UVRegularizeModule"]
