"""Colours of a mesh, refined from the photo by a graph network (Lin et al. 2020)."""

from lit_face.methods.gcn.critic import ImageCritic
from lit_face.methods.gcn.generator import MeshGenerator
from lit_face.methods.gcn.module import GCNModule

__all__ = ["GCNModule", "ImageCritic", "MeshGenerator"]
