import pytest
import torch
import torch.nn.functional as F

from lit_face.rendering.material import Material
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.mitsuba import MitsubaRenderer
from tests.helpers.ray_tracing import ball, camera, light, mottled, need_ray_tracing

SIZE = (32, 32)
NAMES = ("vertices", "diffuse", "specular", "roughness", "light")


@pytest.fixture(scope="module", autouse=True)
def _rays():
    need_ray_tracing()


def inputs(batch=1, subdivisions=4):
    vertices, faces, uv = ball(subdivisions=subdivisions)
    scale = torch.linspace(1.0, 0.9, batch)[:, None, None]
    maps = mottled(batch)
    values = {
        "vertices": vertices * scale,
        "diffuse": maps.diffuse,
        "specular": maps.specular,
        "roughness": maps.roughness,
        "light": light(batch),
    }
    return values, faces, uv


def show(renderer, values, faces, uv, **extras):
    material = Material(values["diffuse"], values["specular"], values["roughness"])
    view = camera(SIZE, len(values["vertices"]))
    scene = (values["vertices"], faces, uv, view, SIZE, material, values["light"])
    return renderer(*scene, **extras).image


def pixel_weights(batch=1, seed=0):
    """Smooth random weights that vanish before the outline."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator) - 0.5
    weights = F.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=False)
    steps = torch.arange(32.0) - 15.5
    return weights * (steps[:, None].square() + steps.square() < 8**2)


def gradients(values, loss):
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    loss(leaves).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("independent", [True, False])
def test_batch_has_the_gradients_of_its_images(independent):
    """A scene shared by a batch, with all forward passes before the backward pass."""
    renderer = MitsubaRenderer(samples=4, independent_gradients=independent)
    values, faces, uv = inputs(batch=3, subdivisions=3)
    weights = torch.rand(3, 3, *SIZE)

    def loss(part, rows=slice(None), seed=5):
        return (show(renderer, part, faces, uv, seed=seed) * weights[rows]).sum()

    whole = gradients(values, loss)
    for row in range(3):
        rows = slice(row, row + 1)
        one = gradients(
            {name: value[rows] for name, value in values.items()},
            lambda part, rows=rows, row=row: loss(part, rows, 5 + row),
        )
        for name in NAMES:
            difference = (whole[name][rows] - one[name]).norm() / one[name].norm()
            assert one[name].norm() > 0
            assert difference < 2e-6, name


def test_two_pictures_before_one_backward_pass():
    renderer = MitsubaRenderer(samples=4)
    values, faces, uv = inputs(subdivisions=3)
    other = {**values, "diffuse": 0.5 * values["diffuse"], "vertices": 0.8 * values["vertices"]}
    weights = pixel_weights()
    alone = [
        gradients(part, lambda leaves: (show(renderer, leaves, faces, uv, seed=1) * weights).sum())
        for part in (values, other)
    ]
    leaves = [{k: v.clone().requires_grad_() for k, v in part.items()} for part in (values, other)]
    pictures = [show(renderer, part, faces, uv, seed=1) for part in leaves]
    sum((picture * weights).sum() for picture in pictures).backward()
    for part, expected in zip(leaves, alone, strict=True):
        for name in NAMES:
            assert (part[name].grad - expected[name]).norm() < 2e-6 * expected[name].norm()


# Albedo does not change where rays go: the derivative of the picture is exact. Light and roughness
# do, so both sides carry noise: at these samples 0.5 % and 2 % were seen.
@pytest.mark.parametrize(
    ("name", "step", "samples", "tolerance"),
    [
        ("diffuse", 0.05, 16, 1e-3),
        ("specular", 0.02, 16, 1e-3),
        ("light", 0.02, 1024, 0.04),
        ("roughness", 0.01, 1024, 0.08),
    ],
)
def test_gradients_are_finite_differences(name, step, samples, tolerance):
    renderer = MitsubaRenderer(samples=samples, independent_gradients=False)
    values, faces, uv = inputs()
    generator = torch.Generator().manual_seed(2)
    direction = torch.rand(values[name].shape, generator=generator)
    if name == "light":  # random, but nowhere darker than 0
        direction = direction - 0.5

    def loss(part):
        return (show(renderer, part, faces, uv, seed=1) * pixel_weights().abs()).sum()

    found = (gradients(values, loss)[name] * direction).sum().item()
    sides = [
        loss({**values, name: values[name] + sign * step * direction}).item() for sign in (1, -1)
    ]
    expected = (sides[0] - sides[1]) / (2 * step)
    assert found == pytest.approx(expected, rel=tolerance)


def test_motion_inside_the_outline_has_the_right_gradient():
    """A rigid or growing ball, away from the outline: finite differences, and the raster picture.

    Per vertex the gradient is noise for the most part, as many vertices share a pixel.
    """
    renderer = MitsubaRenderer(samples=512, independent_gradients=False)
    raster = RasterMaterialRenderer(specular="quadrature")
    values, faces, uv = inputs()
    ramp = torch.arange(32.0) - 15.5
    weights = (pixel_weights() != 0) * (ramp + ramp[:, None] + 4) / 10
    x, y, z = values["vertices"].unbind(-1)
    zero = torch.zeros_like(x)
    motions = {
        "right": (torch.stack([zero + 1, zero, zero], -1), 1.0),
        "up": (torch.stack([zero, zero + 1, zero], -1), 1.0),
        "nod": (torch.stack([zero, -z, y], -1), 0.02),
        "grow": (values["vertices"], 0.01),
    }

    def loss(part, backend=renderer, **extras):
        return (show(backend, part, faces, uv, **extras) * weights).sum()

    found = gradients(values, lambda part: loss(part, seed=1))["vertices"]
    rastered = gradients(values, lambda part: loss(part, raster))["vertices"]
    for name, (motion, step) in motions.items():
        sides = [
            loss({**values, "vertices": values["vertices"] + sign * step * motion}, seed=1).item()
            for sign in (1, -1)
        ]
        slope = (found * motion).sum().item()
        assert slope == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=0.08), name
        assert slope == pytest.approx((rastered * motion).sum().item(), rel=0.15), name


def test_own_rays_of_the_backward_pass_keep_noise_out_of_a_squared_loss():
    """With the picture's rays again, the variance is minimised too, which darkens the albedo."""
    values, faces, uv = inputs(subdivisions=3)
    values["diffuse"] = torch.full_like(values["diffuse"], 0.5)
    weights = pixel_weights().abs()
    target = show(MitsubaRenderer(samples=1024), values, faces, uv)
    slopes = {}
    for independent in (True, False):
        renderer = MitsubaRenderer(samples=2, independent_gradients=independent, seed=3)
        slopes[independent] = 0.0
        for _ in range(8):
            difference = gradients(
                values,
                lambda part, renderer=renderer: (
                    weights * (show(renderer, part, faces, uv) - target).square()
                ).sum(),
            )
            slopes[independent] += difference["diffuse"].sum().item() / 8
    assert slopes[False] > 0
    assert abs(slopes[True]) < 0.3 * slopes[False]


