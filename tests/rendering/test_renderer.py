import importlib.util
import math

import pytest
import torch

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.pytorch3d import PyTorch3DRenderer, to_pytorch3d_ndc
from lit_face.rendering.renderer import RasterRenderer, build_renderer
from lit_face.rendering.shade import sh_shading
from lit_face.rendering.visibility import vertex_visibility
from tests.helpers.shapes import sphere
from tests.helpers.tolerances import assert_close

TO_CAMERA = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
SIZE = (48, 64)


def affine_camera(scale=20.0, mirrored=False):
    linear = scale * TO_CAMERA.clone()
    centre = torch.tensor([[32.0], [24.0], [500.0]], dtype=torch.float64)
    if mirrored:
        linear[0] *= -1
    return AffineCamera(torch.cat([linear, centre], 1)[None])


def pinhole_camera():
    intrinsics = torch.tensor([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]], dtype=torch.float64)
    translation = torch.tensor([[0.0, 0, 5]], dtype=torch.float64)
    return PerspectiveCamera(intrinsics[None], TO_CAMERA[None], translation)


@pytest.mark.parametrize("mirrored", [False, True])
def test_sphere_under_affine_camera_has_its_closed_form(mirrored):
    vertices, faces = sphere()
    rendering = RasterRenderer()(vertices[None], faces, affine_camera(mirrored=mirrored), SIZE)
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    x, y = (columns.double() - 32) / 20, (rows.double() - 24) / 20
    inside = x**2 + y**2 < 0.97
    assert rendering.mask[0, 0][inside].all()
    assert not rendering.mask[0, 0][x**2 + y**2 > 1].any()
    z = -torch.sqrt((1 - x**2 - y**2).clamp(min=0))
    assert_close(rendering.depth[0, 0][inside], 500 + 20 * z[inside], atol=0.12, rtol=0)
    normals = torch.stack([x, y, z])
    inner = x**2 + y**2 < 0.8
    assert_close(rendering.normals[0][:, inner], normals[:, inner], atol=0.01, rtol=0)


def test_sphere_under_pinhole_camera_has_its_closed_form():
    vertices, faces = sphere()
    rendering = RasterRenderer()(vertices[None], faces, pinhole_camera(), SIZE)
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    rays = torch.stack([(columns - 32) / 100, (rows - 24) / 100, torch.ones(48, 64)]).double()
    squared = (rays**2).sum(0)
    root = 25 - squared * 24  # |t ray - (0, 0, 5)| = 1
    inside = root > 1.5
    depth = (5 - root.clamp(min=0).sqrt()) / squared
    assert_close(rendering.depth[0, 0][inside], depth[inside], atol=5e-3, rtol=0)
    normals = rays * depth - torch.tensor([0.0, 0, 5], dtype=torch.float64).view(3, 1, 1)
    assert_close(rendering.normals[0][:, inside], normals[:, inside], atol=0.01, rtol=0)


def test_constant_white_light_shows_the_albedo():
    vertices, faces = sphere()
    colors = torch.rand(1, len(vertices), 3, generator=torch.Generator().manual_seed(0)).double()
    light = torch.zeros(1, 9, 3, dtype=torch.float64)
    light[:, 0] = math.sqrt(4 * math.pi)
    for linear in (True, False):
        renderer = build_renderer("raster", linear_light=linear)
        scene = (vertices[None], faces, affine_camera(), SIZE, colors)
        assert_close(renderer(*scene, light).image, renderer(*scene).image)


def test_light_from_the_left_brightens_the_left():
    # Radiance 1 + cos(angle to -x): irradiance over pi is 1 + 2/3 n.(-x).
    normals = torch.nn.functional.normalize(torch.randn(1, 30, 3, dtype=torch.float64), dim=-1)
    light = torch.zeros(1, 9, 3, dtype=torch.float64)
    light[:, 0] = math.sqrt(4 * math.pi)
    light[:, 1] = math.sqrt(4 * math.pi / 3)
    expected = 1 - 2 / 3 * normals[..., :1]
    assert_close(sh_shading(normals, light), expected.expand(-1, -1, 3))
    with pytest.raises(ValueError, match="K = 8"):
        sh_shading(normals, light[:, :8])


