import copy
import math
import pickle

import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.rendering.brdf import brdf
from lit_face.rendering.material import Material
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.mitsuba import MitsubaRenderer
from tests.helpers.ray_tracing import ball, camera, light, mottled, need_ray_tracing, plain

SIZE = (48, 48)


@pytest.fixture(scope="module", autouse=True)
def _rays():
    need_ray_tracing()


@pytest.fixture(scope="module")
def diffuse_renderer():
    return MitsubaRenderer(samples=256, specular=False)


@pytest.fixture(scope="module")
def renderer():
    return MitsubaRenderer(samples=256)


def both(ray_tracer, raster, view, material, size=SIZE):
    """Ray-traced and rastered picture of the ball and the pixels that both cover fully."""
    vertices, faces, uv = ball(subdivisions=5)
    scene = (vertices, faces, uv, view, size, material, light())
    traced, rastered = ray_tracer(*scene), raster(*scene)
    inside = ((traced.mask > 0.999) & (rastered.mask > 0)).expand_as(traced.image)
    assert (traced.mask - rastered.mask).abs().mean() < 0.02  # they differ on the outline alone
    return traced.image, rastered.image, inside


def test_white_light_on_white_is_one(diffuse_renderer):
    vertices, faces, uv = ball()
    white = torch.zeros(1, 81, 3)
    white[:, 0] = math.sqrt(4 * math.pi)
    picture = diffuse_renderer(vertices, faces, uv, camera(SIZE), SIZE, plain(1.0), white, seed=1)
    inside = (picture.mask > 0.999).expand_as(picture.image)
    assert picture.image[inside].mean().item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("center", [None, (17.0, 27.5)])
def test_lambertian_ball_is_the_raster_picture(diffuse_renderer, center):
    raster = RasterMaterialRenderer(specular="none")
    view = camera(SIZE, center=center)
    traced, rastered, inside = both(diffuse_renderer, raster, view, mottled())
    difference = (traced - rastered)[inside]
    assert difference.abs().mean() < 0.01
    assert abs(difference.sum() / rastered[inside].sum()) < 0.005


def test_wide_picture_and_principal_point_off_the_middle(diffuse_renderer):
    size = (40, 56)
    view = camera(size, center=(20.0, 24.0), distance=1700.0)
    raster = RasterMaterialRenderer(specular="none")
    traced, rastered, inside = both(diffuse_renderer, raster, view, mottled(), size)
    assert (traced - rastered)[inside].abs().mean() < 0.01


@pytest.mark.parametrize("roughness", [0.2, 0.6])
def test_glossy_ball_is_the_raster_picture(renderer, roughness):
    raster = RasterMaterialRenderer(specular="quadrature", lobe_samples=256)
    material = plain(0.3, 0.2, roughness)
    traced, rastered, inside = both(renderer, raster, camera(SIZE), material)
    difference = (traced - rastered)[inside]
    assert difference.abs().mean() < 0.01
    assert (difference / rastered[inside]).abs().median() < 0.03
    assert abs(difference.sum() / rastered[inside].sum()) < 0.005


def test_nose_throws_a_shadow(diffuse_renderer):
    """A small ball before a large one, light from the right: dark to the left of the nose."""
    large, faces, uv = ball()
    small = 0.2 * large + torch.tensor([0.0, 0.0, 85.0])
    vertices = torch.cat([large, small], dim=1)
    faces = torch.cat([faces, faces + large.shape[1]])
    towards = torch.tensor([[0.8, 0.0, -0.6]])
    degree = torch.tensor([band for band in range(9) for _ in range(2 * band + 1)])
    lamp = 2 * torch.exp(-0.03 * degree * (degree + 1)) * sh_basis(towards, 9)[0]
    scene = (vertices, faces, torch.cat([uv, uv]), camera(SIZE), SIZE, plain())
    scene = (*scene, lamp[None, :, None].expand(1, -1, 3))
    traced = diffuse_renderer(*scene, seed=2).image.mean(1)[0]
    rastered = RasterMaterialRenderer(specular="none", clamp_light=True)(*scene).image.mean(1)[0]
    row = (traced / rastered.clamp(min=1e-3))[22:26].mean(0)
    assert row[17:20].max() < 0.6
    assert row[30:38].mean().item() == pytest.approx(1, abs=0.03)


