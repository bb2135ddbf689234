"""Files read back by other readers show the face that was written, and the photo on it."""

import json

import cv2
import numpy as np
import pytest
import torch
import trimesh

from lit_face.geometry.sampling import sample_image
from lit_face.inference.outputs import OUTPUTS, Export, ExportSettings, check_outputs, write_photo
from lit_face.inference.outputs.depth import depth_image
from lit_face.inference.textures import file_uv, photo_colors
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from tests.helpers.photos import portraits, true_faces

SIZE = 240
ANGLES = [[0, 0, 0], [5, 45, -10], [-8, -65, 12]]


@pytest.fixture(scope="module")
def scene():
    pictures, _, coefficients, camera, skin = portraits(ANGLES, SIZE)
    return pictures, true_faces(coefficients, camera, (SIZE, SIZE)), skin


def export_of(scene, row=0, **settings):
    return Export(scene[1][row], scene[0][row], ExportSettings(**settings))


def read_elsewhere(path):
    """Return vertices, faces, uv and texture as trimesh reads them."""
    model = trimesh.load_mesh(path, process=False, maintain_order=True)
    model = model.to_mesh() if isinstance(model, trimesh.Scene) else model
    material = model.visual.material
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    vertices, faces = np.asarray(model.vertices, np.float32), np.asarray(model.faces)
    return vertices, faces, np.asarray(model.visual.uv), np.asarray(image.convert("RGB"))


def shown(vertices, faces, uv, texture, photo_height):
    """Draw a textured mesh as a viewer does: texel i of n spans i/n to (i+1)/n, v points up."""
    points = torch.from_numpy(vertices * (1, -1, -1) + (0, photo_height - 1, 0)).float()[None]
    faces = torch.from_numpy(faces).long()
    face_index = rasterize(points, faces, (SIZE, SIZE))
    fragments = fragments_of(points, faces, face_index)
    at = fragments.interpolate(torch.from_numpy(uv).float()[None])
    height, width = texture.shape[:2]
    texels = torch.stack([at[:, 0] * width - 0.5, (1 - at[:, 1]) * height - 0.5], dim=1)
    image = torch.from_numpy(texture.copy()).permute(2, 0, 1)[None].float() / 255
    return sample_image(image, texels[None], padding="border")[0].T, fragments


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("kind", ["obj", "glb"])
def test_the_textured_mesh_over_the_photo_is_the_photo(scene, tmp_path, kind, row):
    """Within 2 % masked L1 on visible skin (issue: 'must show' 3); reached: below 1 %."""
    OUTPUTS[kind](export_of(scene, row), tmp_path)
    colors, fragments = shown(*read_elsewhere(tmp_path / f"mesh.{kind}"), SIZE)
    photo = torch.from_numpy(scene[0][row]).view(-1, 3)[fragments.pixel] / 255
    visibility = scene[1][row].reconstruction.visibility[:, :, None]
    seen = fragments.interpolate(visibility)[:, 0] > 0.99
    skin = scene[2][row].flatten()[fragments.pixel] > 0.99
    assert (seen & skin).sum() > 2000
    assert (colors - photo).abs()[seen & skin].mean() < 0.01


@pytest.mark.parametrize("kind", ["obj", "glb"])
def test_geometry_uv_and_picture_survive(scene, tmp_path, kind):
    export = export_of(scene, 1, texture_size=128)
    OUTPUTS[kind](export, tmp_path)
    vertices, faces, uv, texture = read_elsewhere(tmp_path / f"mesh.{kind}")
    mesh = export.mesh(with_texture=True)
    assert np.array_equal(texture, export.texture.image)
    if kind == "glb":
        assert np.array_equal(vertices, mesh.vertices)
        assert np.array_equal(faces, mesh.faces)
        assert np.allclose(uv, mesh.uv, atol=1e-6)
    else:  # trimesh renumbers what it reads from .obj
        assert np.abs(vertices[faces] - mesh.vertices[mesh.faces]).max() < 1e-4
        assert np.abs(uv[faces] - mesh.uv[mesh.faces]).max() < 1e-6
    ours = read_mesh(tmp_path / f"mesh.{kind}")
    assert np.abs(ours.vertices - mesh.vertices).max() < 1e-4
    assert np.array_equal(ours.faces, mesh.faces)


@pytest.mark.filterwarnings("ignore:pygltf.utils.validator")
def test_the_glb_follows_its_format(scene, tmp_path):
    gltf = pytest.importorskip("pygltflib")
    from pygltflib.validator import validate

    for color in ("texture", "vertex"):
        OUTPUTS["glb"](export_of(scene, mesh_color=color), tmp_path)
        content = gltf.GLTF2().load(str(tmp_path / "mesh.glb"))
        validate(content)
        (primitive,) = content.meshes[0].primitives
        names = {"texture": "TEXCOORD_0", "vertex": "COLOR_0"}
        assert getattr(primitive.attributes, names[color]) is not None
        data = content.binary_blob()
        assert content.buffers[0].byteLength <= len(data) < content.buffers[0].byteLength + 4
        for view in content.bufferViews:
            assert view.byteOffset % 4 == 0
            assert view.byteOffset + view.byteLength <= len(data)
        accessor = content.accessors[primitive.attributes.NORMAL]
        start = content.bufferViews[accessor.bufferView].byteOffset
        normals = np.frombuffer(data, "<f4", accessor.count * 3, start).reshape(-1, 3)
        assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
        assert normals[:, 2].mean() > 0.5  # out of the face, towards the viewer
        surface = content.materials[0].pbrMetallicRoughness
        assert (surface.metallicFactor, surface.roughnessFactor) == (0.0, 1.0)
        size = (tmp_path / "mesh.glb").stat().st_size
        assert int.from_bytes((tmp_path / "mesh.glb").read_bytes()[8:12], "little") == size


