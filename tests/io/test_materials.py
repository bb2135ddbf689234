"""Surfaces in the words of glTF and .mtl say what the BRDF says."""

import json
import struct

import cv2
import numpy as np
import pytest
import trimesh

from lit_face.io.images import decode_image
from lit_face.io.materials import Surface, gltf_maps, linear_to_srgb, material_files, srgb_bytes
from lit_face.io.meshes import Mesh, read_mesh, write_mesh

SIDE = 16


@pytest.fixture
def surface():
    random = np.random.default_rng(0)
    return Surface(
        specular=(0.01 + 0.09 * random.random((SIDE, SIDE, 3))).astype(np.float32),
        roughness=(0.05 + 0.9 * random.random((SIDE, SIDE))).astype(np.float32),
    )


@pytest.fixture
def albedo():
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture
def mesh(surface, albedo):
    box = trimesh.creation.box((10, 20, 30))
    uv = np.random.default_rng(2).random((len(box.vertices), 2))
    return Mesh(box.vertices, box.faces, uv, texture=albedo, surface=surface)


def to_linear(srgb):
    value = np.asarray(srgb, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def content_of(path):
    """Return the JSON chunk and the pictures of a .glb file."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    content, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    views = [content["bufferViews"][image["bufferView"]] for image in content["images"]]
    pictures = [
        decode_image(binary[v["byteOffset"] : v["byteOffset"] + v["byteLength"]], "picture")
        for v in views
    ]
    return content, pictures


def test_gltf_gives_back_reflectance_and_roughness(tmp_path, mesh, surface, albedo):
    """F0 = 0.04 x factor x texture; alpha = roughness^2 there, the square root of ours."""
    write_mesh(tmp_path / "a.glb", mesh)
    content, pictures = content_of(tmp_path / "a.glb")
    (material,) = content["materials"]
    assert content["extensionsUsed"] == ["KHR_materials_specular"]
    specular = material["extensions"]["KHR_materials_specular"]

    def picture(entry):
        return pictures[content["textures"][entry["index"]]["source"]]

    assert np.array_equal(picture(material["pbrMetallicRoughness"]["baseColorTexture"]), albedo)
    color = to_linear(picture(specular["specularColorTexture"]))
    found = 0.04 * np.array(specular["specularColorFactor"]) * color
    # Half a step of sRGB is at most 0.5 / 255 x 2.28 of the largest value, in linear light.
    assert np.abs(found - surface.specular).max() < 1.2 / 255 * surface.specular.max()
    rough = picture(material["pbrMetallicRoughness"]["metallicRoughnessTexture"])
    assert np.abs((rough[..., 1] / 255.0) ** 4 - surface.roughness).max() < 2.1 / 255
    assert (rough[..., 2] == 0).all()  # blue: metal
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0.0
    assert material["pbrMetallicRoughness"]["roughnessFactor"] == 1.0


def test_gltf_lobe_is_as_wide_as_ours():
    """Blinn-Phong with exponent 2 / a - 2 has the Beckmann width of glTF's roughness to the 4th."""
    for roughness in (0.1, 0.4, 0.9):
        even = Surface(np.full((2, 2, 3), 0.04, np.float32), np.full((2, 2), roughness, np.float32))
        packed, color, factor = gltf_maps(even)
        alpha = (packed[0, 0, 1] / 255) ** 2
        assert 2 / alpha**2 - 2 == pytest.approx(2 / roughness - 2, rel=0.05, abs=0.02)
        assert factor == pytest.approx(1.0)
        assert (color == 255).all()


def test_black_surfaces_and_reflectance_without_limits():
    black = Surface(np.zeros((2, 2, 3), np.float32), np.ones((2, 2), np.float32))
    packed, color, factor = gltf_maps(black)
    assert (packed[..., 1] == 255).all()
    assert (color == 0).all()
    assert 0 < factor < 1e-3
    mirror = Surface(np.ones((2, 2, 3), np.float32), np.full((2, 2), 1e-3, np.float32))
    assert gltf_maps(mirror)[2] == pytest.approx(25.0)


def test_the_file_is_valid_gltf(tmp_path, mesh):
    gltf = pytest.importorskip("pygltflib")
    write_mesh(tmp_path / "a.glb", mesh)
    content = gltf.GLTF2().load(str(tmp_path / "a.glb"))
    material = content.materials[0]
    assert "KHR_materials_specular" in material.extensions
    texture = material.pbrMetallicRoughness.metallicRoughnessTexture
    assert content.textures[texture.index].source == 1
    assert len(content.images) == len(content.textures) == 3
    data = content.binary_blob()
    for view in content.bufferViews:
        assert view.byteOffset % 4 == 0
        assert view.byteOffset + view.byteLength <= len(data)
    loaded = trimesh.load_mesh(tmp_path / "a.glb", process=False)
    loaded = loaded.to_mesh() if isinstance(loaded, trimesh.Scene) else loaded
    found = np.asarray(loaded.visual.material.metallicRoughnessTexture.convert("RGB"))
    assert np.array_equal(found, content_of(tmp_path / "a.glb")[1][1])


def test_obj_names_its_maps_and_the_exponent(tmp_path, mesh, surface, albedo):
    write_mesh(tmp_path / "a.obj", mesh)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"a.obj", "a.mtl", "a_texture.png", "a_specular.png"}
    lines = dict(
        line.split(maxsplit=1) for line in (tmp_path / "a.mtl").read_text().splitlines() if line
    )
    assert lines["map_Kd"] == "a_texture.png"
    assert lines["map_Ks"] == "a_specular.png"
    assert float(lines["Ns"]) == pytest.approx(2 / surface.roughness.mean() - 2, abs=1e-3)
    assert lines["Ks"] == "1.0 1.0 1.0"
    stored = cv2.imread(str(tmp_path / "a_specular.png"))[..., ::-1]
    assert np.abs(to_linear(stored) - surface.specular).max() < 1.2 / 255
    loaded = trimesh.load_mesh(tmp_path / "a.obj", process=False)
    assert np.array_equal(np.asarray(loaded.visual.material.image.convert("RGB")), albedo)
    assert np.array_equal(read_mesh(tmp_path / "a.obj").texture, albedo)


def test_without_a_surface_nothing_shines(albedo):
    files = material_files("a", albedo, None)
    assert set(files) == {"a.mtl", "a_texture.png"}
    assert b"Ks 0.0 0.0 0.0" in files["a.mtl"]
    assert b"map_Ks" not in files["a.mtl"]
    assert b"Ns" not in files["a.mtl"]


def test_colours_are_encoded_as_iec_61966_says():
    linear = np.array([0.0, 0.0031308, 0.21404, 1.0])
    np.testing.assert_allclose(linear_to_srgb(linear), [0, 0.04045, 0.5, 1], atol=1e-4)
    levels = np.arange(256)
    assert np.array_equal(srgb_bytes(to_linear(levels)), levels)
    assert list(srgb_bytes(np.array([-1.0, 2.0]))) == [0, 255]


def test_a_surface_needs_its_albedo(surface):
    box = trimesh.creation.box((1, 1, 1))
    with pytest.raises(ValueError, match="a surface needs a texture"):
        Mesh(box.vertices, box.faces, surface=surface)