def test_same_seed_same_picture_and_the_count_goes_on(renderer):
    vertices, faces, uv = ball(subdivisions=2)
    few = MitsubaRenderer(samples=2, seed=7)
    scene = (vertices.expand(2, -1, -1), faces, uv, camera(SIZE, 2), SIZE, plain(batch=2), light(2))
    first, second = few(*scene).image, few(*scene).image
    assert not torch.equal(first, second)
    assert torch.equal(few(*scene, seed=7).image, first)
    assert torch.equal(few(*scene, seed=9).image, second)
    assert not torch.equal(first[0] - first[1], torch.zeros_like(first[0]))


def test_layout_and_dtype_of_inputs_do_not_matter():
    vertices, faces, uv = ball(subdivisions=2)
    few = MitsubaRenderer(samples=2)
    view, material, coefficients = camera(SIZE), mottled(), light()
    expected = few(vertices, faces, uv, view, SIZE, material, coefficients, seed=1)
    turned = material.map(lambda maps: maps.mT.contiguous().mT)
    assert not turned.diffuse.is_contiguous()
    found = few(vertices, faces, uv, view, SIZE, turned, coefficients, seed=1)
    assert torch.equal(found.image, expected.image)
    double = few(
        vertices.double(),
        faces,
        uv.double(),
        view.map(torch.Tensor.double),
        SIZE,
        material.map(torch.Tensor.double),
        coefficients.double(),
        seed=1,
    )
    assert double.image.dtype == double.mask.dtype == torch.float64
    # A vertex that moves by a rounding error lets a few rays see another texel.
    assert (double.image - expected.image).abs().mean() < 1e-4


def test_topology_may_change_between_calls_and_light_may_be_absent():
    few = MitsubaRenderer(samples=2)
    for subdivisions in (2, 3, 2):
        vertices, faces, uv = ball(subdivisions=subdivisions)
        scene = (vertices, faces, uv, camera(SIZE), SIZE, plain())
        assert few(*scene, light()).image.mean() > 0.05
        assert few(*scene, 0 * light()).image.abs().max() == 0
        assert few(*scene, -light()).image.abs().max() == 0


def test_renderer_can_be_copied_and_pickled():
    vertices, faces, uv = ball(subdivisions=2)
    few = MitsubaRenderer(samples=2)
    scene = (vertices, faces, uv, camera(SIZE), SIZE, plain(), light())
    expected = few(*scene, seed=3).image
    for twin in (copy.deepcopy(few), pickle.loads(pickle.dumps(few))):
        assert torch.equal(twin(*scene, seed=3).image, expected)
    assert not few.state_dict()


def test_errors_name_what_is_wrong():
    vertices, faces, uv = ball(subdivisions=2)
    few = MitsubaRenderer(samples=2)
    with pytest.raises(ValueError, match="needs a PerspectiveCamera"):
        few(vertices, faces, uv, AffineCamera(torch.ones(1, 3, 4)), SIZE, plain(), light())
    stretched = camera(SIZE)
    stretched.intrinsics[:, 0, 0] *= 1.1
    with pytest.raises(ValueError, match="square pixels"):
        few(vertices, faces, uv, stretched, SIZE, plain(), light())
    with pytest.raises(ValueError, match="camera should hold 1 cameras"):
        few(vertices, faces, uv, camera(SIZE, 2), SIZE, plain(), light())
    with pytest.raises(ValueError, match=r"material.diffuse should be \(1,3,S,S\)"):
        few(vertices, faces, uv, camera(SIZE), SIZE, plain(batch=2), light())
    with pytest.raises(ValueError, match="light should be"):
        few(vertices, faces, uv, camera(SIZE), SIZE, plain(), light() * float("nan"))
    with pytest.raises(ValueError, match="integrator should be"):
        MitsubaRenderer(integrator="path")
    with pytest.raises(ValueError, match="samples should be"):
        MitsubaRenderer(samples=0)


