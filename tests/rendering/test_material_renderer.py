import math

import pytest
import torch

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.geometry.spherical_harmonics import lambert_factors, mirror_sh, rotate_sh, sh_basis
from lit_face.rendering import material_renderer
from lit_face.rendering.material import Material
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from tests.helpers.shapes import sphere
from tests.helpers.tolerances import assert_close
from tests.rendering.test_light_maps import white

SIZE = (40, 48)
CENTRE = ((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
TO_CAMERA = torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64))
TURNS = torch.tensor([[0.0, 0, 0], [0.2, -0.5, 0.1]], dtype=torch.float64)


def pinhole(batch=2, turns=TURNS):
    intrinsics = torch.tensor([[150.0, 0, CENTRE[0]], [0, 150.0, CENTRE[1]], [0, 0, 1]]).double()
    rotation = TO_CAMERA @ axis_angle_to_matrix(turns[:batch])
    translation = torch.tensor([[0.0, 0, 10.0]], dtype=torch.float64).expand(batch, 3)
    return PerspectiveCamera(intrinsics.expand(batch, 3, 3), rotation, translation)


def orthographic(batch=2, turns=TURNS):
    centre = torch.tensor([[*CENTRE, 0.0]], dtype=torch.float64).expand(batch, 3)
    rotation = TO_CAMERA @ axis_angle_to_matrix(turns[:batch])
    return AffineCamera.orthographic(torch.full((batch,), 15.0).double(), rotation, centre)


CAMERAS = pytest.mark.parametrize("camera", [pinhole, orthographic])


def ellipsoid(batch=2):
    """Vertices (B,V,3), faces and uv of a ball that is not round; uv as seen from the front."""
    ball, faces = sphere(subdivisions=3)
    vertices = ball * torch.tensor([1.0, 1.2, 0.8], dtype=torch.float64)
    return vertices.expand(batch, -1, -1), faces, (ball[:, :2] + 1) / 2


