"""face3d's rasteriser, to the last bit (specs/prn.md section 2.1; reference/prn/README.md)."""

import numpy as np
import pytest
import torch

from lit_face.geometry.face3d_raster import rasterize_face3d
from lit_face.rendering.rasterize import rasterize
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(reference / "prn" / "rasterizer.npz")


def mesh_of(golden, name):
    vertices = torch.from_numpy(golden[f"{name}_vertices"])
    faces = torch.from_numpy(golden[f"{name}_triangles"].astype(np.int64))
    return vertices, faces, tuple(int(side) for side in golden[f"{name}_hw"])


@pytest.mark.parametrize("name", ["mesh", "soup"])
def test_compiled_rasteriser_is_matched_to_the_last_bit(golden, name):
    vertices, faces, size = mesh_of(golden, name)
    buffers = rasterize_face3d(vertices, faces, size)
    assert np.array_equal(buffers.face_index, golden[f"{name}_tri"])
    assert np.array_equal(buffers.depth, golden[f"{name}_depth"])
    assert np.array_equal(buffers.barycentric, golden[f"{name}_bary"])


@pytest.mark.parametrize("name", ["mesh", "soup"])
@pytest.mark.parametrize("kernel", ["numba", "torch"])
def test_both_kernels_find_the_compiled_rasterisers_triangles(golden, name, kernel):
    vertices, faces, size = mesh_of(golden, name)
    face_index = rasterize(vertices[None], faces, size, rules="face3d", kernel=kernel)
    assert np.array_equal(face_index[0], golden[f"{name}_tri"])


@pytest.mark.parametrize("name", ["mesh", "soup"])
def test_numpy_rasteriser_is_matched_without_the_border_rule(golden, name):
    vertices, faces, size = mesh_of(golden, name)
    buffers = rasterize_face3d(vertices.double(), faces, size, border_rule=False)
    assert np.array_equal(buffers.face_index, golden[f"{name}_np_tri"])
    # Its dot products come from BLAS, which may fuse multiply and add.
    assert_close(buffers.depth, golden[f"{name}_np_depth"], rtol=1e-12, atol=1e-12)
    assert np.array_equal(buffers.barycentric.float(), golden[f"{name}_np_bary"])


def test_rendered_colours(golden):
    vertices, faces, size = mesh_of(golden, "mesh")
    buffers = rasterize_face3d(vertices, faces, size)
    corners = torch.from_numpy(golden["mesh_colors"])[faces[buffers.face_index.clamp(min=0)]]
    w0, w1, w2 = buffers.barycentric[..., None].unbind(-2)
    colors = w0 * corners[..., 0, :] + w1 * corners[..., 1, :] + w2 * corners[..., 2, :]
    assert np.array_equal(colors, golden["mesh_render_colors"])


@pytest.mark.parametrize("pose", ["v0", "v1"])
def test_flat_rendering_of_the_prn_mesh(reference, pose):
    # render_texture gives each triangle the mean depth and colour of its corners.
    golden = np.load(reference / "prn" / "prn_postprocess.npz")
    triangles = np.load(reference / "prn" / "uv_data.npz")["triangles_grid"].astype(np.int64)
    corners = torch.from_numpy(golden[f"{pose}_vertices"].astype(np.float64)[triangles])
    corners[..., 2] = corners[..., 2].mean(1, keepdim=True)
    size = tuple(int(side) for side in golden[f"{pose}_hw"])
    separate = torch.arange(corners.shape[0] * 3).view(-1, 3)
    seen = rasterize_face3d(corners.view(-1, 3), separate, size, border_rule=False).face_index
    colors = torch.from_numpy(golden[f"{pose}_colors"].astype(np.float64)[triangles]).mean(1)
    picture = torch.where((seen >= 0)[..., None], colors[seen.clamp(min=0)], 0.0)
    assert_close(picture, golden[f"{pose}_render_texture"], atol=1e-6)
    # Interpolating equal depths leaves rounding noise that may decide between equal triangles.
    assert (seen.numpy() != golden[f"{pose}_triangle_buffer"]).sum() <= 4
