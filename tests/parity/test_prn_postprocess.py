"""PRNet's processing after the network: unwarp, colours, texture, visibility, depth, OBJ text."""

import json
import time

import cv2
import numpy as np
import pytest
import torch

from lit_face.geometry.meshes import grid_faces
from lit_face.methods.prn.postprocess import (
    box_depth_buffer,
    depth_image,
    prnet_visibility,
    render_flat,
    texture,
    unwarp,
    uv_visibility_mask,
    vertex_colors,
    write_prnet_obj,
)
from lit_face.methods.prn.reader import PositionMapReader
from tests.helpers.tolerances import assert_close

Z_AWAY = torch.tensor([1.0, 1, -1])  # PRNet's z points towards the viewer
PIXELS = {"atol": 1e-4, "rtol": 0}  # the reference computes crop boxes in float32


@pytest.fixture(scope="module")
def uv_data(reference):
    return np.load(reference / "prn" / "uv_data.npz")


@pytest.fixture(scope="module")
def reader(uv_data):
    """PRNet's layout, with its landmark texels."""
    mask = torch.as_tensor(uv_data["uv_face_mask"] > 0)
    columns, rows = torch.as_tensor(uv_data["uv_kpt_ind"]).long()
    texels = torch.as_tensor(uv_data["face_ind"]).long()
    landmarks = torch.searchsorted(texels, rows * 256 + columns)[:, None].expand(68, 4)
    canonical = torch.as_tensor(uv_data["canonical_vertices"]) * torch.tensor([1.0, -1, 1])
    weights = torch.tensor([1.0, 0, 0, 0]).expand(68, 4)
    return PositionMapReader.of_arrays(mask, canonical, (landmarks, weights), {}, "normalised")


@pytest.fixture(scope="module")
def process(reference):
    return np.load(reference / "prn" / "prn_process.npz")


def face_in_photo(process, face):
    maps = torch.as_tensor(process[f"kpt{face}_cropped_pos"]).permute(2, 0, 1)[None].double()
    return unwarp(maps, torch.as_tensor(process[f"kpt{face}_tform"])[None])


