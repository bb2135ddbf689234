import numpy as np
import pytest
import torch

from lit_face.morphable_models.correspondence import closest_points, warp_mesh
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close


def brute_force(query: np.ndarray, triangle: np.ndarray) -> float:
    """Distance to a triangle by trying a fine grid of its points."""
    steps = np.linspace(0, 1, 201)
    u, v = np.meshgrid(steps, steps)
    inside = (u + v <= 1).ravel()
    u, v = u.ravel()[inside, None], v.ravel()[inside, None]
    points = triangle[0] + u * (triangle[1] - triangle[0]) + v * (triangle[2] - triangle[0])
    return float(np.linalg.norm(points - query, axis=1).min())


def test_closest_points_agree_with_a_search_over_all_triangles():
    head = procedural_head()
    generator = torch.Generator().manual_seed(0)
    start = head.mean[torch.randint(len(head.mean), (12,), generator=generator)]
    queries = start + 4 * torch.randn(12, 3, generator=generator)
    found = closest_points(queries, head.mean, head.faces)
    points = found.carry(head.mean)
    assert_close((points - queries).norm(dim=1), found.distance, atol=1e-3)
    corners = head.mean[head.faces].numpy()
    near = (torch.cdist(queries, head.mean[head.faces].mean(1))).argsort(dim=1)[:, :60]
    for query, rows, distance in zip(queries.numpy(), near, found.distance, strict=True):
        best = min(brute_force(query, corners[row]) for row in rows)
        assert distance <= best + 0.02


def test_points_of_the_mesh_find_themselves():
    head = procedural_head()
    inside = head.mean[head.faces[::500]].mean(1)
    found = closest_points(inside, head.mean, head.faces)
    assert found.distance.max() < 1e-3
    assert_close(found.carry(head.uv), head.uv[head.faces[::500]].mean(1), atol=1e-3)


def test_a_warp_meets_its_anchors_and_then_the_surface():
    head = procedural_head()
    anchors = head.mean[head.landmark_index]
    moved = 1.1 * anchors + torch.tensor([3.0, -5.0, 8.0])
    bent = warp_mesh(head.mean, anchors, moved)
    assert_close(bent, 1.1 * head.mean + torch.tensor([3.0, -5.0, 8.0]), atol=0.05)

    identity = torch.randn(1, head.identity_size, generator=torch.Generator().manual_seed(3))
    other = head(identity, torch.zeros(1, head.expression_size))[0]
    alone = warp_mesh(head.mean, anchors, other[head.landmark_index])
    bent = warp_mesh(head.mean, anchors, other[head.landmark_index], surface=(other, head.faces))
    before, after = (
        closest_points(shape[::7], other, head.faces).distance.mean() for shape in (alone, bent)
    )
    assert after < 0.35 * before


@pytest.mark.parametrize("columns", [1, 3])
def test_carried_attributes_are_interpolated(columns):
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    faces = torch.tensor([[0, 1, 2]])
    found = closest_points(torch.tensor([[0.25, 0.5, 2.0], [2.0, -1.0, 0.0]]), vertices, faces)
    values = torch.arange(3.0)[:, None].expand(3, columns)
    assert_close(found.carry(values)[:, 0], torch.tensor([0.25 + 2 * 0.5, 1.0]), atol=1e-6)
    assert_close(found.distance, torch.tensor([2.0, 2.0**0.5]), atol=1e-6)
