"""A ball and its camera, material and light, for tests that cast rays."""

import os

import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.rendering.material import Material
from lit_face.rendering.mitsuba.probe import what_is_missing
from tests.helpers.shapes import sphere

REQUIRED = "LIT_FACE_REQUIRE_RAYTRACE"  # set where a missing LLVM is a failure, as in CI


def need_ray_tracing():
    """Skip, or fail where it is required, with what is missing."""
    missing = what_is_missing()
    if missing and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but {missing}")
    if missing:
        pytest.skip(missing)


def ball(radius=80.0, subdivisions=4):
    """Vertices (1,V,3) mm, faces and UV, the front half inside the map."""
    vertices, faces = sphere(radius, subdivisions, torch.float32)
    return vertices[None], faces, 0.5 + 0.45 * vertices[:, :2] / radius


def camera(size, batch=1, center=None, distance=1000.0):
    """Look along -z of the head from `distance` mm, focal length 4.5 picture widths."""
    height, width = size
    intrinsics = torch.eye(3).repeat(batch, 1, 1)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = 4.5 * width
    x, y = center or ((width - 1) / 2, (height - 1) / 2)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = x, y
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])).repeat(batch, 1, 1)
    return PerspectiveCamera(
        intrinsics, rotation, torch.tensor([[0.0, 0.0, distance]]).repeat(batch, 1)
    )


def light(batch=1, seed=0):
    """(B,81,3) radiance, nowhere negative."""
    generator = torch.Generator().manual_seed(seed)
    result = torch.zeros(batch, 81, 3)
    result[:, 0] = 3.0
    for band in range(1, 9):
        noise = torch.randn(batch, 2 * band + 1, 3, generator=generator)
        result[:, band * band : (band + 1) ** 2] = noise * 0.6 / (band * (band + 0.5))
    return result


def plain(diffuse=0.5, specular=0.05, roughness=0.4, batch=1):
    """A material without texture."""
    return Material(
        torch.full((batch, 3, 4, 4), diffuse),
        torch.full((batch, 1, 4, 4), specular),
        torch.full((batch, 1, 1, 1), roughness),
    )


def mottled(batch=1, side=8, seed=1):
    """A material with random texels in all three maps, each map of another size."""
    generator = torch.Generator().manual_seed(seed)
    return Material(
        0.2 + 0.5 * torch.rand(batch, 3, side, side, generator=generator),
        0.05 + 0.2 * torch.rand(batch, 3, side // 2, side // 2, generator=generator),
        0.35 + 0.3 * torch.rand(batch, 1, side + 1, side + 1, generator=generator),
    )
