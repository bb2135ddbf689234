"""Colours of vertices as files, read back by other means."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from lit_face.geometry.similarity2d import apply_similarity
from lit_face.inference.outputs import OUTPUTS, Export, ExportSettings, check_outputs, write_photo
from lit_face.inference.scene import crop_of
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.rendering.renderer import RasterRenderer
from lit_face.rendering.visibility import vertex_visibility
from tests.helpers.lit_photos import lit_photos

NAMES = ("refined", "comparison")
SIZE = 256


def with_colors(face, **colors):
    return replace(face, reconstruction=replace(face.reconstruction, vertex_colors=colors))


@pytest.fixture(scope="module")
def export():
    photos, faces = lit_photos(1, size=200, angles_deg=((5.0, 20.0, -4.0),))
    head = faces[0].reconstruction.vertices
    low, high = head.amin(1, keepdim=True), head.amax(1, keepdim=True)
    albedo = (head - low) / (high - low)
    face = with_colors(faces[0], albedo=albedo, coarse_albedo=1.2 - 0.9 * albedo)
    return Export(face, photos[0], ExportSettings(texture_size=128))


@pytest.fixture(scope="module")
def folder(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for name in NAMES:
        OUTPUTS[name](export, folder)
    return folder


@pytest.fixture(scope="module")
def panels(folder):
    picture = read_image(folder / "comparison.png")
    assert picture.shape == (SIZE, 6 * SIZE, 3)
    return [panel / 255 for panel in np.split(picture.astype(float), 6, axis=1)]


def colors(export, name):
    key = {"coarse": "coarse_albedo", "refined": "albedo"}[name]
    return export.face.reconstruction.vertex_colors[key][0].clamp(0, 1).numpy()


def test_every_output_has_its_files(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "coarse.glb", "coarse.obj", "coarse_lit.glb", "coarse_texture.png", "comparison.png",
        "refined.glb", "refined.obj", "refined_lit.glb", "refined_texture.png",
    ]  # fmt: skip
    assert check_outputs(list(NAMES)) == list(NAMES)


@pytest.mark.parametrize("name", ["coarse", "refined"])
def test_colors_of_meshes_come_back(export, folder, name):
    expected = colors(export, name)
    rows = [
        [float(number) for number in line.split()[1:]]
        for line in (folder / f"{name}.obj").read_text().splitlines()
        if line.startswith("v ")
    ]
    rows = np.array(rows)
    assert rows.shape == (len(expected), 6)
    assert np.abs(rows[:, :3] - export.vertices).max() < 1e-4
    assert np.abs(rows[:, 3:] - expected).max() < 1e-4
    shown = trimesh.load(folder / f"{name}.obj", process=False, maintain_order=True)
    assert (
        np.abs(shown.visual.vertex_colors[:, :3] / 255 - expected[: len(shown.vertices)]).max()
        < 0.01
    )
    assert np.abs(read_mesh(folder / f"{name}.glb").colors - expected).max() < 1e-3


def test_lit_colors_are_those_of_the_picture(export, folder):
    """At the vertices that the picture shows, it has their lit colours."""
    face = export.face.reconstruction
    lit = read_mesh(folder / "refined_lit.glb").colors
    size = 512
    matrix = crop_of(face, size)
    camera = face.camera.warped(matrix)
    picture = RasterRenderer()(
        face.vertices, face.faces, camera, (size, size),
        face.vertex_colors["albedo"], face.light,
    )  # fmt: skip
    points = apply_similarity(matrix, face.image_vertices)[0]

    seen = (
        vertex_visibility(picture.image_vertices, face.faces, (size, size), perspective=True)[0] > 0
    )
    column, row = points[seen, :2].round().long().clamp(0, size - 1).T
    there = picture.image[0, :, row, column].T.clamp(0, 1).numpy()
    error = np.abs(there - lit[seen.numpy()]).max(1)
    assert seen.sum() > 1000
    assert np.median(error) < 0.01
    assert np.abs(lit - colors(export, "refined")).mean() > 0.03


@pytest.mark.parametrize("name", ["coarse", "refined"])
def test_textures_hold_the_same_colors(export, folder, name):
    texture = read_image(folder / f"{name}_texture.png")
    assert texture.shape == (128, 128, 3)
    corners = export.face.reconstruction.uv.double().numpy()[export.face.reconstruction.faces]
    values = colors(export, name)[export.face.reconstruction.faces]
    ones = np.ones((*corners.shape[:2], 1))
    area = np.linalg.det(np.concatenate([corners, ones], axis=2))
    proper = np.abs(area) > 1e-9
    inverse = np.linalg.inv(np.concatenate([corners, ones], axis=2)[proper])
    checked = 0
    for column, row in np.random.default_rng(0).integers(0, 128, (150, 2)):
        place = np.array([column / 127, 1 - row / 127, 1])  # corner-aligned
        weights = place @ inverse
        inside = (weights > 1e-3).all(1)
        if inside.sum() == 1:
            expected = weights[inside][0] @ values[proper][inside][0]
            assert np.abs(texture[row, column] / 255 - expected).max() < 0.6 / 255
            checked += 1
    assert checked > 75


def test_panels(export, panels):
    face = export.face.reconstruction
    camera = face.camera.warped(crop_of(face, SIZE))
    photo, coarse, refined, coarse_albedo, albedo, difference = panels
    kwargs = {"vertices": face.vertices, "faces": face.faces, "camera": camera}
    for name, panel, plain in (
        ("coarse_albedo", coarse, coarse_albedo),
        ("albedo", refined, albedo),
    ):
        values = face.vertex_colors[name].clamp(0, 1)
        lit = RasterRenderer()(**kwargs, size=(SIZE, SIZE), colors=values, light=face.light)
        bare = RasterRenderer()(**kwargs, size=(SIZE, SIZE), colors=values)
        inside = lit.mask[0, 0].numpy() > 0
        shown = lit.image[0].permute(1, 2, 0).clamp(0, 1).numpy()
        assert 0.1 < inside.mean() < 0.8
        assert np.abs(panel - shown)[inside].max() < 0.51 / 255
        assert np.array_equal(panel[~inside], photo[~inside])
        expected = bare.image[0].permute(1, 2, 0).clamp(0, 1).numpy()
        assert np.abs(plain - expected).max() < 0.51 / 255
        assert not plain[~inside].any()
    expected = (4 * np.abs(refined - photo)).clip(0, 1)
    assert np.abs(difference - expected).max() < 4.1 / 255
    assert np.abs(coarse - refined)[inside].mean() > 0.05


def test_the_first_panel_is_the_photo(export, panels):
    matrix = crop_of(export.face.reconstruction, SIZE)[0].numpy()
    rng = np.random.default_rng(0)
    for column, row in rng.integers(40, SIZE - 40, (50, 2)):
        x, y = (np.array([column, row]) - matrix[:2, 2]) / matrix[0, 0]
        corner = export.photo[int(y) : int(y) + 2, int(x) : int(x) + 2] / 255.0
        shown = panels[0][row, column]
        assert (shown >= corner.min((0, 1)) - 0.01).all()
        assert (shown <= corner.max((0, 1)) + 0.01).all()


def test_a_face_that_is_not_refined_has_one_set(export, tmp_path):
    only = with_colors(export.face, albedo=export.face.reconstruction.vertex_colors["albedo"])
    write_photo([Export(only, export.photo, export.settings)], list(NAMES), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "albedo.glb", "albedo.obj", "albedo_lit.glb", "albedo_texture.png", "comparison.png",
    ]  # fmt: skip
    assert read_image(tmp_path / "comparison.png").shape == (SIZE, 4 * SIZE, 3)


def test_auto_writes_them_where_there_are_colors(export, tmp_path):
    write_photo([export], ["auto"], tmp_path / "with")
    assert (tmp_path / "with" / "refined.obj").is_file()
    assert (tmp_path / "with" / "comparison.png").is_file()
    bare = replace(
        export.face, reconstruction=replace(export.face.reconstruction, vertex_colors=None)
    )
    write_photo([Export(bare, export.photo)], ["auto"], tmp_path / "without")
    assert not list((tmp_path / "without").glob("*refined*"))
    assert not (tmp_path / "without" / "comparison.png").exists()
    with pytest.raises(ValueError, match=r"outputs: refined and comparison.*\(gcn, deep3d\)"):
        write_photo([Export(bare, export.photo)], ["refined"], tmp_path / "without")


def test_meshes_with_a_color_a_vertex_have_the_albedo(export, tmp_path):
    expected = colors(export, "refined")
    vertex = Export(export.face, export.photo, ExportSettings(mesh_color="vertex"))
    for name in ("obj", "ply", "glb"):
        OUTPUTS[name](vertex, tmp_path)
        assert np.abs(read_mesh(tmp_path / f"mesh.{name}").colors - expected).max() < 0.003
    photo = Export(export.face, export.photo, ExportSettings(mesh_color="photo"))
    OUTPUTS["ply"](photo, tmp_path)
    assert np.abs(read_mesh(tmp_path / "mesh.ply").colors - photo.colors).max() < 0.003
    OUTPUTS["points"](vertex, tmp_path)
    assert np.array_equal(np.load(tmp_path / "points.npz")["colors"], vertex.colors)
