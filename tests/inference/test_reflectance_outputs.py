"""Albedo maps, light and pictures as files, read back by other means."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.inference.outputs import OUTPUTS, Export, ExportSettings, check_outputs, write_photo
from lit_face.inference.outputs.reflectance import TURNS_DEG, YAWS_DEG
from lit_face.inference.textures import file_uv
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.rendering.color import srgb_to_linear
from tests.helpers.lit_photos import lit_photos
from tests.helpers.photos import portraits, true_faces

NAMES = ("maps", "light", "strip", "relit", "reposed")
CROP = 256


@pytest.fixture(scope="module")
def export():
    photos, faces = lit_photos(1, size=160, angles_deg=((5.0, 20.0, -4.0),))
    return Export(faces[0], photos[0])


@pytest.fixture(scope="module")
def folder(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for name in NAMES:
        OUTPUTS[name](export, folder)
    return folder


def raw(path):
    """Read a file as OpenCV has it, channels red, green, blue."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return stored if stored.ndim == 2 else stored[..., ::-1]


def planes(picture, size):
    return np.split(read_image(picture).astype(int), size, axis=1)


def test_every_output_has_its_files(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "diffuse.png", "light.exr", "light.npz", "light.png", "relit.jpg", "reposed.jpg",
        "roughness.png", "specular.png", "strip.jpg",
    ]  # fmt: skip
    assert set(NAMES) <= set(OUTPUTS)
    assert check_outputs(list(NAMES)) == list(NAMES)
    with pytest.raises(ValueError, match="did you mean 'reposed'"):
        check_outputs(["repose"])


def test_maps_come_back(export, folder):
    material = export.scene.material
    side = material.diffuse.shape[-1]
    diffuse = torch.from_numpy(raw(folder / "diffuse.png").copy()).permute(2, 0, 1) / 255
    # Half a step of sRGB is at most 0.5 / 255 x 2.28 in linear light.
    assert (srgb_to_linear(diffuse.float()) - material.diffuse[0]).abs().max() < 1.2 / 255
    specular = raw(folder / "specular.png")
    assert specular.dtype == np.uint16
    expected = material.specular[0].expand(3, -1, -1).permute(1, 2, 0).numpy()
    assert np.abs(specular / 65535 - expected).max() < 0.51 / 65535
    roughness = raw(folder / "roughness.png")
    assert roughness.shape == (side, side)
    assert np.abs(roughness / 65535 - 0.4).max() < 0.51 / 65535


def test_light_files_hold_one_light(export, folder):
    stored = np.load(folder / "light.npz")
    assert torch.equal(torch.from_numpy(stored["coefficients"]), export.scene.light[0])
    assert re.search(r"l\*l \+ l \+ m.*atan2\(x, -z\)", str(stored["convention"]))
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    drawn = cv2.imread(str(folder / "light.exr"), flags)[..., ::-1]
    height, width = drawn.shape[:2]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # The camera's view all around: up is -y, the middle +z, to the right of it +x.
    elevation = np.pi / 2 - np.pi * (rows + 0.5) / height
    turn = 2 * np.pi * (columns + 0.5) / width - np.pi
    ring = elevation.cos()
    directions = torch.stack([ring * turn.sin(), -elevation.sin(), ring * turn.cos()], dim=-1)
    basis = sh_basis(directions.double().flatten(0, 1), 5)
    expected = (basis @ torch.from_numpy(stored["coefficients"]).double()).clamp(min=0)
    assert np.abs(drawn.reshape(-1, 3) - expected.numpy()).max() < 1e-4
    shown = torch.from_numpy(raw(folder / "light.png").copy()) / 255
    linear = srgb_to_linear(shown.float()).numpy()
    assert np.abs(linear - drawn.clip(0, 1)).max() < 1.2 / 255


