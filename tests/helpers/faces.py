"""Small labelled faces for tests, rendered from the procedural head."""

from functools import cache

import torch

from lit_face.data.landmarks import project_landmarks
from lit_face.data.random import sample_keys
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.renderer import RasterRenderer
from lit_face.types import FaceBatch


@cache
def head():
    return procedural_head()


def cameras(count, size, seed=0, yaw_deg=60.0):
    """Orthographic cameras whose faces fill about 1 / 1.6 of a square image."""
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(count, 3, generator=generator) * torch.tensor([0.15, 0.0, 0.15])
    angles[:, 1] = torch.deg2rad(yaw_deg * (2 * torch.rand(count, generator=generator) - 1))
    rotation = torch.tensor([1.0, -1.0, -1.0])[:, None] * euler_to_matrix(angles)
    middle = torch.tensor([(size - 1) / 2, (size - 1) / 2 - 0.05 * size, 0.0]).expand(count, 3)
    scale = torch.full((count,), size / 1.6 / 150)
    return AffineCamera.orthographic(scale, rotation, middle)


def faces(count, size=64, seed=0, yaw_deg=60.0):
    """Rendered faces (a FaceBatch) with landmarks, coefficients and camera."""
    model, generator = head(), torch.Generator().manual_seed(seed)
    coefficients = model.sample(count, generator)
    camera = cameras(count, size, seed, yaw_deg)
    vertices = model(coefficients["identity"], coefficients["expression"])
    colors = model.albedo(coefficients["albedo"]).clamp(0, 1)
    light = torch.zeros(count, 9, 3)
    light[:, 0] = 2.5
    rendering = RasterRenderer()(vertices, model.faces, camera, (size, size), colors, light)
    return FaceBatch(
        image=rendering.image.clamp(0, 1),
        landmarks=project_landmarks(model, coefficients, camera),
        coefficients=coefficients,
        camera=camera,
        skin_mask=rendering.mask,
        sample_id=[f"face-{seed}-{row}" for row in range(count)],
        random_key=sample_keys(seed, 0, torch.arange(count)),
    )
