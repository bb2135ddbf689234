import numpy as np

from lit_face.geometry.grid_mesh import uv2mesh


def test_a_full_map_has_two_triangles_a_cell_inside_of_the_border():
    rows, columns = np.mgrid[:6, :7]
    position = np.stack([columns, -rows, 1 + 0 * rows], axis=2).astype(np.float32)
    mesh = uv2mesh(position)
    assert mesh.faces.shape == (2 * 4 * 5, 3)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    np.testing.assert_array_equal(np.cross(b - a, c - a), [[0, 0, 1]] * len(mesh.faces))
    np.testing.assert_array_equal(position[mesh.rows, mesh.columns], mesh.vertices)


def test_a_mask_says_which_texels_count():
    position = np.zeros((6, 7, 3))
    mask = np.ones((6, 7), bool)
    mask[3, 3] = False
    mesh = uv2mesh(position, mask)
    assert len(mesh.vertices) == 41
    assert len(mesh.faces) == 2 * (20 - 4)
