import importlib.util
import math

import pytest
import torch

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.geometry.spherical_harmonics import lambert_factors, rotate_sh, sh_basis
from lit_face.rendering import transfer as transfer_module
from lit_face.rendering.transfer import (
    ambient_occlusion,
    light_transfer,
    shadowed_irradiance,
)
from tests.helpers.shapes import sphere
from tests.helpers.tolerances import assert_close

HAS_RAYS = importlib.util.find_spec("embreex") is not None
CASTERS = [
    pytest.param("rays", marks=pytest.mark.skipif(not HAS_RAYS, reason="no embreex")),
    "pictures",
]


def floor_and_wall(side=200.0):
    """A floor y = 0, one vertex of it (the last) 1 mm before a wall x = 0 that faces +x."""
    floor = [[0, 0, -side], [side, 0, -side], [side, 0, side], [0, 0, side], [1, 0, 0]]
    wall = [[0, 0, -side], [0, 0, side], [0, side, side], [0, side, -side]]
    faces = [[0, 4, 1], [1, 4, 2], [2, 4, 3], [3, 4, 0], [5, 7, 6], [5, 8, 7]]
    vertices = torch.tensor(floor + wall, dtype=torch.float64)
    return vertices, torch.tensor(faces), 4


@pytest.mark.parametrize("caster", CASTERS)
def test_nothing_shadows_a_sphere(caster):
    vertices, faces = sphere(radius=50.0, subdivisions=3)
    found = light_transfer(vertices, faces, bands=5, directions=96, caster=caster)
    expected = sh_basis(vertex_normals(vertices[None], faces)[0], 5) * lambert_factors(5)
    # Depth pictures are coarse at the horizon, where the cosine is small.
    assert_close(found, expected, atol=1e-9 if caster == "rays" else 0.02, rtol=0)


@pytest.mark.skipif(not HAS_RAYS, reason="no embreex")
def test_a_wall_hides_half_of_the_sky_and_its_light():
    vertices, faces, foot = floor_and_wall()
    assert_close(vertex_normals(vertices[None], faces)[0, foot], torch.tensor([0.0, 1, 0]))
    found = light_transfer(vertices, faces, bands=3, directions=4096, caster="rays")
    assert_close(ambient_occlusion(found)[foot], torch.tensor([0.5]).double(), atol=0.01)
    # Radiance x from the open half, integral of x y over it: 2/3. The harmonic is -0.488603 x.
    expected = -0.488603 * 2 / 3
    assert_close(found[foot, 1], torch.tensor(expected).double(), atol=0.01)


@pytest.mark.skipif(not HAS_RAYS, reason="no embreex")
def test_depth_pictures_come_near_the_rays():
    ball, ball_faces = sphere(radius=30.0, subdivisions=3)
    vertices = torch.cat([ball, ball + torch.tensor([70.0, 0, 0])])
    faces = torch.cat([ball_faces, ball_faces + len(ball)])
    by_rays, by_pictures = (
        light_transfer(vertices, faces, bands=4, directions=128, caster=caster)
        for caster in ("rays", "pictures")
    )
    assert ambient_occlusion(by_rays).min() < 0.9
    difference = (by_rays - by_pictures).norm() / by_rays.norm()
    assert difference < 0.03


def test_ambient_occlusion_of_the_open_sky_is_one():
    normals = torch.nn.functional.normalize(torch.randn(9, 3, dtype=torch.float64), dim=1)
    open_sky = sh_basis(normals, 3) * lambert_factors(3)
    assert_close(ambient_occlusion(open_sky), torch.ones(9, 1, dtype=torch.float64))


def test_shadowed_irradiance_turns_the_light_into_the_head():
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(
        torch.randn(30, 3, dtype=torch.float64, generator=generator), dim=1
    )
    light = torch.randn(2, 25, 3, dtype=torch.float64, generator=generator)
    rotation = axis_angle_to_matrix(torch.tensor([[3.0, 0.1, 0.2], [0.4, 2.0, -1.0]]).double())
    transfer = sh_basis(normals, 5) * lambert_factors(5)
    found = shadowed_irradiance(transfer, light, rotation)
    in_camera = sh_basis(normals @ rotation.mT, 5) * lambert_factors(5)
    assert_close(found, in_camera @ light)
    # Light and head turned together: the same.
    more = axis_angle_to_matrix(torch.tensor([[0.7, -0.3, 0.5]], dtype=torch.float64))
    turned = shadowed_irradiance(transfer, rotate_sh(light, more.expand(2, 3, 3)), more @ rotation)
    assert_close(turned, found)


def test_fewer_bands_on_either_side_are_the_leading_ones():
    transfer = torch.randn(6, 25, dtype=torch.float64)
    light = torch.randn(1, 81, 3, dtype=torch.float64)
    rotation = torch.eye(3, dtype=torch.float64)[None]
    found = shadowed_irradiance(transfer, light, rotation)
    assert_close(found, (transfer @ light[:, :25]))
    found = shadowed_irradiance(transfer, light[:, :9], rotation)
    assert_close(found, transfer[:, :9] @ light[:, :9])


def test_missing_package_and_unknown_caster_are_named(monkeypatch):
    vertices, faces = sphere(subdivisions=1)
    with pytest.raises(ValueError, match="'rays', 'pictures'"):
        light_transfer(vertices, faces, caster="photons")
    monkeypatch.setattr(transfer_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install embreex"):
        light_transfer(vertices, faces, caster="rays")
    assert math.isfinite(light_transfer(vertices, faces, bands=2, directions=8).sum())
