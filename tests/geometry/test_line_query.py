import numpy as np
import pytest

from lit_face.geometry.line_query import SurfaceRays, signed_distance_along
from tests.geometry.test_uv_template import sheet


def waves(cells=60):
    xy, faces = sheet(cells)
    height = 0.05 * np.sin(9 * xy[:, 0]) * np.cos(7 * xy[:, 1])
    return np.column_stack([xy, height]), faces


def sphere_points(count, seed=0):
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def brute_force(points, directions, vertices, faces):
    corner, b, c = np.moveaxis(vertices[faces], 1, 0)
    best = np.full(len(points), np.nan)
    for row, (point, along) in enumerate(zip(points, directions, strict=True)):
        matrix = np.stack([b - corner, c - corner, np.broadcast_to(-along, corner.shape)], axis=2)
        u, v, distance = np.linalg.solve(matrix, (point - corner)[..., None])[..., 0].T
        inside = (u >= 0) & (v >= 0) & (u + v <= 1)
        if inside.any():
            best[row] = distance[inside][np.abs(distance[inside]).argmin()]
    return best


def test_agrees_with_all_triangles():
    vertices, faces = waves(12)
    generator = np.random.default_rng(1)
    points = generator.uniform([0, 0, -0.3], [1, 1, 0.3], (200, 3))
    directions = sphere_points(200)
    expected = brute_force(points, directions, vertices, faces)
    distance, is_hit = signed_distance_along(points, 3 * directions, vertices, faces, 10.0)
    np.testing.assert_array_equal(is_hit, np.isfinite(expected))
    np.testing.assert_allclose(distance[is_hit], expected[is_hit], atol=1e-9)
    assert 0.2 < is_hit.mean() < 1


def test_lines_through_edges_and_corners_are_not_lost():
    vertices, faces = waves(90)
    inner = ((vertices[:, :2] > 0.01) & (vertices[:, :2] < 0.99)).all(axis=1)
    edges = vertices[faces[:, :2]].mean(axis=1)
    edges = edges[((edges[:, :2] > 0.01) & (edges[:, :2] < 0.99)).all(axis=1)]
    for seed, targets in enumerate((vertices[inner], edges)):
        directions = 0.2 * sphere_points(len(targets), seed) + [0, 0, 1]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        for away in (0.0, -0.02, 0.03):
            points = targets - away * directions
            distance, is_hit = signed_distance_along(points, directions, vertices, faces, 1.0)
            assert is_hit.all()
            # A slanted line may meet the waves before.
            assert (np.abs(distance) <= abs(away) + 1e-9).all()
            assert np.isclose(distance, away, atol=1e-9).mean() > 0.99


def test_nearest_hit_either_way_and_the_limit():
    vertices, faces = waves(4)
    low, high = vertices - [0, 0, 1], vertices + np.array([0, 0, 0.3])
    both = np.concatenate([low, high]), np.concatenate([faces, faces + len(vertices)])
    up = np.array([[0.0, 0, 1]])
    point = np.array([[0.4, 0.45, 0.0]])
    (above,), (found,) = signed_distance_along(point, up, *both, 5.0)
    (mirrored,), _ = signed_distance_along(point, -up, *both, 5.0)
    assert found
    assert 0.2 < above < 0.4
    assert mirrored == pytest.approx(-above)
    distance, is_hit = signed_distance_along(point, up, *both, 0.1)
    assert (distance, is_hit) == (0.0, False)


def test_directions_without_length_and_points_without_place_have_no_hit():
    vertices, faces = waves(4)
    points = np.array([[0.5, 0.5, 0.1], [np.nan, 0.5, 0.1], [0.5, 0.5, 0.1]])
    directions = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 1]])
    _, is_hit = signed_distance_along(points, directions, vertices, faces, 5.0)
    assert is_hit.tolist() == [False, False, True]


def test_meshes_that_are_not_finite_are_refused():
    vertices, faces = waves(4)
    vertices[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        SurfaceRays(vertices, faces)
