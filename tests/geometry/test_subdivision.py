import math

import pytest
import torch

from lit_face.geometry.meshes import face_normals, grid_faces, vertex_normals
from lit_face.geometry.subdivision import (
    displaced,
    eye_distance_scale,
    interpolated_normals,
    split_faces,
    with_curved_midpoints,
    with_midpoints,
)

TETRAHEDRON = torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
CORNERS = torch.tensor([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]], dtype=torch.float64)


def test_a_closed_surface_stays_closed():
    vertices, faces = CORNERS, TETRAHEDRON
    for level in range(3):
        split = split_faces(faces, len(vertices))
        vertices, faces = with_midpoints(vertices, split.edges), split.faces
        assert len(faces) == 4 ** (level + 2)
        assert len(vertices) - len(split_faces(faces, len(vertices)).edges) + len(faces) == 2
    directed = torch.stack([faces, faces.roll(-1, 1)], -1).flatten(0, 1)
    assert len(torch.unique(directed, dim=0)) == len(directed)  # each edge once a direction


def test_winding_and_area_stay():
    split = split_faces(TETRAHEDRON, 4)
    vertices = with_midpoints(CORNERS, split.edges)
    before = face_normals(CORNERS[None], TETRAHEDRON, unit=False)[0]
    after = face_normals(vertices[None], split.faces, unit=False)[0].view(4, -1, 3)
    torch.testing.assert_close(after, before[None].expand(4, -1, -1) / 4)


def test_curved_midpoints_lie_on_a_sphere():
    points, faces = sphere_patch(12)
    normals = points / 80
    split = split_faces(faces, len(points))
    flat = with_midpoints(points, split.edges).norm(dim=-1) - 80
    curved = with_curved_midpoints(points, normals, split.edges).norm(dim=-1) - 80
    assert curved.abs().max() < 0.01 * flat.abs().max()


def test_normals_stay_unit():
    points, faces = sphere_patch(6)
    edges = split_faces(faces, len(points)).edges
    length = interpolated_normals(points / 80, edges).norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_texel_centres_meet_their_texel():
    relief = torch.arange(12, dtype=torch.float64).view(3, 4)
    row, column = torch.meshgrid(torch.arange(3).double(), torch.arange(4).double(), indexing="ij")
    uv = torch.stack([(column + 0.5) / 4, 1 - (row + 0.5) / 3], -1).view(-1, 2)
    normals = torch.tensor([0.0, 0.0, 1.0]).double().expand(12, 3)
    moved = displaced(torch.zeros(12, 3).double(), normals, uv, relief, mm_per_unit=2.0)
    torch.testing.assert_close(moved[:, 2], relief.flatten() / 2)
    assert not moved[:, :2].any()


def test_scale_from_two_vertices():
    points = torch.tensor([[0.0, 0, 0], [3, 4, 0], [0, 0, 0]])
    assert eye_distance_scale(points, (0, 1), 40.0) == pytest.approx(8)
    with pytest.raises(ValueError, match="one place"):
        eye_distance_scale(points, (0, 2), 40.0)
    with pytest.raises(ValueError, match="positive"):
        displaced(points, points, points[:, :2], torch.zeros(2, 2), mm_per_unit=0.0)
    with pytest.raises(ValueError, match="'bilinear' or 'reference'"):
        displaced(points, points, points[:, :2], torch.zeros(2, 2), lookup="cubic")


def sphere_patch(size):
    """Points (S*S,3) of a sphere of 80 mm, z towards the viewer, and their faces."""
    angle = torch.linspace(-0.6, 0.6, size, dtype=torch.float64)
    up, side = torch.meshgrid(-angle, angle, indexing="ij")
    points = torch.stack([side.sin() * up.cos(), up.sin(), side.cos() * up.cos()], -1)
    faces = grid_faces(torch.ones(size, size, dtype=torch.bool))
    vertices = 80 * points.view(-1, 3)
    outward = (vertex_normals(vertices[None], faces)[0] * vertices).sum(-1)
    assert (outward > 0).all()
    assert math.isclose(float(vertices.norm(dim=-1).max()), 80, rel_tol=1e-12)
    return vertices, faces