def test_colours_of_vertices_are_the_photos(scene, tmp_path):
    export = export_of(scene, mesh_color="vertex")
    points = np.rint(export.face.points[:, :2]).astype(int)
    for kind in ("ply", "obj", "glb"):
        OUTPUTS[kind](export, tmp_path)
        found = read_mesh(tmp_path / f"mesh.{kind}").colors
        assert np.abs(found - export.colors).max() < 0.003
    nearest = scene[0][0][points[:, 1], points[:, 0]] / 255
    assert np.abs(export.colors - nearest).mean() < 0.01
    model = trimesh.load_mesh(tmp_path / "mesh.ply", process=False)
    assert np.abs(model.visual.vertex_colors[:, :3] / 255 - export.colors).max() < 0.003


def test_frontal_meshes_have_no_pose_and_the_models_unit(scene):
    for row in range(3):
        frontal = export_of(scene, row, pose="frontal").vertices
        assert np.array_equal(frontal, scene[1][row].reconstruction.vertices[0].numpy())
        width = np.ptp(frontal[:, 0])
        assert 110 < width < 200  # mm
        nose = frontal[frontal[:, 2].argmax()]
        assert abs(nose[0]) < 8  # in the middle, whatever the pose in the photo


@pytest.mark.parametrize("size", [64, 300])
def test_textures_of_any_size_and_blank_texels(scene, size):
    plain, blank = (
        export_of(scene, 2, texture_size=size, blank_invisible=b).texture for b in (False, True)
    )
    assert plain.image.shape == (size, size, 3)
    hidden = plain.covered & ~plain.visible
    assert 0.2 < hidden.sum() / plain.covered.sum() < 0.7
    assert (blank.image[hidden] == 0).all()
    assert np.array_equal(blank.image[plain.visible], plain.image[plain.visible])
    assert plain.image[plain.visible].mean() > 30


def test_file_uv_puts_texel_centres_where_viewers_look():
    assert np.allclose(file_uv(np.array([[0, 1]]), 4), [[0.5 / 4, 3.5 / 4]])


def test_colours_are_read_with_means_where_points_are_far_apart():
    checks = (np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, 2)
    grid = torch.cartesian_prod(torch.arange(10, 390, 8.0), torch.arange(10, 390, 8.0))
    assert (photo_colors(checks, grid, spacing=8.0) - 0.5).abs().max() < 0.01
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(256, 0).repeat(3, 2)
    points = torch.tensor([[100.5, 3.0], [-50, 10], [999, 999]])
    assert torch.allclose(photo_colors(ramp, points)[:, 0] * 255, torch.tensor([100.5, 0, 255]))


def test_depth_images(scene, tmp_path):
    export = export_of(scene, 1)
    OUTPUTS["depth"](export, tmp_path)
    levels = cv2.imread(str(tmp_path / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16
    facts = json.loads((tmp_path / "depth.json").read_text())
    window, top, left = depth_image(export)
    depth, inside = np.full((SIZE, SIZE), np.nan), levels > 0
    depth[top : top + window.shape[0], left : left + window.shape[1]] = window
    assert np.array_equal(inside, np.isfinite(depth))
    found = facts["nearest_px"] + facts["step_px"] * (levels[inside].astype(float) - 1)
    assert np.abs(found - depth[inside]).max() < 0.01
    x, y, nearest = export.face.points[export.face.points[:, 2].argmin()]
    assert depth[round(float(y)), round(float(x))] == pytest.approx(nearest, abs=1.0)
    view = read_image(tmp_path / "depth_view.png")[:, :, 0]
    assert view[levels == 1].min() == 255  # near is white
    assert view[~inside].max() == 0


def test_numbers(scene, tmp_path):
    export = export_of(scene, 1)
    for kind in ("landmarks", "points", "pose"):
        OUTPUTS[kind](export, tmp_path)
    landmarks = json.loads((tmp_path / "landmarks.json").read_text())
    assert np.allclose(landmarks["landmarks"], export.face.landmarks, atol=1e-3)
    assert len(landmarks["visibility"]) == 68
    pose = json.loads((tmp_path / "pose.json").read_text())
    linear = np.array(pose["camera_matrix"])[:, :3]
    upright = np.diag([1, -1, -1]) @ linear / pose["scale_px_per_unit"]
    assert np.allclose(upright, pose["rotation"], atol=1e-4)
    arrays = np.load(tmp_path / "points.npz")
    assert arrays["visibility"].shape == (len(arrays["image_vertices"]),)
    assert str(arrays["unit"]) == "mm"


def test_the_overlay_shows_every_face(scene, tmp_path):
    faces = [export_of(scene, 0), export_of(scene, 0)]
    assert write_photo(faces, ["overlay", "pose"], tmp_path) == ["face1", "face2"]
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.*")) == [
        "face1/pose.json", "face2/pose.json", "overlay.jpg",
    ]  # fmt: skip
    drawn, photo = read_image(tmp_path / "overlay.jpg").astype(int), scene[0][0].astype(int)
    x, y = np.rint(faces[0].face.landmarks[30, :2]).astype(int)  # the tip of the nose
    assert np.abs(drawn[y, x] - photo[y, x]).max() > 30
    assert np.abs(drawn[:20] - photo[:20]).mean() < 4


def test_what_is_refused():
    with pytest.raises(ValueError, match="did you mean 'landmarks'"):
        check_outputs(["landmark"])
    with pytest.raises(ValueError, match="a list"):
        check_outputs("obj")
    with pytest.raises(ValueError, match="texture_size"):
        ExportSettings(texture_size=1)
    with pytest.raises(ValueError, match="mesh_color"):
        ExportSettings(mesh_color="both")