def maps(batch=2, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(channels, low, high):
        values = torch.rand(batch, channels, side, side, generator=generator).double()
        return low + (high - low) * values

    return Material(draw(3, 0.2, 0.9), draw(1, 0.05, 0.3), draw(1, 0.2, 0.6))


def light(batch=2, bands=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    degree = torch.arange(bands).repeat_interleave(torch.arange(1, 2 * bands, 2))
    values = torch.randn(batch, bands**2, 3, generator=generator).double()
    values = values / (1 + degree.double())[:, None] ** 2
    values[:, 0] = 3.0
    return values


def picture_of(renderer, camera, material=None, radiance=None, **extra):
    batch = len(camera)
    material = maps(batch) if material is None else material
    radiance = light(batch) if radiance is None else radiance
    vertices, faces, uv = ellipsoid(batch)
    return renderer(vertices, faces, uv, camera, SIZE, material, radiance, **extra)


@CAMERAS
def test_white_light_on_white_matter_is_white(camera):
    material = Material(torch.ones(1, 3, 4, 4).double(), torch.zeros(1, 1, 4, 4).double(),
                        torch.full((1, 1, 1, 1), 0.4).double())  # fmt: skip
    found = picture_of(RasterMaterialRenderer(specular="none"), camera(1), material, white())
    covered = found.mask.expand_as(found.image) > 0
    assert 0.2 < found.mask.mean() < 0.9
    assert_close(found.image[covered], torch.ones(int(covered.sum())).double())
    assert not found.image[~covered].any()


def test_sphere_shows_albedo_times_closed_form_irradiance():
    ball, faces = sphere(subdivisions=5)
    albedo = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    diffuse = albedo.view(1, 3, 1, 1).expand(1, 3, 8, 8)
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    material = Material(diffuse, nothing, nothing[..., :1, :1] + 0.4)
    radiance = light(1)
    found = RasterMaterialRenderer(specular="none")(
        ball[None], faces, (ball[:, :2] + 1) / 2, orthographic(1), SIZE, material, radiance
    )
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    x, y = (columns.double() - CENTRE[0]) / 15, (rows.double() - CENTRE[1]) / 15
    inside = x**2 + y**2 < 0.9
    normals = torch.stack([x, y, -(1 - x**2 - y**2).clamp(min=0).sqrt()], dim=-1)[inside]
    expected = albedo * ((sh_basis(normals, 9) * lambert_factors(9)) @ radiance[0]) / math.pi
    error = (found.image[0][:, inside].mT - expected).abs() / expected.abs()
    assert error.mean() < 0.002
    assert error.max() < 0.02  # flat faces near the edge


@CAMERAS
@pytest.mark.parametrize("specular", ["prefiltered", "quadrature"])
def test_batch_equals_one_by_one(camera, specular):
    renderer = RasterMaterialRenderer(specular=specular, lobe_samples=8)
    together, material, radiance = camera(), maps(), light()
    both = picture_of(renderer, together, material, radiance)
    for row in range(2):
        one = slice(row, row + 1)
        single = picture_of(
            renderer, together.map(lambda part: part[one]), material.map(lambda m: m[one]),  # noqa: B023
            radiance[one],
        )  # fmt: skip
        assert torch.equal(single.mask, both.mask[one])
        assert_close(single.image, both.image[one])


@CAMERAS
def test_mirrored_scene_gives_the_mirrored_picture(camera):
    vertices, faces, uv = ellipsoid()
    vertices = vertices + 0.1 * vertices.square()  # not symmetric
    flip = torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    material, radiance, seen = maps(), light(), camera()
    renderer = RasterMaterialRenderer(clamp_light=True)
    picture = renderer(vertices, faces, uv, seen, SIZE, material, radiance).image
    reflect = torch.diag(flip)
    if isinstance(seen, PerspectiveCamera):
        seen.rotation = reflect @ seen.rotation @ reflect
    else:
        move = torch.tensor([[2 * CENTRE[0]], [0.0], [0.0]], dtype=torch.float64)
        turned = reflect @ seen.matrix
        turned[:, :, :3] = turned[:, :, :3] @ reflect
        turned[:, :, 3:] += move
        seen = AffineCamera(turned)
    uv = torch.stack([1 - uv[:, 0], uv[:, 1]], dim=1)
    mirrored = renderer(
        vertices * flip, faces.flip(1), uv, seen, SIZE, material.map(lambda m: m.flip(3)),
        mirror_sh(radiance),
    ).image  # fmt: skip
    assert_close(mirrored, picture.flip(3), atol=1e-7)


def test_camera_that_mirrors_needs_mirrored_light_alone():
    flip = torch.eye(3, dtype=torch.float64)
    flip[0, 0], flip[0, 2] = -1, 2 * CENTRE[0]
    transfer = sh_basis(torch.nn.functional.normalize(ellipsoid()[0][0], dim=1), 9)
    for extra in ({}, {"transfer": transfer}):
        renderer, seen = RasterMaterialRenderer(), orthographic()
        picture = picture_of(renderer, seen, radiance=light(), **extra).image
        mirrored = picture_of(
            renderer, seen.warped(flip.expand(2, 3, 3)), radiance=mirror_sh(light()), **extra
        ).image
        assert_close(mirrored, picture.flip(3), atol=1e-7)


@CAMERAS
@pytest.mark.parametrize("specular", ["none", "prefiltered"])
def test_head_light_and_camera_turned_about_the_axis_turn_the_picture(camera, specular):
    renderer, square = RasterMaterialRenderer(specular=specular), (40, 40)
    vertices, faces, uv = ellipsoid()
    centred = camera()
    shift = torch.eye(3, dtype=torch.float64)
    shift[0, 2] = 19.5 - CENTRE[0]
    centred = centred.warped(shift.expand(2, 3, 3))
    picture = renderer(vertices, faces, uv, centred, square, maps(), light()).image
    quarter = axis_angle_to_matrix(torch.tensor([[0.0, 0, math.pi / 2]], dtype=torch.float64))
    quarter = quarter.expand(2, 3, 3)
    if isinstance(centred, PerspectiveCamera):
        centred.rotation = quarter @ centred.rotation
    else:
        home = centred.matrix[:, :, 3:].clone()
        centred.matrix = torch.cat([quarter @ centred.matrix[:, :, :3], home], dim=2)
    turned = renderer(
        vertices, faces, uv, centred, square, maps(), rotate_sh(light(), quarter)
    ).image
    # x right to y down: clockwise on the screen. The baked maps have another grid in each.
    difference = (turned - picture.rot90(-1, (2, 3))).abs()
    assert difference.mean() < 2e-3 * picture.mean()
    assert difference.max() < 0.02 * picture.max()


def test_open_sky_transfer_is_the_unshadowed_picture_in_any_pose():
    vertices, faces, uv = ellipsoid()
    transfer = sh_basis(vertex_normals(vertices[:1], faces)[0], 9) * lambert_factors(9)
    for camera in (pinhole(), orthographic()):
        plain = picture_of(RasterMaterialRenderer(), camera)
        for extra in (transfer, transfer.expand(2, -1, -1), torch.ones(len(uv), 1)):
            found = picture_of(RasterMaterialRenderer(), camera, transfer=extra)
            assert (found.image - plain.image).abs().max() < 0.01 * plain.image.max()


def test_transfer_and_ambient_occlusion_darken_the_diffuse_part_alone():
    material = maps()
    transfer = torch.zeros(len(ellipsoid()[2]), 81, dtype=torch.float64)
    nothing = Material(0 * material.diffuse, material.specular, material.roughness)
    renderer = RasterMaterialRenderer()
    lobe = picture_of(renderer, pinhole(), nothing).image
    for occlusion in (transfer, transfer[:, :1]):
        found = picture_of(renderer, pinhole(), material, transfer=occlusion).image
        assert_close(found, lobe)


def test_quadrature_and_prefiltered_lobes_agree_on_mild_light():
    # Rough, and not at the rim: there the prefiltered lobe is round and the true one is not.
    material = maps()
    first, second = (
        picture_of(RasterMaterialRenderer(specular=name, lobe_samples=64), pinhole(), material)
        for name in ("prefiltered", "quadrature")
    )
    relative = ((first.image - second.image).abs() / first.image.abs().clamp(min=1e-3))[
        first.mask.expand_as(first.image) > 0
    ]
    assert relative.median() < 0.02


def test_one_roughness_equals_a_map_of_it():
    material = maps()
    one = Material(material.diffuse, material.specular, torch.full((2, 1, 1, 1), 0.4).double())
    many = Material(material.diffuse, material.specular, torch.full((2, 1, 16, 16), 0.4).double())
    first, second = (picture_of(RasterMaterialRenderer(), pinhole(), m).image for m in (one, many))
    assert (first - second).abs().max() < 0.01 * first.max()


@pytest.mark.parametrize("specular", ["prefiltered", "quadrature"])
def test_clamped_light_never_darkens(specular):
    radiance = light()
    radiance[:, 2] += 4.0  # from below, and negative from above
    dark, clamped = (
        picture_of(RasterMaterialRenderer(specular=specular, clamp_light=clamp), pinhole(),
                   radiance=radiance).image
        for clamp in (False, True)
    )  # fmt: skip
    assert (clamped - dark).min() > -0.01 * clamped.max()
    assert (clamped - dark).max() > 0.1 * clamped.max()


def test_gradients_equal_finite_differences_inside_the_silhouette(monkeypatch):
    vertices, faces, uv = ellipsoid(1)
    smooth = torch.linspace(0.2, 0.8, 16, dtype=torch.float64)
    ramp = smooth[:, None] * smooth
    material = Material(ramp.expand(1, 3, 16, 16), 0.3 * ramp.expand(1, 1, 16, 16),
                        0.3 + 0.4 * ramp.expand(1, 1, 16, 16))  # fmt: skip
    base = pinhole(1, TURNS[1:])
    found = material_renderer.rasterize(base.project(vertices), faces, SIZE, perspective=True)
    interior = -torch.nn.functional.max_pool2d(
        -(found >= 0).double()[:, None], 5, stride=1, padding=2
    )
    # Which face a pixel shows is not differentiable: hold it.
    monkeypatch.setattr(material_renderer, "rasterize", lambda *_, **__: found)

    def loss(shift, turn, zoom, move, diffuse, rough, radiance):
        camera = PerspectiveCamera(
            base.intrinsics * torch.stack([zoom, zoom, torch.ones_like(zoom)])[:, None],
            axis_angle_to_matrix(turn[None]) @ base.rotation,
            base.translation + move,
        )
        maps_now = Material(
            material.diffuse * diffuse, material.specular, material.roughness * rough
        )
        picture = RasterMaterialRenderer()(
            vertices + shift * vertices.square(), faces, uv, camera, SIZE, maps_now,
            light(1) * radiance,
        )  # fmt: skip
        return (picture.image * interior).square().mean() * 100

    start = [torch.zeros(3), torch.zeros(3), torch.tensor(1.0), torch.zeros(3),
             torch.ones(1), torch.ones(1), torch.ones(1, 1, 3)]  # fmt: skip
    start = [value.double().requires_grad_() for value in start]
    gradients = torch.autograd.grad(loss(*start), start)
    for index, gradient in enumerate(gradients):
        for place in range(gradient.numel()):
            step = torch.zeros(gradient.numel(), dtype=torch.float64)
            step[place] = 1e-4
            step = step.view_as(gradient)
            ends = []
            for sign in (1, -1):
                moved = [value.detach() for value in start]
                moved[index] = moved[index] + sign * step
                ends.append(loss(*moved))
            expected = (ends[0] - ends[1]) / 2e-4
            # Bilinear maps have kinks that a step may cross.
            scale = gradient.detach().abs().max()
            assert abs(gradient.flatten()[place] - expected) < 0.02 * scale + 1e-6


def test_gradients_reach_everything_in_float32():
    leaves = {}

    def leaf(name, value):
        leaves[name] = value.detach().float().clone().requires_grad_()
        return leaves[name]

    vertices, faces, uv = ellipsoid()
    base, material = pinhole(), maps()
    camera = PerspectiveCamera(
        leaf("intrinsics", base.intrinsics), leaf("rotation", base.rotation),
        leaf("translation", base.translation),
    )  # fmt: skip
    maps_now = Material(
        leaf("diffuse", material.diffuse), leaf("specular", material.specular),
        leaf("roughness", material.roughness),
    )  # fmt: skip
    picture = RasterMaterialRenderer()(
        leaf("vertices", vertices),
        faces,
        uv.float(),
        camera,
        SIZE,
        maps_now,
        leaf("light", light()),
    )  # fmt: skip
    assert picture.image.dtype == torch.float32
    picture.image.square().mean().backward()
    for name, value in leaves.items():
        assert value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


def test_picture_in_float32_is_that_in_float64():
    vertices, faces, uv = ellipsoid()
    fine = picture_of(RasterMaterialRenderer(), pinhole())
    coarse = RasterMaterialRenderer()(
        vertices.float(), faces, uv.float(), pinhole().map(torch.Tensor.float), SIZE,
        maps().map(torch.Tensor.float), light().float(),
    )  # fmt: skip
    assert_close(coarse.image, fine.image.float(), atol=2e-4, rtol=0)


def test_nothing_in_view_is_a_black_picture():
    camera = pinhole()
    camera.translation = camera.translation + torch.tensor([100.0, 0, 0])
    found = picture_of(RasterMaterialRenderer(), camera)
    assert found.image.shape == (2, 3, *SIZE)
    assert not found.image.any()
    assert not found.mask.any()


def test_no_light_is_black_and_has_gradients():
    radiance = torch.zeros(2, 81, 3, dtype=torch.float64, requires_grad=True)
    found = picture_of(RasterMaterialRenderer(), pinhole(), radiance=radiance)
    assert not found.image.any()
    found.image.sum().backward()
    assert radiance.grad[:, 0].min() > 0


def test_bad_input_is_named():
    renderer, camera = RasterMaterialRenderer(), pinhole()
    with pytest.raises(ValueError, match="'prefiltered', 'quadrature' or 'none'"):
        RasterMaterialRenderer(specular="phong")
    with pytest.raises(ValueError, match="lobe_samples should be at least 1"):
        RasterMaterialRenderer(lobe_samples=0)
    broken = light()
    broken[1, 3, 0] = torch.nan
    with pytest.raises(ValueError, match="light should be finite"):
        picture_of(renderer, camera, radiance=broken)
    with pytest.raises(ValueError, match="found K = 10"):
        picture_of(renderer, camera, radiance=light()[:, :10])
    with pytest.raises(ValueError, match=r"light should be \(2,K,3\)"):
        picture_of(renderer, camera, radiance=light()[:1])
    with pytest.raises(ValueError, match=r"material.diffuse should be \(2,3,S,S\)"):
        picture_of(renderer, camera, material=maps(1))
    with pytest.raises(ValueError, match="transfer should be"):
        picture_of(renderer, camera, transfer=torch.ones(5, 81))
    vertices, faces, uv = ellipsoid()
    with pytest.raises(ValueError, match="uv should be"):
        renderer(vertices, faces, uv[:-1], camera, SIZE, maps(), light())
