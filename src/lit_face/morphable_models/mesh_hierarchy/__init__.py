"""Coarser and coarser versions of a mesh, for networks that pool and unpool vertices."""

from lit_face.morphable_models.mesh_hierarchy.adjacency import EdgeWeights
from lit_face.morphable_models.mesh_hierarchy.decimation import Decimation
from lit_face.morphable_models.mesh_hierarchy.hierarchy import (
    MeshHierarchy,
    build_hierarchy,
    mesh_hierarchy,
)
from lit_face.morphable_models.mesh_hierarchy.upsampling import Upsampling

__all__ = [
    "Decimation",
    "EdgeWeights",
    "MeshHierarchy",
    "Upsampling",
    "build_hierarchy",
    "mesh_hierarchy",
]
