"""Displacement generator, 16-bit maps and displaced meshes against the reference's numbers."""

import json

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.subdivision import (
    displaced,
    eye_distance_scale,
    split_faces,
    with_midpoints,
)
from lit_face.io.displacement_maps import (
    decode_displacement,
    facial_window,
    on_canvas,
    released_levels,
)
from lit_face.methods.displacement.network import GlobalGenerator

SMALL = ["dpgen_ngf4_down4_blocks9_s11", "dpgen_ngf8_down2_blocks2_s12"]


@pytest.fixture(scope="module")
def golden(reference):
    def load(name):
        with np.load(reference / "mvfr" / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored.files}

    return load


@pytest.mark.parametrize("name", SMALL)
def test_generator(golden, name):
    want = golden(f"networks/{name}")
    network = GlobalGenerator(int(want["ngf"]), int(want["n_down"]), int(want["n_blocks"]))
    state = {k[3:]: torch.from_numpy(v).float() for k, v in want.items() if k.startswith("w::")}
    network.load_state_dict(state)
    for mode in (network.train(), network.eval()):
        with torch.no_grad():
            found = mode(torch.from_numpy(want["x"]))
        np.testing.assert_allclose(found.numpy(), want["y"], atol=1e-5)


def test_names_and_shapes_at_the_released_size(reference):
    manifest = json.loads((reference / "mvfr/networks/state_dict_manifest.json").read_text())
    with torch.device("meta"):
        state = GlobalGenerator().state_dict()
    found = {name: list(value.shape) for name, value in state.items()}
    assert found == manifest["dpgen_default"]["state_dict"]
    assert sum(v.numel() for v in state.values()) == manifest["dpgen_default"]["n_params"]


@pytest.mark.slow
def test_generator_of_the_released_size(golden):
    want = golden("networks/dpgen_full_recipe_s13")
    with torch.device("meta"):
        network = GlobalGenerator()
    stream = np.random.RandomState(int(want["recipe_seed"]))
    state = {}
    for name, value in sorted(network.state_dict().items()):
        drawn = stream.standard_normal(value.numel()).astype(np.float32)
        drawn *= 0.02 if value.ndim > 1 else 0.1
        rounded = drawn.reshape(value.shape).astype(np.float16)
        state[name] = torch.from_numpy(rounded.astype(np.float32))
    first = state[str(want["first_key"])].flatten()[: len(want["first_values"])]
    np.testing.assert_array_equal(first.numpy(), want["first_values"])
    network.load_state_dict(state, assign=True)
    with torch.no_grad():
        found = network(torch.from_numpy(want["x"]))
    np.testing.assert_allclose(found.numpy(), want["y"], atol=1e-3)


@pytest.mark.parametrize("case", ["s11", "s12"])
def test_released_quantisation(golden, case):
    want = golden(f"dpmap/tensor2im_{case}")
    step = int(want["dp1900_step"])
    levels = released_levels(want["net_output"][0], 1900)
    np.testing.assert_array_equal(levels[::step, ::step], want["dp1900_samples"])
    np.testing.assert_array_equal(released_levels(want["net_output"][0]), want["dp_native"])
    canvas = on_canvas(levels)
    assert canvas.shape == tuple(want["full_canvas"])
    assert canvas[0, 0] == want["fill"]
    rows, columns = facial_window()
    assert [rows.start, rows.stop] == list(want["paste_rows"])
    assert [columns.start, columns.stop] == list(want["paste_cols"])


@pytest.mark.parametrize("case", ["s11", "s12"])
def test_displaced_mesh(golden, case):
    want = golden(f"dpmap/dpmap2mesh_{case}")
    vertices, faces = torch.from_numpy(want["verts"]), torch.from_numpy(want["tris"])
    uv = torch.from_numpy(want["texcoords"])
    first, second = (int(v) for v in want["ref_pair"])
    scale = eye_distance_scale(vertices, (first, second), 60.0)
    for level in range(int(want["n_subdiv"])):
        split = split_faces(faces, len(vertices))
        vertices, uv = (with_midpoints(values, split.edges) for values in (vertices, uv))
        faces = split.faces
        if level == 0:
            _same_rows(vertices, want["one_subdiv_verts"])
    _same_rows(
        torch.cat([vertices * scale, uv], 1), want["subdivided_scaled"], want["sub_texcoords"]
    )
    # In the reference's order of vertices, as equal vertices with other numbers are not.
    points = torch.from_numpy(want["subdivided_scaled"])
    normals = vertex_normals(points[None], torch.from_numpy(want["sub_tris"]), by_area=False)[0]
    relief = torch.from_numpy(decode_displacement(want["dpmap_crop"])).double()
    sub_uv = torch.from_numpy(want["sub_texcoords"])
    found = displaced(points, normals, sub_uv, relief, lookup="reference")
    np.testing.assert_allclose(found, want["displaced"], atol=1e-6)
    small = displaced(points / scale, normals, sub_uv, relief, scale, "reference")
    np.testing.assert_allclose(small, want["final"], atol=1e-6 / scale)


def _same_rows(found, *want):
    rows = np.concatenate(want, axis=1)
    assert cKDTree(rows).query(found)[0].max() < 1e-9
    assert cKDTree(found).query(rows)[0].max() < 1e-9
