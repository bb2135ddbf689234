"""Refinement of a face's colours by a network over its mesh (Lin et al. 2020)."""

from lit_face.methods.gcn.critic import ImageCritic
from lit_face.methods.gcn.generator import GeneratedColours, MeshGenerator

__all__ = ["GeneratedColours", "ImageCritic", "MeshGenerator"]
