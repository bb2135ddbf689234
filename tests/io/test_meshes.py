import numpy as np
import pytest
import torch

from lit_face.io.images import write_image
from lit_face.io.materials import Surface
from lit_face.io.meshes import Mesh, read_mesh, write_mesh
from tests.helpers.shapes import sphere
from tests.helpers.tolerances import assert_close

SUFFIXES = (".obj", ".ply", ".glb")


def head():
    vertices, faces = sphere(radius=91.7, subdivisions=2, dtype=torch.float32)
    order = torch.randperm(len(vertices), generator=torch.Generator().manual_seed(0))
    lonely = torch.tensor([[1.0, 2, 3]])  # no face uses it; it must keep its place
    return torch.cat([lonely, vertices[order.argsort()]]), order[faces] + 1


def picture():
    rows, columns = np.meshgrid(np.arange(12), np.arange(20), indexing="ij")
    return np.stack([rows * 20, columns * 12, rows + columns], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_vertices_and_faces_keep_their_order(tmp_path, suffix):
    vertices, faces = head()
    write_mesh(tmp_path / f"a{suffix}", Mesh(vertices, faces))
    found = read_mesh(tmp_path / f"a{suffix}")
    assert_close(found.vertices, vertices)
    assert np.array_equal(found.faces, faces)
    assert found.colors is None
    assert found.texture is None
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_colours_survive_to_eight_bits(tmp_path, suffix):
    vertices, faces = head()
    colors = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(1))
    write_mesh(tmp_path / f"a{suffix}", Mesh(vertices, faces, colors=colors))
    assert_close(read_mesh(tmp_path / f"a{suffix}").colors, colors, atol=0.5 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_uv_and_texture_survive_and_move_with_the_folder(tmp_path, suffix):
    vertices, faces = head()
    uv = torch.rand(len(vertices), 2, generator=torch.Generator().manual_seed(2))
    folder = tmp_path / "before"
    write_mesh(folder / f"a{suffix}", Mesh(vertices, faces, uv, texture=picture()))
    write_mesh(folder / f"b{suffix}", Mesh(vertices, faces, uv, texture=picture()[::-1].copy()))
    found = read_mesh(folder.rename(tmp_path / "after") / f"a{suffix}")
    assert np.array_equal(found.texture, picture())
    assert_close(found.uv, uv, atol=1e-6)
    assert_close(found.vertices, vertices)
    assert np.array_equal(found.faces, faces)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_uv_without_texture_survives(tmp_path, suffix):
    vertices, faces = head()
    uv = torch.rand(len(vertices), 2, generator=torch.Generator().manual_seed(3))
    write_mesh(tmp_path / f"a{suffix}", Mesh(vertices, faces, uv))
    found = read_mesh(tmp_path / f"a{suffix}")
    assert_close(found.uv, uv, atol=1e-6)
    assert np.array_equal(found.faces, faces)
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".obj", ".glb"])
def test_a_surface_changes_nothing_that_readers_see(tmp_path, suffix):
    vertices, faces = head()
    uv = torch.rand(len(vertices), 2, generator=torch.Generator().manual_seed(2))
    specular = np.full((12, 20, 3), 0.05, np.float32)
    surface = Surface(specular, np.full((12, 20), 0.4, np.float32))
    write_mesh(tmp_path / f"a{suffix}", Mesh(vertices, faces, uv, None, picture(), surface))
    found = read_mesh(tmp_path / f"a{suffix}")
    assert np.array_equal(found.texture, picture())
    assert_close(found.uv, uv, atol=1e-6)
    assert_close(found.vertices, vertices)
    assert np.array_equal(found.faces, faces)


def test_texture_from_a_file(tmp_path):
    vertices, faces = head()
    write_image(tmp_path / "skin.png", picture())
    mesh = Mesh(vertices, faces, torch.zeros(len(vertices), 2), texture=tmp_path / "skin.png")
    assert np.array_equal(mesh.texture, picture())


def test_what_a_mesh_refuses():
    vertices, faces = head()
    uv = torch.zeros(len(vertices), 2)
    with pytest.raises(ValueError, match="V > 0"):
        Mesh(vertices[:0], faces)
    with pytest.raises(ValueError, match="F > 0"):
        Mesh(vertices, faces[:0])
    with pytest.raises(ValueError, match="but there are 100"):
        Mesh(vertices[:100], faces)
    with pytest.raises(ValueError, match="uv has 5 rows"):
        Mesh(vertices, faces, uv[:5])
    with pytest.raises(ValueError, match="needs uv"):
        Mesh(vertices, faces, texture=picture())
    with pytest.raises(ValueError, match="not both"):
        Mesh(vertices, faces, uv, vertices, picture())


def test_what_files_refuse(tmp_path):
    vertices, faces = head()
    mesh = Mesh(vertices, faces, torch.zeros(len(vertices), 2), texture=picture())
    with pytest.raises(ValueError, match=r"unknown mesh format '.stl'"):
        write_mesh(tmp_path / "a.stl", mesh)
    with pytest.raises(ValueError, match=r"\.ply holds no texture"):
        write_mesh(tmp_path / "a.ply", mesh)
    with pytest.raises(FileNotFoundError, match="No mesh file"):
        read_mesh(tmp_path / "a.obj")
    assert not list(tmp_path.iterdir())
    for name, content in {
        "points.obj": "v 0 0 0\nv 1 0 0\n",
        "junk.ply": "no",
        "x.glb": "",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=name):
            read_mesh(tmp_path / name)


def test_missing_texture_is_an_error_not_a_plain_mesh(tmp_path):
    vertices, faces = head()
    uv = torch.zeros(len(vertices), 2)
    write_mesh(tmp_path / "a.obj", Mesh(vertices, faces, uv, texture=picture()))
    (tmp_path / "a_texture.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a_texture\.png"):
        read_mesh(tmp_path / "a.obj")
    (tmp_path / "a.mtl").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.mtl"):
        read_mesh(tmp_path / "a.obj")


def test_obj_seams_polygons_and_negative_indices(tmp_path):
    (tmp_path / "a.obj").write_text(
        "# a square of two uv charts, and one vertex that no face uses\n"
        "v 9 9 9 1 0 0\nv 0 0 0 0 1 0\nv 1 0 0 0 0 1\nv 1 1 0 1 1 1\nv 0 1 0 0 0 0\n"
        "vt 0 0\nvt .25 0\nvt .5 0\nvt .75 1\nvt 1 1\n"
        "vn 0 0 1\n"
        "f 2/1/1 3/2/1 4/3/1\nf -4/4/1 -2/3/1 -1/5/1\n"
    )
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.vertices[:5].tolist() == [[9, 9, 9], [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.vertices[5].tolist() == [0, 0, 0]
    assert mesh.faces.tolist() == [[1, 2, 3], [5, 3, 4]]
    assert mesh.uv[[1, 2, 3, 4, 5], 0].tolist() == [0, 0.25, 0.5, 1, 0.75]
    assert mesh.colors[5].tolist() == [0, 1, 0]
    (tmp_path / "b.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    assert read_mesh(tmp_path / "b.obj").faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    (tmp_path / "c.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 7\n")
    with pytest.raises(ValueError, match=r"c\.obj, line 4.*7 names a row"):
        read_mesh(tmp_path / "c.obj")