def surface_points(mi, wi):
    import drjit as dr

    points = dr.zeros(mi.SurfaceInteraction3f, len(wi))
    points.sh_frame = mi.Frame3f(mi.Normal3f(0, 0, 1))
    points.n = mi.Normal3f(0, 0, 1)
    points.wi = mi.Vector3f(wi.T.numpy())
    points.uv = mi.Point2f(0.5, 0.5)
    return points


def plugin(mi, diffuse, specular, roughness):
    from lit_face.rendering.mitsuba import bsdf

    def texture(values):
        texels = torch.tensor(values, dtype=torch.float32).expand(2, 2, -1)
        return {"type": "bitmap", "data": mi.TensorXf(texels.numpy()), "raw": True}

    bsdf.register(mi.variant())
    maps = {"diffuse": diffuse, "specular": specular, "roughness": [roughness]}
    return mi.load_dict({"type": bsdf.PLUGIN, **{k: texture(v) for k, v in maps.items()}})


def directions(count, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, 3, generator=generator)
    return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.mark.parametrize("roughness", [0.1, 0.4, 1.0])
def test_plugin_is_the_house_brdf(roughness):
    import mitsuba as mi

    from lit_face.rendering.mitsuba.scene import active_variant

    wi, wo = directions(400, 0), directions(400, 1)
    normals = torch.tensor([0.0, 0.0, 1.0]).expand_as(wi)
    kd, ks = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.05, 0.1, 0.4])
    expected = brdf(normals, wi, wo, kd, ks, torch.full((400, 1), roughness))
    with active_variant("llvm_ad_rgb"):
        surface = plugin(mi, kd.tolist(), ks.tolist(), roughness)
        points = surface_points(mi, wi)
        found = surface.eval(mi.BSDFContext(), points, mi.Vector3f(wo.T.numpy()))
        found = torch.tensor(found.numpy().T)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("roughness", [0.1, 0.5])
def test_samples_of_the_plugin_follow_their_density(roughness):
    """Reflected light by importance sampling and by uniform directions is the same."""
    import drjit as dr
    import mitsuba as mi

    from lit_face.rendering.mitsuba.scene import active_variant

    count = 200_000
    wi = torch.nn.functional.normalize(torch.tensor([[0.5, 0.2, 0.8]]), dim=-1)
    with active_variant("llvm_ad_rgb"):
        surface = plugin(mi, [0.5] * 3, [0.2] * 3, roughness)
        points = surface_points(mi, wi.expand(count, 3))
        numbers = mi.PCG32(size=count)
        first, second = numbers.next_float32(), numbers.next_float32()
        point = mi.Point2f(second, numbers.next_float32())
        sample, weight = surface.sample(mi.BSDFContext(), points, first, point)
        by_sampling = dr.mean(weight.x)[0]
        uniform = mi.warp.square_to_uniform_hemisphere(point)
        value, density = surface.eval_pdf(mi.BSDFContext(), points, uniform)
        by_integration = dr.mean(value.x)[0] * 2 * math.pi
        total = dr.mean(density)[0] * 2 * math.pi
        same = surface.pdf(mi.BSDFContext(), points, sample.wo)
        worst = dr.max(dr.abs(same - sample.pdf))[0]
    assert by_sampling == pytest.approx(by_integration, rel=0.01)
    assert total <= 1.01  # less than 1: part of the lobe points below the horizon
    assert worst < 1e-4


def test_corner_texels_lie_on_the_borders_of_the_map(diffuse_renderer):
    """A square whose UV span the map shows the corner texels' colours in its corners."""
    corners = torch.tensor([[-60.0, -60, 0], [60, -60, 0], [60, 60, 0], [-60, 60, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    texels = torch.tensor([[0.1, 0.3], [0.5, 0.9]])  # row 0 is the upper one
    material = Material(texels.expand(1, 3, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1))
    white = torch.zeros(1, 1, 3) + math.sqrt(4 * math.pi)
    view = camera((64, 64))
    image = diffuse_renderer(corners[None], faces, uv, view, (64, 64), material, white).image[0, 0]
    pixels = view.project(corners[None] * 0.98)[0, :, :2].round().long()
    found = image[pixels[:, 1], pixels[:, 0]]
    torch.testing.assert_close(found, torch.tensor([0.5, 0.9, 0.3, 0.1]), atol=0.03, rtol=0)
