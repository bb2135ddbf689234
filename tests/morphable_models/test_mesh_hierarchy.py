import copy

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components

from lit_face.morphable_models.mesh_hierarchy import build_hierarchy, mesh_hierarchy
from lit_face.morphable_models.mesh_hierarchy.adjacency import adjacency, scaled_laplacian
from lit_face.morphable_models.mesh_hierarchy.surface import closest_on_mesh
from lit_face.morphable_models.procedural import procedural_head

DECIMATIONS = ("borders", "fast_simplification", "reference")


def bent_sheet(rows=13, columns=17, seed=0):
    """An open mesh of uneven triangles."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns].astype(float)
    points = np.stack([x, y, 0.1 * (x - 8) ** 2], axis=-1) + 0.2 * rng.random((rows, columns, 3))
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    return points.reshape(-1, 3), faces


def two_parts():
    """Two sheets, and a vertex without a face between them in the list."""
    first, faces = bent_sheet(seed=1)
    second, _ = bent_sheet(seed=2)
    loose = np.array([[30.0, 30.0, 0.0]])
    points = np.concatenate([first, loose, second + np.array([0, 40, 0])])
    return points, np.concatenate([faces, faces + len(first) + 1])


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.mark.parametrize("decimation", DECIMATIONS)
def test_levels_are_subsets_that_come_back_onto_themselves(decimation):
    points, faces = two_parts()
    hierarchy = build_hierarchy(points, faces, (4, 3), decimation)
    assert hierarchy.sizes == (443, 111, 37)
    for level in range(2):
        fine, coarse = hierarchy.vertices[level : level + 2]
        np.testing.assert_array_equal(hierarchy.down(level) @ fine, coarse)
        returned = hierarchy.down(level) @ (hierarchy.up(level) @ coarse)
        np.testing.assert_allclose(returned, coarse, atol=1e-5)  # a kept vertex stays itself
        np.testing.assert_array_equal(np.unique(hierarchy.faces[level + 1]), np.arange(len(coarse)))
        weights = hierarchy.up_weights[level]
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
        parts = connected_components(adjacency(hierarchy.faces[level + 1], len(coarse)))[0]
        assert parts == 2


def test_closest_point_is_that_of_trying_every_face_densely():
    points, faces = bent_sheet(5, 6)
    queries = 4 * np.random.default_rng(3).random((40, 3)) - [0, 0, 2]
    face, weights = closest_on_mesh(queries, points, faces)
    found = (points[faces[face]] * weights[..., None]).sum(1)
    share = np.array([(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)]) / 60
    everywhere = np.einsum("sk,fkc->fsc", share, points[faces]).reshape(-1, 3)
    dense = np.linalg.norm(queries[:, None] - everywhere, axis=2).min(1)
    distance = np.linalg.norm(queries - found, axis=1)
    assert (distance <= dense + 1e-12).all()
    assert (distance >= dense - 0.03).all()  # 1/60 of an edge
    assert (weights >= 0).all()


def test_closest_point_survives_faces_without_area():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 0]])
    faces = np.array([[0, 1, 2], [0, 3, 0]])
    face, weights = closest_on_mesh(np.array([[1.5, 1, 0], [-1, 0, 0]]), points, faces)
    found = (points[faces[face]] * weights[..., None]).sum(1)
    np.testing.assert_allclose(found, [[1.5, 0, 0], [0, 0, 0]], atol=1e-12)


def test_weights_count_faces_or_are_binary():
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    counted = adjacency(faces, 5).toarray()
    expected = np.zeros((5, 5))
    for a, b, weight in ((0, 1, 1), (0, 2, 1), (1, 2, 2), (1, 3, 1), (2, 3, 1)):
        expected[a, b] = expected[b, a] = weight
    np.testing.assert_array_equal(counted, expected)
    np.testing.assert_array_equal(adjacency(faces, 5, "binary").toarray(), expected > 0)
    laplacian = scaled_laplacian(adjacency(faces, 5)).toarray()
    assert not laplacian[4].any()  # a vertex without neighbours
    np.testing.assert_array_equal(laplacian, laplacian.T)
    spectrum = np.linalg.eigvalsh(laplacian)
    assert spectrum[0] == pytest.approx(-1, abs=1e-6)
    assert spectrum[-1] <= 1


def test_borders_are_kept_where_the_reference_eats_them():
    points, faces = bent_sheet()
    corners = [0, 16, 12 * 17, 12 * 17 + 16]

    def loss(decimation):
        hierarchy = build_hierarchy(points, faces, (4,), decimation)
        returned = hierarchy.up(0) @ hierarchy.vertices[1]
        return np.linalg.norm(returned - hierarchy.vertices[0], axis=1)[corners].max()

    assert loss("borders") < 0.5 * loss("reference")


def test_reference_weights_move_with_the_origin_barycentric_ones_do_not():
    points, faces = bent_sheet()
    shifted = points + np.array([100.0, -30, 5])
    for upsampling in ("barycentric", "reference"):  # the mean is taken away first
        one = build_hierarchy(points, faces, (4,), "borders", upsampling)
        other = build_hierarchy(shifted, faces, (4,), "borders", upsampling)
        np.testing.assert_allclose(one.up_weights[0], other.up_weights[0], atol=1e-4)
    assert abs(one.up_weights[0].sum(1) - 1).max() > 0.01


def test_a_head_is_read_back_from_the_cache(head, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    first = mesh_hierarchy(head)
    assert first.sizes == (11979, 2995, 749, 188, 47)
    (stored,) = tmp_path.iterdir()
    written = stored.stat().st_mtime_ns
    second = mesh_hierarchy(head)
    assert stored.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.twin, second.twin)
    for name, values in list(vars(first).items())[:-1]:
        for one, other in zip(values, getattr(second, name), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
    mesh_hierarchy(head, (4,))
    moved = copy.deepcopy(head)
    moved.mean += torch.tensor([0.0, 0, 1e-3]) * torch.randn(len(moved.mean), 1)
    mesh_hierarchy(moved, (4,))
    assert len(list(tmp_path.iterdir())) == 3  # other settings, another mean


def cut(model):
    """The model with one column of vertices doubled: the faces on the left have the copies."""
    model = copy.deepcopy(model)
    middle = model.mean[model.faces].mean(1)[:, 0] < 0
    inside, outside = (model.faces[rows].unique() for rows in (middle, ~middle))
    shared = inside[torch.isin(inside, outside)]
    copies = torch.arange(len(shared)) + len(model.mean)
    number = torch.arange(len(model.mean)).index_copy(0, shared, copies)
    model.faces = torch.where(middle[:, None], number[model.faces], model.faces)
    model.mean = torch.cat([model.mean, model.mean[shared]])
    return model, shared


def test_where_uv_coordinates_cut_the_mesh_the_graph_goes_on(head, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    model, shared = cut(head)
    assert len(shared) > 50
    whole, joined = mesh_hierarchy(head, (4,)), mesh_hierarchy(model, (4,))
    count = len(head.mean)
    np.testing.assert_array_equal(joined.twin[count:], shared)
    np.testing.assert_array_equal(joined.twin[:count], np.arange(count))
    difference = joined.laplacian(0)[:count, :count] - whole.laplacian(0)
    assert abs(difference).max() == 0


def test_a_smooth_signal_comes_back_from_the_coarsest_level(head, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    hierarchy = mesh_hierarchy(head, (4, 4))
    positions = hierarchy.vertices[2]
    for level in (1, 0):
        positions = hierarchy.up(level) @ positions
    diagonal = np.linalg.norm(np.ptp(hierarchy.vertices[0], axis=0))
    error = np.linalg.norm(positions - hierarchy.vertices[0], axis=1) / diagonal
    assert error.mean() < 2e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.full((443, 3), np.nan)}, "NaN"),
        ({"vertices": np.zeros((443, 2))}, r"found shape \(443, 2\)"),
        ({"faces": np.array([[0, 1, 443]])}, "0 to 442"),
        ({"faces": np.zeros((0, 3), int)}, "faces"),
        ({"factors": (4, 1)}, "above 1"),
        ({"factors": ()}, "at least one"),
        ({"factors": (4, 4, 4, 4, 4)}, "Level 4 .* use fewer"),
        ({"decimation": "qslim"}, "decimation should be one of borders"),
        ({"upsampling": "nearest"}, "upsampling should be one of barycentric"),
    ],
)
def test_what_makes_no_hierarchy_is_named(change, message):
    points, faces = two_parts()
    with pytest.raises(ValueError, match=message):
        build_hierarchy(**{"vertices": points, "faces": faces, **change})