def photo(reference, process, face):
    name = str(process[f"kpt{face}_image"])
    file = next((reference / "prn" / "samples" / "AFLW2000").glob(f"{name}*.jpg"))
    return torch.as_tensor(cv2.imread(str(file))[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("face", [0, 1])
def test_position_map_in_the_photo(process, reader, face):
    maps = face_in_photo(process, face)
    assert_close(maps[0].permute(1, 2, 0)[::8, ::8], process[f"kpt{face}_pos_sub"], **PIXELS)
    found = reader(maps)
    assert_close(found.landmarks[0] * Z_AWAY, process[f"kpt{face}_landmarks"], **PIXELS)
    rows = torch.as_tensor(process[f"kpt{face}_vertices_sub_idx"])
    vertices = found.image_vertices[0, rows] * Z_AWAY
    assert_close(vertices, process[f"kpt{face}_vertices_sub"], **PIXELS)


@pytest.mark.parametrize("face", [0, 1])
def test_colours_and_textures(reference, process, reader, face):
    image, maps = photo(reference, process, face), face_in_photo(process, face)
    points = reader(maps).image_vertices
    rows = torch.as_tensor(process[f"kpt{face}_vertices_sub_idx"])
    # JPEG decoders differ by a few grey levels. Two points in a thousand lie within 1e-4 px of the
    # border between two pixels.
    found = vertex_colors(image, points)[0, rows]
    expected = torch.as_tensor(process[f"kpt{face}_colors_sub"])
    assert ((found - expected).abs() > 4 / 255).any(-1).float().mean() < 2e-3
    for mode, name, share in (
        ("nearest", "tex_nearest_u8", 1e-4),
        ("bilinear", "tex_linear_u8", 5e-3),  # OpenCV reads at 1/32 px
    ):
        found = texture(image.double(), maps, mode)[0].permute(1, 2, 0) * 255
        worst = (found - torch.as_tensor(process[f"kpt{face}_{name}"]).double()).abs().amax(-1)
        assert (worst > 1.01).double().mean() < share
        assert worst.max() < 5


@pytest.fixture(scope="module", params=["v0", "v1"])
def posed(request, reference):
    arrays = np.load(reference / "prn" / "prn_postprocess.npz")
    picked = {n[3:]: arrays[n] for n in arrays.files if n.startswith(f"{request.param}_")}
    points = torch.as_tensor(picked["vertices"])[None].double() * Z_AWAY
    return picked, points, tuple(int(side) for side in picked["hw"])


@pytest.fixture(scope="module")
def triangles(uv_data):
    return torch.as_tensor(uv_data["triangles_grid"]).long()


def unpacked(bits, count):
    return np.unpackbits(bits)[:count].astype(bool)


def test_visibility_of_vertices_and_texels(posed, triangles, uv_data):
    golden, points, size = posed
    for dilations, name in ((0, "vis_raw"), (2, "vis")):
        seen = prnet_visibility(points, triangles, size, dilations)
        assert np.array_equal(seen[0], unpacked(golden[name], points.shape[1]))
    texels = torch.as_tensor(uv_data["face_ind"]).long()
    mask = uv_visibility_mask(seen, texels, triangles, 256)
    assert np.array_equal(mask[0].flatten(), unpacked(golden["uv_mask"], 256 * 256))


def test_depth_and_flat_triangles(posed, triangles):
    golden, points, size = posed
    buffer = box_depth_buffer(points, triangles, size)[0]
    assert_close(buffer, golden["depth_buffer_bbox"], **PIXELS)
    assert_close(depth_image(points, triangles, size)[0, 0], golden["depth"], **PIXELS)
    shown = depth_image(points, triangles, size, to_one=True)[0, 0]
    assert_close(shown, golden["depth_show"], **PIXELS)
    colors = torch.as_tensor(golden["colors"])[None]
    drawn = render_flat(points, triangles, colors, size)
    assert np.array_equal(drawn.face_index[0], golden["triangle_buffer"])
    assert_close(drawn.image[0].permute(1, 2, 0), golden["render_texture"], **PIXELS)


def test_no_python_loops_over_triangles(posed, triangles):
    """PRNet's loops take seconds (issues 30, 160)."""
    _, points, size = posed
    prnet_visibility(points, triangles, size)  # compiles
    start = time.process_time()
    prnet_visibility(points, triangles, size)
    assert time.process_time() - start < 0.25  # 25 ms alone on a core


def test_grid_of_the_whole_layout(uv_data, triangles, reader):
    assert torch.equal(reader.faces, triangles)
    assert torch.equal(reader.faces, grid_faces(torch.as_tensor(uv_data["uv_face_mask"] > 0)))


def test_obj_text(reference, tmp_path):
    golden = json.loads((reference / "prn" / "obj_text.json").read_text())
    mesh = [np.array(golden[name]) for name in ("vertices", "triangles")]
    write_prnet_obj(tmp_path / "a.obj", *mesh, colors=np.array(golden["colors"]))
    assert (tmp_path / "a.obj").read_text() == golden["obj_with_colors"]
    picture = np.zeros((4, 4, 3), np.uint8)
    for absolute, folder in ((True, str(tmp_path.resolve())), (False, None)):
        write_prnet_obj(
            tmp_path / "b.obj", *mesh, uv=np.array(golden["uv"]), texture_picture=picture,
            absolute=absolute,
        )  # fmt: skip
        for name, key in (("b.obj", "obj_with_texture"), ("b.mtl", "mtl")):
            expected = golden[key].replace("<ABS>/", f"{folder}/" if folder else "")
            assert (tmp_path / name).read_text() == expected
    assert (tmp_path / "b_texture.png").is_file()
