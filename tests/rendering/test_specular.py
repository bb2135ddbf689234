import math

import pytest
import torch

from lit_face.rendering.environment import sh_to_environment
from lit_face.rendering.specular import (
    dominant_direction,
    lobe_integrals,
    lobe_specular,
    prefiltered_specular,
    reflected_share,
)
from tests.helpers.tolerances import assert_close
from tests.rendering.test_environment import light
from tests.rendering.test_light_maps import white


def points(count=20, seed=0):
    """Planes of normals and directions to the camera (1,3,N), specular (1,3,N)."""
    generator = torch.Generator().manual_seed(seed)
    normals = torch.randn(1, 3, count, dtype=torch.float64, generator=generator)
    view = torch.nn.functional.normalize(
        torch.randn(1, 3, count, dtype=torch.float64, generator=generator), dim=1
    )
    normals = torch.nn.functional.normalize(normals + 2 * view, dim=1)
    away = (normals * view).sum(1, keepdim=True) < 0.05
    normals = torch.where(away, view, normals)
    return normals, view, torch.rand(1, 3, count, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("roughness", [0.05, 0.4, 1.0])
def test_white_light_is_reflected_by_the_integral_of_the_lobe(roughness):
    normals, view, specular = points()
    cosine = (normals * view).sum(1)
    share, rest = lobe_integrals(cosine[0], torch.tensor([roughness]), (128, 96))[:, 0].mT
    expected = specular * share + rest
    rough = torch.full((1, 1), roughness, dtype=torch.float64)
    found = prefiltered_specular(white(), normals, view, specular, rough)
    assert_close(found, expected, atol=2e-3, rtol=0)
    maps = sh_to_environment(white(), (8, 16))
    found = lobe_specular(maps, normals, view, specular, rough, samples=1024)
    assert_close(found, expected, atol=2e-3, rtol=5e-3)


def test_roughness_map_of_one_value_is_nearly_the_constant():
    normals, view, specular = points()
    for value in (0.05, 0.1, 0.33, 0.4, 0.8):
        rough = torch.full((1, 1), value, dtype=torch.float64)
        constant = prefiltered_specular(light(9, 1), normals, view, specular, rough)
        mapped = prefiltered_specular(light(9, 1), normals, view, specular, rough.expand(1, 20))
        # Light as strong in the ninth band as in the second, which no room has.
        assert (mapped - constant).abs().max() < 0.06 * constant.abs().max()


def test_each_image_reads_its_own_light_and_roughness():
    normals, view, specular = points()
    both = [torch.cat([part, part.flip(2)]) for part in (normals, view, specular)]
    rough = torch.linspace(0.05, 1, 40, dtype=torch.float64).view(2, 20)
    coefficients = light(9, 2)
    for roughness in (rough, rough[:, :1]):
        together = prefiltered_specular(coefficients, *both, roughness)
        maps = sh_to_environment(coefficients, (16, 32))
        summed = lobe_specular(maps, *both, roughness, samples=16)
        for row in range(2):
            one = slice(row, row + 1)
            scene = [part[one] for part in both]
            single = prefiltered_specular(coefficients[one], *scene, roughness[one])
            assert_close(together[one], single)
            single = lobe_specular(maps[one], *scene, roughness[one], samples=16)
            assert_close(summed[one], single)


def test_dominant_direction_goes_from_the_mirror_to_the_normal():
    normals, view, _ = points()
    mirror = 2 * (normals * view).sum(1, keepdim=True) * normals - view
    smooth, rough = (torch.full((1, 1), a, dtype=torch.float64) for a in (0.0, 1.0))
    assert ((dominant_direction(normals, view, smooth) * mirror).sum(1) > 0.999).all()
    assert_close(dominant_direction(normals, view, rough), normals)


def test_what_faces_away_reflects_nothing():
    normals, view, specular = points()
    rough = torch.full((1, 20), 0.4, dtype=torch.float64)
    assert not prefiltered_specular(light(9, 1), -normals, view, specular, rough).any()
    maps = sh_to_environment(white(), (8, 16))
    assert not lobe_specular(maps, -normals, view, specular, rough, samples=16).any()


@pytest.mark.parametrize("mapped", [False, True])
def test_gradients_of_prefiltered_specular(mapped):
    normals, view, specular = points(5)
    rough = torch.tensor([[0.13, 0.3, 0.45, 0.7, 0.9]], dtype=torch.float64)
    rough = rough if mapped else rough[:, 1:2]
    inputs = [x.clone().requires_grad_() for x in (light(3, 1), normals, view, specular, rough)]
    assert torch.autograd.gradcheck(prefiltered_specular, inputs)


def test_gradients_of_lobe_quadrature():
    normals, view, specular = points(3)
    rough = torch.tensor([[0.13, 0.45, 0.9]], dtype=torch.float64)
    maps = sh_to_environment(light(3, 1), (8, 16), clamp=False)
    inputs = [x.clone().requires_grad_() for x in (maps, normals, view, specular, rough)]
    assert torch.autograd.gradcheck(lambda *x: lobe_specular(*x, samples=12), inputs)


def test_gradients_are_finite_head_on_at_the_edge_and_from_behind():
    normals = torch.tensor([[[0.0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 1]]], requires_grad=True)
    view = torch.tensor([0.0, 0, -1]).view(1, 3, 1).expand(1, 3, 4)
    specular, rough = torch.full((1, 1, 4), 0.3), torch.full((1, 4), 0.4, requires_grad=True)
    coefficients = light(9, 1).float().requires_grad_()
    maps = sh_to_environment(coefficients, (16, 32))
    for found in (
        prefiltered_specular(coefficients, normals, view, specular, rough),
        lobe_specular(maps, normals, view, specular, rough, samples=16),
    ):
        assert found.isfinite().all()
        gradients = torch.autograd.grad(
            found.sum(), [normals, rough, coefficients], retain_graph=True
        )
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_tables_serve_training_after_inference():
    with torch.inference_mode():
        reflected_share(torch.rand(1, 3), torch.rand(1, 3))
    rough = torch.rand(1, 3, requires_grad=True)
    sum(part.sum() for part in reflected_share(torch.rand(1, 3), rough)).backward()
    assert math.isfinite(rough.grad.sum())
