import math

import pytest
import torch

from lit_face.rendering.brdf import brdf
from tests.helpers.tolerances import assert_close

UP = torch.tensor([[0.0, 0, -1]], dtype=torch.float64)


def upper_directions(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    points[:, 2] = -points[:, 2].abs() - 0.05
    return torch.nn.functional.normalize(points, dim=1)


def scene(count=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 3)
    diffuse = torch.rand(shape, dtype=torch.float64, generator=generator)
    specular = torch.rand(shape, dtype=torch.float64, generator=generator)
    rough = 0.05 + 0.9 * torch.rand(count, 1, dtype=torch.float64, generator=generator)
    directions = upper_directions(count, seed), upper_directions(count, seed + 1)
    return UP.expand(count, 3), *directions, diffuse, specular, rough


def test_gradients():
    normals, view, light, diffuse, specular, rough = scene()
    inputs = [x.requires_grad_() for x in (diffuse, specular, rough)]
    assert torch.autograd.gradcheck(lambda *x: brdf(normals, view, light, *x), inputs)


def test_lobe_is_reciprocal():
    normals, view, light, _, specular, rough = scene()
    nothing = torch.zeros_like(specular)
    there = brdf(normals, view, light, nothing, specular, rough) / -light[:, 2:]
    back = brdf(normals, light, view, nothing, specular, rough) / -view[:, 2:]
    assert_close(there, back)


def test_diffuse_part_is_lambert():
    normals, view, light, diffuse, specular, rough = scene()
    both = brdf(normals, view, light, diffuse, specular, rough)
    lobe = brdf(normals, view, light, torch.zeros_like(diffuse), specular, rough)
    assert_close(both - lobe, diffuse * -light[:, 2:] / math.pi)


@pytest.mark.parametrize("behind", ["view", "light"])
def test_nothing_comes_through_the_surface(behind):
    normals, view, light, diffuse, specular, rough = scene()
    down = torch.tensor([1.0, 1, -1], dtype=torch.float64)
    view, light = (view * down, light) if behind == "view" else (view, light * down)
    assert not brdf(normals, view, light, diffuse, specular, rough).any()


def test_maps_below_zero_count_as_zero_and_above_one_stay():
    normals, view, light, diffuse, specular, rough = scene()
    dark = brdf(normals, view, light, -diffuse, -specular, rough)
    zero = torch.zeros_like(diffuse)
    assert_close(dark, brdf(normals, view, light, zero, zero, rough))
    double = brdf(normals, view, light, 2 + diffuse, zero, rough)
    assert (double > brdf(normals, view, light, 1 + diffuse, zero, rough)).all()


def test_rough_grazing_reflection_gains_energy_as_the_original_does():
    light = upper_directions(200_000)  # then weighted to an even hemisphere
    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(200_000, 2, dtype=torch.float64, generator=generator)
    ring, turn = (1 - uniform[:, 0] ** 2).sqrt(), 2 * math.pi * uniform[:, 1]
    light = torch.stack([ring * turn.cos(), ring * turn.sin(), -uniform[:, 0]], dim=1)
    view = torch.tensor([[math.sqrt(0.99), 0, -0.1]], dtype=torch.float64).expand_as(light)
    zero, one = torch.zeros(1, 3).double(), torch.ones(1, 1).double()
    lobe = brdf(UP.expand_as(light), view, light, zero, one, 0.7 * one)[:, 0]
    assert abs(2 * math.pi * lobe.mean() - 1.14) < 0.01
