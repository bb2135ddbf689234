import numpy as np
import pytest
import torch

from lit_face.geometry.detailed_mesh import detailed_mesh, tangent_normals
from lit_face.geometry.meshes import face_normals, vertex_normals
from lit_face.geometry.surface_maps import enlarged_maps
from lit_face.io.meshes import Mesh, read_mesh, write_mesh
from tests.helpers.view_sphere import RADIUS, view_sphere

SIDE = 256


@pytest.fixture(scope="module")
def sphere():
    return view_sphere(48, yaws=(0.0,), height=8, width=8)


@pytest.fixture(scope="module")
def bump():
    """A hill of 0.6 mm, right of the middle and above it, and a hole of 0.4 mm below."""
    at = (torch.arange(SIDE) + 0.5) / SIDE
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    hill = 0.6 * torch.exp(-((rows - 0.3) ** 2 + (columns - 0.6) ** 2) / (2 * 0.05**2))
    hole = 0.4 * torch.exp(-((rows - 0.7) ** 2 + (columns - 0.4) ** 2) / (2 * 0.05**2))
    return hill - hole


def test_relief_has_its_size_sign_and_place(sphere, bump):
    position = sphere.position.movedim(0, -1)
    plain = detailed_mesh(position, sphere.mask, None, levels=2)
    mesh = detailed_mesh(position, sphere.mask, bump, levels=2)
    off = mesh.vertices.norm(dim=-1) - plain.vertices.norm(dim=-1)
    assert off.max() == pytest.approx(0.6, abs=0.01)
    assert off.min() == pytest.approx(-0.4, abs=0.01)
    top, bottom = mesh.vertices[off.argmax()] / RADIUS, mesh.vertices[off.argmin()] / RADIUS
    angle = torch.tensor([0.1, -0.1]) * 2.4  # columns 0.6 and 0.4
    torch.testing.assert_close(
        torch.atan2(torch.stack([top[0], bottom[0]]), torch.stack([top[2], bottom[2]])), angle,
        atol=0.03, rtol=0,
    )  # fmt: skip
    assert top[1] > 0.3  # rows go down, y goes up
    assert bottom[1] < -0.3
    torch.testing.assert_close(mesh.uv[off.argmax()], torch.tensor([0.6, 0.7]), atol=0.01, rtol=0)


def test_splitting_rounds_and_does_not_tear(sphere):
    position = sphere.position.movedim(0, -1)
    coarse, fine = (detailed_mesh(position, sphere.mask, None, levels) for levels in (0, 2))
    assert len(fine.faces) == 16 * len(coarse.faces)
    inner = (fine.uv - 0.5).abs().amax(1) < 0.35
    assert (fine.vertices.norm(dim=-1) - RADIUS)[inner].abs().max() < 2e-3  # flat: 25e-3
    edges = torch.stack([fine.faces, fine.faces.roll(-1, 1)], -1).flatten(0, 1)
    directed = torch.unique(edges, dim=0)
    assert len(directed) == len(edges)
    keys = directed[:, 0] * len(fine.vertices) + directed[:, 1]
    back = directed[:, 1] * len(fine.vertices) + directed[:, 0]
    open_edges = directed[~torch.isin(back, keys)]
    on_border = (fine.uv[open_edges.flatten()] - 0.5).abs().amax(1)
    assert on_border.min() > 0.4  # of the mask, nowhere inside
    assert (face_normals(fine.vertices[None], fine.faces)[0] * fine.vertices[fine.faces[:, 0]]).sum(
        1
    ).min() > 0


def test_mirrored_layouts_are_turned(sphere):
    position = sphere.position.flip(-1).movedim(0, -1)
    outward = sphere.normal.flip(-1).movedim(0, -1)
    mesh = detailed_mesh(position, sphere.mask.flip(-1), torch.full((8, 8), 0.5), 1, outward)
    inner = (mesh.uv - 0.5).abs().amax(1) < 0.35
    assert (mesh.vertices.norm(dim=-1) - RADIUS)[inner].min() > 0.48
    outside = face_normals(mesh.vertices[None], mesh.faces)[0]
    assert (outside * mesh.vertices[mesh.faces[:, 0]]).sum(1).min() > 0


def test_units(sphere, bump):
    position = sphere.position.movedim(0, -1)
    mm = detailed_mesh(position, sphere.mask, bump, 1)
    small = detailed_mesh(position / 50, sphere.mask, bump, 1, mm_per_unit=50)
    torch.testing.assert_close(small.vertices * 50, mm.vertices, atol=1e-3, rtol=0)


def test_masks_without_cells(sphere):
    mask = torch.zeros(48, 48)
    mask[10, 10] = 1
    with pytest.raises(ValueError, match="there is no mesh"):
        detailed_mesh(sphere.position.movedim(0, -1), mask)
    with pytest.raises(ValueError, match="0 or more"):
        detailed_mesh(sphere.position.movedim(0, -1), sphere.mask, levels=-1)
    lonely = sphere.mask.clone().bool()
    lonely[1, 1] = True  # a texel without neighbours is no vertex
    mesh = detailed_mesh(sphere.position.movedim(0, -1), lonely, levels=0)
    assert len(mesh.vertices) == int(sphere.mask.sum())


def test_normal_maps_are_the_normals_of_the_relief(sphere, bump):
    surface = enlarged_maps(sphere.position, sphere.normal, sphere.mask, SIDE)
    local = tangent_normals(surface, bump)
    position = surface.position.movedim(0, -1)
    moved = position + surface.normal.movedim(0, -1) * bump[..., None]
    faces = detailed_mesh(position, torch.ones(SIDE, SIDE), levels=0).faces
    want = vertex_normals(moved.reshape(1, -1, 3), faces)[0].view(SIDE, SIDE, 3).movedim(-1, 0)
    inner = surface.mask & (
        torch.nn.functional.avg_pool2d(surface.mask[None].float(), 5, 1, 2)[0] == 1
    )
    cosine = (want * surface.normal).sum(0)[inner]
    assert (local[2][inner] - cosine).abs().max() < 5e-3
    hill = bump.argmax()
    row, column = int(hill // SIDE), int(hill % SIDE)
    assert local[0, row, column + 10] > 0.02  # right of a hill it leans to the right
    assert local[0, row, column - 10] < -0.02
    assert local[1, row - 10, column] > 0.02  # above it, upwards
    assert torch.equal(local[:, 0, 0], torch.tensor([0.0, 0, 1]))
    flat = tangent_normals(surface, torch.zeros_like(bump))
    assert flat[2][inner].min() > 0.999


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_files_hold_texture_and_normal_map(tmp_path, sphere, suffix):
    mesh = detailed_mesh(sphere.position.movedim(0, -1), sphere.mask, levels=0)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    normal_map = np.full((16, 16, 3), (128, 128, 255), np.uint8)
    path = tmp_path / f"face{suffix}"
    write_mesh(
        path, Mesh(mesh.vertices, mesh.faces, mesh.uv, texture=picture, normal_map=normal_map)
    )
    found = read_mesh(path)
    np.testing.assert_allclose(found.uv, mesh.uv, atol=1e-6)
    np.testing.assert_array_equal(found.texture, picture)
    if suffix == ".obj":
        assert "norm face_normal.png" in (tmp_path / "face.mtl").read_text()
        assert (tmp_path / "face_normal.png").is_file()
    else:
        assert b'"normalTexture":{"index":1}' in path.read_bytes()
    with pytest.raises(ValueError, match="normal map needs"):
        Mesh(mesh.vertices, mesh.faces, normal_map=normal_map)
