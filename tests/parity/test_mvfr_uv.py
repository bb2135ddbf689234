"""mvfr's maps over a template: shared/reference/mvfr/uv."""

import numpy as np
import pytest

from lit_face.geometry.grid_mesh import uv2mesh
from lit_face.geometry.line_query import signed_distance_along
from lit_face.geometry.uv_template import attribute_map, full_maps, rasterize_template

CASES = ["S32_s11", "S64_s12"]


@pytest.fixture(scope="module", params=CASES)
def golden(request, reference):
    with np.load(reference / "mvfr" / "uv" / f"rasterizer_{request.param}.npz") as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def texels(golden):
    size = int(golden["uv_size"])
    return rasterize_template(golden["uv"], golden["faces_uv"], golden["faces"], size)


def test_texels_in_the_order_of_the_reference(golden, texels):
    np.testing.assert_array_equal(np.stack([texels.rows, texels.columns], 1), golden["pixels_pos"])
    np.testing.assert_array_equal(texels.vertices, golden["vert_idx"])
    np.testing.assert_allclose(texels.weights[:, 1:], golden["bary_uv"], atol=1e-12)
    drawn = attribute_map(golden["attr"], texels, int(golden["uv_size"]))
    np.testing.assert_allclose(drawn, golden["attr_map"], atol=1e-6)


@pytest.mark.parametrize("kernel", [0, 21])
def test_position_normal_and_displacement(golden, texels, kernel):
    size = int(golden["uv_size"])
    base = golden["base_verts"], golden["faces"]
    maps = full_maps(*base, texels, size, kernel, renormalise=False)
    np.testing.assert_allclose(maps.position, golden["pos"], atol=1e-6)
    np.testing.assert_allclose(maps.normal, golden[f"norm_k{kernel}"], atol=1e-5)
    there = maps.position.any(axis=2)
    displacement = np.zeros((size, size), np.float32)
    displacement[there], is_hit = signed_distance_along(
        maps.position[there],
        maps.normal[there],
        golden["gt_verts"],
        golden["gt_faces"],
        float(golden["max_dist"]),
    )
    np.testing.assert_allclose(displacement, golden[f"mv_k{kernel}"], atol=1e-6)
    np.testing.assert_array_equal(is_hit, golden[f"mv_k{kernel}"][there] != 0)


@pytest.mark.parametrize("case", [11, 12])
def test_mesh_of_a_position_map(reference, case):
    with np.load(reference / "mvfr" / "uv" / f"uv2mesh_s{case}.npz") as stored:
        golden = {key: stored[key] for key in stored.files}
    mesh = uv2mesh(golden["pos_map"])
    np.testing.assert_array_equal(mesh.vertices, golden["verts"])
    np.testing.assert_array_equal(mesh.faces, golden["faces"])
    np.testing.assert_allclose(mesh.uv, golden["texcoords"], atol=1e-12)
