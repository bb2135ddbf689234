import numpy as np
import pytest
import trimesh

from lit_face.metrics.scan_distance import (
    Surface,
    border_vertices,
    closest_points,
    compare,
    displacement_errors,
    rigidly_aligned,
)
from tests.geometry.test_uv_template import sheet


def plane(cells=20, side=100.0, height=0.0, slope=0.0):
    xy, faces = sheet(cells)
    xy = side * (xy - 0.5)
    return Surface.of(np.column_stack([xy, height + slope * xy[:, 0]]), faces)


def bumps(cells=60, side=100.0, height=0.0):
    xy, faces = sheet(cells)
    xy = side * (xy - 0.5)
    relief = 5 * np.sin(xy[:, 0] / 9) * np.cos(xy[:, 1] / 11) - (xy**2).sum(1) / 200
    return Surface.of(np.column_stack([xy, relief + height]), faces)


def test_planes_at_a_known_distance():
    found = compare(plane(20), plane(33, side=140.0, height=0.7)).summary()
    for key in ("distance_mm", "accuracy_mm", "completeness_mm", "median_mm", "p90_mm", "rms_mm"):
        assert found[key] == pytest.approx(0.7, abs=1e-9), key
    assert found["below_0.5mm"] == 0
    assert found["below_1mm"] == found["below_2mm"] == 1
    assert found["normal_deg"] == pytest.approx(0, abs=1e-6)
    assert found["excluded"] == 0


def test_a_known_angle():
    found = compare(plane(40), plane(40, side=140.0, slope=np.tan(np.deg2rad(2)))).summary()
    assert found["normal_deg"] == pytest.approx(2, abs=1e-3)
    # |x| / cos(2 degrees) is the distance; its mean over a side of 100 is 25 of it.
    assert found["accuracy_mm"] == pytest.approx(25 * np.sin(np.deg2rad(2)), rel=0.06)


def test_spheres_of_two_radii():
    spheres = []
    for radius in (50.0, 51.5):
        mesh = trimesh.creation.icosphere(4, radius)
        spheres.append(Surface.of(np.asarray(mesh.vertices), np.asarray(mesh.faces)))
    found = compare(*spheres).summary()
    assert found["distance_mm"] == pytest.approx(1.5, abs=0.05)
    assert found["excluded"] == 0
    assert not spheres[0].on_border.any()


def test_what_lies_beyond_the_border_does_not_count():
    mesh, scan = plane(20, side=60.0), plane(40, side=200.0, height=0.5)
    errors = compare(mesh, scan)
    assert errors.completeness.distance.max() == pytest.approx(0.5)
    inside = (np.abs(scan.vertices[:, :2]) < 30).all(1).sum()
    # An edge that cuts a corner of the border counts as border.
    assert 0 <= inside - len(errors.completeness.distance) <= 4
    assert len(errors.accuracy.distance) == len(mesh.vertices)


def test_holes_of_the_scan_do_not_count():
    mesh, scan = bumps(30), bumps(60)
    middle = np.linalg.norm(scan.vertices[scan.faces].mean(1)[:, :2], axis=1)
    holed = Surface.of(scan.vertices, scan.faces[middle > 12])
    whole, found = compare(mesh, scan).summary(), compare(mesh, holed).summary()
    assert found["accuracy_mm"] == pytest.approx(whole["accuracy_mm"], rel=0.1)
    far = bumps(30, height=4.0)
    raised = Surface.of(far.vertices * [1, 1, 1.5], far.faces)
    assert 0.05 < compare(raised, scan).summary()["excluded"] < 0.9


def test_the_limit_excludes_and_says_so():
    xy, faces = sheet(20)
    xy = 100 * (xy - 0.5)
    half = np.where(xy[:, 0] > 0.1, 8.0, 0.5)
    mesh, scan = Surface.of(np.column_stack([xy, half]), faces), plane(40, side=140.0)
    errors = compare(mesh, scan)
    assert errors.accuracy.excluded == pytest.approx((xy[:, 0] > 0.1).mean())
    assert errors.accuracy.distance.max() == pytest.approx(0.5)


def test_closest_points_are_on_the_surface_with_its_normals():
    surface = bumps(20)
    points = np.random.default_rng(0).uniform(-60, 60, (300, 3))
    found = closest_points(points, surface)
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    samples, _ = trimesh.sample.sample_surface(mesh, 20000, seed=0)
    for point, distance in zip(points, found.distance, strict=True):
        assert distance <= np.linalg.norm(samples - point, axis=1).min() + 1e-9
    assert np.linalg.norm(found.normals, axis=1) == pytest.approx(1)
    away = points - found.points
    across = np.abs((away * found.normals).sum(1)) / np.linalg.norm(away, axis=1)
    assert np.median(across[found.is_inside]) > 0.99


def test_fewer_points_say_nearly_the_same():
    mesh, scan = bumps(50, side=90.0), bumps(60)
    raised = Surface.of(mesh.vertices + np.array([0, 0, 0.8]), mesh.faces)
    whole, some = compare(raised, scan), compare(raised, scan, most=700)
    assert len(some.accuracy.distance) <= 700 < len(whole.accuracy.distance)
    assert some.summary()["distance_mm"] == pytest.approx(whole.summary()["distance_mm"], rel=0.05)


def test_borders():
    _, faces = sheet(10)
    border = border_vertices(faces, 121).reshape(11, 11)
    assert border.sum() == 40
    assert not border[1:-1, 1:-1].any()


def test_icp_finds_a_small_motion():
    scan = bumps(80)
    angle = np.deg2rad(1.5)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    inner = bumps(40, side=80.0)
    moved = Surface.of(inner.vertices @ turn.T + [1.0, -0.7, 1.2], inner.faces)
    before = compare(moved, scan).summary()["distance_mm"]
    after = compare(rigidly_aligned(moved, scan), scan).summary()
    assert before > 0.8
    assert after["distance_mm"] < 0.1
    expected = compare(inner, scan).summary()["normal_deg"]
    assert after["normal_deg"] == pytest.approx(expected, abs=0.2)


def test_displacement_errors_count_what_is_valid():
    true, predicted = np.zeros((8, 8)), np.full((8, 8), 0.4)
    predicted[0] = 9
    valid = np.ones((8, 8), bool)
    valid[0] = False
    found = displacement_errors(predicted, true, valid)
    assert found["displacement_error_mm"] == pytest.approx(0.4)
    with pytest.raises(ValueError, match="No texel"):
        displacement_errors(predicted, true, ~valid & False)


def test_surfaces_in_two_frames_are_refused():
    with pytest.raises(ValueError, match="one frame"):
        compare(plane(10), plane(10, height=900.0)).summary()
    with pytest.raises(ValueError, match="finite"):
        Surface.of(np.full((3, 3), np.nan), np.arange(3)[None])