def test_only_wanted_gradients_are_computed():
    renderer = MitsubaRenderer(samples=2)
    values, faces, uv = inputs(subdivisions=2)
    assert not show(renderer, values, faces, uv).requires_grad
    wanted = {**values, "light": values["light"].clone().requires_grad_()}
    show(renderer, wanted, faces, uv).sum().backward()
    assert wanted["light"].grad.norm() > 0
    assert all(values[name].grad is None for name in NAMES)


def test_silhouette_integrator_feels_the_outline_move():
    """Light on a ball that grows: more pixels are lit, which 'direct' cannot see."""
    values, faces, uv = inputs(subdivisions=3)
    values["diffuse"] = torch.full_like(values["diffuse"], 0.5)
    slopes = {}
    for name in ("direct", "direct_projective"):
        renderer = MitsubaRenderer(samples=32, integrator=name)
        found = gradients(values, lambda part, r=renderer: show(r, part, faces, uv, seed=1).sum())
        slopes[name] = (found["vertices"] * values["vertices"]).sum().item()
    renderer = MitsubaRenderer(samples=256)
    sides = [
        show(renderer, {**values, "vertices": factor * values["vertices"]}, faces, uv).sum().item()
        for factor in (1.02, 0.98)
    ]
    expected = (sides[0] - sides[1]) / 0.04
    assert slopes["direct_projective"] == pytest.approx(expected, rel=0.08)
    assert abs(slopes["direct"]) < 0.3 * expected