def test_the_strip_has_seven_pictures(export, folder):
    pictures = planes(folder / "strip.jpg", 7)
    assert all(picture.shape == (CROP, CROP, 3) for picture in pictures)
    photo, overlay, render, geometry, diffuse, specular, light = pictures
    scene = export.scene
    crop = (scene.photo[0].permute(1, 2, 0).numpy() * 255).astype(int)
    assert np.abs(photo - crop).mean() < 2  # JPEG
    inside = scene.render().mask[0, 0].numpy() > 0
    assert np.abs(overlay - photo)[~inside].mean() < 3
    assert np.abs(overlay - photo)[inside].mean() < 6  # the face explains its photo
    for picture in (render, geometry, diffuse, specular):
        assert picture[~inside].mean() < 5
        assert picture[inside].mean() > 5
    grey = geometry[inside]
    assert np.abs(grey[:, 0] - grey[:, 2]).mean() < 4
    assert np.abs(diffuse - render)[inside].mean() > 5
    assert abs(light[: CROP // 4].mean() - 24) < 3  # a frame above and below the map


def test_relit_and_turned_pictures(export, folder):
    pictures = planes(folder / "relit.jpg", len(TURNS_DEG))
    own = planes(folder / "strip.jpg", 7)[1]
    differences = [np.abs(picture - own).mean() for picture in pictures]
    assert differences[TURNS_DEG.index(0)] < 2
    assert all(d > 3 for d, turn in zip(differences, TURNS_DEG, strict=True) if turn)
    lit, shape = np.split(read_image(folder / "reposed.jpg").astype(int), 2, axis=0)
    assert lit.shape == shape.shape == (CROP, len(YAWS_DEG) * CROP, 3)
    middles = []
    for view in np.split(shape, len(YAWS_DEG), axis=1):
        seen = view.sum(2) > 60
        assert 0.15 < seen.mean() < 0.8
        middles.append(np.nonzero(seen)[1].mean())
    # The shape turns from side to side: its outline moves one way, and is not cut off in between.
    assert np.abs(np.diff(middles)).max() < 20


@pytest.mark.parametrize("kind", ["obj", "glb"])
def test_meshes_have_the_albedo_for_a_texture(export, tmp_path, kind):
    OUTPUTS[kind](export, tmp_path)
    OUTPUTS["maps"](export, tmp_path)
    mesh = read_mesh(tmp_path / f"mesh.{kind}")
    assert np.array_equal(mesh.texture, read_image(tmp_path / "diffuse.png"))
    uv = export.face.reconstruction.uv.numpy()
    assert np.allclose(mesh.uv, file_uv(uv, mesh.texture.shape[0]), atol=1e-6)
    assert (tmp_path / "mesh_specular.png").is_file() == (kind == "obj")
    photo = Export(export.face, export.photo, ExportSettings(mesh_color="photo", texture_size=64))
    OUTPUTS[kind](photo, tmp_path)
    assert read_mesh(tmp_path / f"mesh.{kind}").texture.shape == (64, 64, 3)
    assert not np.array_equal(read_mesh(tmp_path / f"mesh.{kind}").texture, mesh.texture)


def test_poses_of_pinhole_cameras_map_the_mesh_to_the_photo(export, tmp_path):
    for name in ("pose", "points"):
        OUTPUTS[name](export, tmp_path)
    pose, arrays = (
        json.loads((tmp_path / "pose.json").read_text()),
        np.load(tmp_path / "points.npz"),
    )
    upright = np.diag([1, -1, -1]) @ np.array(pose["rotation"])
    points = arrays["vertices"] @ upright.T + pose["translation_mm"]
    pixels = (points / points[:, 2:]) @ np.array(pose["intrinsics_px"]).T
    assert np.abs(pixels[:, :2] - arrays["image_vertices"][:, :2]).max() < 0.01
    assert (pose["pitch_deg"], pose["yaw_deg"], pose["roll_deg"]) == pytest.approx(
        (5, 20, -4), abs=0.01
    )


def test_a_face_without_albedo_names_the_method_that_has_it(tmp_path):
    pictures, _, coefficients, camera, _ = portraits([[0, 0, 0]], size=120)
    exports = [Export(true_faces(coefficients, camera, (120, 120), 64)[0], pictures[0])]
    for name in NAMES:
        with pytest.raises(ValueError, match=r"outputs: maps, light.*sh_brdf"):
            write_photo(exports, [name], tmp_path)
    write_photo(exports, ["obj"], tmp_path)  # these stay as they were
    assert not (tmp_path / "mesh_specular.png").exists()
