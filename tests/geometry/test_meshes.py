import pytest
import torch

from lit_face.geometry.meshes import face_normals, grid_faces, subset_mesh, vertex_normals
from tests.helpers.shapes import sphere
from tests.helpers.tolerances import assert_close


def test_normals_of_a_sphere_point_outward():
    vertices, faces = sphere()
    points = torch.stack([vertices, 50 * vertices + 7])
    normals = vertex_normals(points, faces)
    assert_close(normals, vertices.expand(2, -1, -1), atol=7e-3, rtol=0)  # a polyhedron
    outward = (face_normals(points, faces)[0] * vertices[faces].mean(1)).sum(-1)
    assert (outward > 0.99).all()


def test_vertex_normals_equal_a_loop_over_faces():
    vertices, faces = sphere(subdivisions=1)
    vertices = vertices * torch.tensor([1.0, 2.0, 0.5]).double()
    sums = torch.zeros_like(vertices)
    for a, b, c in faces.tolist():
        normal = torch.linalg.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        for corner in (a, b, c):
            sums[corner] += normal
    expected = sums / sums.norm(dim=-1, keepdim=True)
    assert_close(vertex_normals(vertices[None], faces)[0], expected)


def test_vertex_normals_are_differentiable_and_lonely_vertices_have_none():
    vertices, faces = sphere(subdivisions=0)
    vertices = torch.cat([vertices, torch.zeros(1, 3, dtype=torch.float64)])[None]
    assert torch.equal(vertex_normals(vertices, faces)[0, -1], torch.zeros(3).double())
    moved = vertices[:, :12].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces), moved)
    vertices.requires_grad_()
    vertex_normals(vertices, faces).sum().backward()
    assert vertices.grad.isfinite().all()


def test_normals_do_not_depend_on_the_scale_of_the_mesh():
    vertices, faces = sphere(dtype=torch.float32)
    assert_close(
        vertex_normals(1e-6 * vertices[None], faces), vertex_normals(vertices[None], faces)
    )


def test_subset_keeps_whole_faces_only():
    vertices, faces = sphere(subdivisions=2)
    upper = vertices[:, 1] >= 0
    kept_faces, kept = subset_mesh(faces, upper)
    expected = [face for face in faces.tolist() if all(upper[index] for index in face)]
    assert kept[kept_faces].tolist() == expected
    assert upper[kept].all()
    assert len(kept) == upper.sum()


@pytest.mark.parametrize("lacking", [None, (0, 0), (0, 1), (1, 0), (1, 1)])
def test_grid_cell_with_and_without_a_corner_is_counter_clockwise(lacking):
    mask = torch.ones(2, 2, dtype=torch.bool)
    if lacking:
        mask[lacking] = False
    faces = grid_faces(mask)
    assert len(faces) == (1 if lacking else 2)
    row, column = mask.nonzero().T
    points = torch.stack([column, -row, torch.zeros_like(row)], 1).double()  # rows go down
    assert (face_normals(points[None], faces)[0, :, 2] == 1).all()
    assert not len(grid_faces(torch.tensor([[True, False], [False, True]])))
