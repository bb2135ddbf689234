"""Small closed meshes for tests."""

import torch
import trimesh


def sphere(radius=1.0, subdivisions=4, dtype=torch.float64):
    """Vertices (V,3) and faces (F,3), counter-clockwise seen from outside."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.tensor(mesh.vertices, dtype=dtype), torch.tensor(mesh.faces, dtype=torch.int64)