def test_srgb_curve_and_its_inverse():
    values = torch.linspace(-0.5, 2, 101, dtype=torch.float64)
    assert_close(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
    assert_close(srgb_to_linear(torch.tensor(0.5)), torch.tensor(0.21404114))


@pytest.mark.parametrize(
    "camera", [affine_camera(6.0), pinhole_camera()], ids=["affine", "pinhole"]
)
def test_picture_is_differentiable_in_shape_camera_colour_and_light(camera):
    vertices, faces = sphere(subdivisions=1)
    generator = torch.Generator().manual_seed(3)
    vertices = vertices[None] + 0.01 * torch.randn(1, 42, 3, generator=generator).double()
    colors = 0.2 + 0.6 * torch.rand(1, 42, 3, generator=generator).double()
    light = torch.randn(1, 9, 3, generator=generator).double() * 0.2
    light[:, 0] += 3
    renderer, size = RasterRenderer(), (20, 20)
    camera = camera.map(lambda tensor: tensor.clone())
    camera = camera.warped(  # the sphere's middle fills the frame: no silhouette inside it
        torch.tensor([[[1.0, 0, -22], [0, 1, -14], [0, 0, 1]]], dtype=torch.float64)
        if isinstance(camera, PerspectiveCamera)
        else torch.tensor([[[3.0, 0, -86], [0, 3, -62], [0, 0, 1]]], dtype=torch.float64)
    )
    rendered = renderer(vertices, faces, camera, size, colors, light)
    assert rendered.mask.all()

    def picture(vertices, colors, light, shift):
        moved = camera.warped(
            torch.eye(3, dtype=torch.float64)
            + torch.nn.functional.pad(shift.view(1, 2, 1), (2, 0, 0, 1))
        )
        result = renderer(vertices, faces, moved, size, colors, light)
        assert torch.equal(result.face_index, rendered.face_index)  # steps stay inside triangles
        return (
            result.image[..., ::5, ::5],
            result.depth[..., ::5, ::5],
            result.normals[..., ::5, ::5],
        )

    shift = torch.zeros(2, dtype=torch.float64)
    inputs = [tensor.clone().requires_grad_() for tensor in (vertices, colors, light, shift)]
    assert torch.autograd.gradcheck(picture, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_autocast_changes_nothing():
    vertices, faces = sphere(dtype=torch.float32)
    camera = affine_camera().map(torch.Tensor.float)
    light = torch.ones(1, 9, 3)
    expected = RasterRenderer()(vertices[None], faces, camera, SIZE, light=light)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = RasterRenderer()(vertices[None], faces, camera, SIZE, light=light)
    for name in ("image", "depth", "normals", "image_vertices"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("mirrored", [False, True])
def test_half_of_a_sphere_is_visible_and_a_shield_hides_it(mirrored):
    vertices, faces = sphere()
    camera = affine_camera(mirrored=mirrored)
    flag = torch.tensor([mirrored])
    points = camera.project(vertices)
    seen = vertex_visibility(points, faces, SIZE, mirrored=flag)[0] > 0
    clear = vertices[:, 2].abs() > 0.15
    assert torch.equal(seen[clear], vertices[clear, 2] > 0)

    shield = torch.tensor([[-9.0, -9, 2], [9, -9, 2], [0, 0.0, 2]], dtype=torch.float64)
    both = torch.cat([vertices, shield])
    all_faces = torch.cat([faces, torch.tensor([[0, 1, 2]]) + len(vertices)])
    points = camera.project(both)
    seen = vertex_visibility(points, all_faces, SIZE, mirrored=flag)[0, : len(vertices)] > 0
    hidden = (vertices[:, 1] < -0.15) & (vertices[:, 0].abs() < 0.1)
    assert not seen[hidden].any()
    assert torch.equal(seen[clear & (vertices[:, 1] > 0.1)],
                       vertices[clear & (vertices[:, 1] > 0.1), 2] > 0)  # fmt: skip


def test_vertices_outside_the_picture_are_not_visible():
    vertices, faces = sphere()
    seen = vertex_visibility(affine_camera(scale=60.0).project(vertices), faces, SIZE)[0]
    outside = vertices[:, 1].abs() * 60 > 24.6
    assert outside.any()
    assert not seen[outside].any()


def test_unknown_renderer_and_missing_package_are_explained():
    with pytest.raises(ValueError, match="'raster' or 'pytorch3d'"):
        build_renderer("opengl")
    if importlib.util.find_spec("pytorch3d") is None:
        with pytest.raises(ImportError, match="pip install"):
            build_renderer("pytorch3d")


def test_pytorch3d_coordinates_of_corners_and_centre():
    corners = torch.tensor([[[-0.5, -0.5, 7], [63.5, 47.5, 7], [31.5, 23.5, 7]]])
    expected = torch.tensor([[[64 / 48, 1, 7], [-64 / 48, -1, 7], [0, 0, 7]]])
    assert_close(to_pytorch3d_ndc(corners, (48, 64)), expected)


@pytest.mark.skipif(importlib.util.find_spec("pytorch3d") is None, reason="no pytorch3d")
@pytest.mark.parametrize("camera", [affine_camera(), pinhole_camera()], ids=["affine", "pinhole"])
def test_pytorch3d_shows_the_same_picture(camera):
    vertices, faces = sphere(dtype=torch.float32)
    off_centre = torch.eye(3).double()[None]  # no pixel centre on an edge, where rules may differ
    off_centre[:, :2, 2] = torch.tensor([0.137, -0.291])
    camera = camera.warped(off_centre).map(torch.Tensor.float)
    ours = RasterRenderer()(vertices[None], faces, camera, SIZE)
    theirs = PyTorch3DRenderer()(vertices[None], faces, camera, SIZE)
    assert (ours.face_index != theirs.face_index).float().mean() < 1e-3
    assert_close(theirs.normals, ours.normals, atol=0.01, rtol=0)
