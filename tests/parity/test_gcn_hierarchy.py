"""Levels of the reference meshes, and what goes down and up again through them."""

import json
from itertools import pairwise

import numpy as np
import pytest

from lit_face.morphable_models.mesh_hierarchy import build_hierarchy
from lit_face.morphable_models.mesh_hierarchy.adjacency import adjacency
from lit_face.morphable_models.mesh_hierarchy.decimation import decimate
from lit_face.morphable_models.mesh_hierarchy.upsampling import upsampling_weights

BLOBS = ("blob_closed_0", "blob_closed_1", "blob_open_3", "blob_open_4")
HEADS = ("ict_face", "ict_full")  # mirror-symmetric: equal costs fall as rounding has it
LEVELS = range(4)


@pytest.fixture(scope="module")
def sampling(reference):
    return reference / "gcn" / "sampling"


def load(sampling, name):
    with np.load(sampling / f"{name}.npz") as stored:
        return dict(stored)


def dense(columns, weights, count):
    matrix = np.zeros((len(columns), count))
    np.add.at(matrix, (np.arange(len(columns))[:, None], columns), weights)
    return matrix


@pytest.mark.parametrize("name", BLOBS)
def test_irregular_meshes_are_decimated_alike(sampling, name):
    golden = load(sampling, name)
    points, faces = golden["vertices0"], golden["faces0"]
    for level in LEVELS:
        keep, left = decimate(points, faces, -(-len(points) // 4), "reference")
        np.testing.assert_array_equal(keep, golden[f"keep{level}"])
        fine, points, faces = points, points[keep], np.searchsorted(keep, left)
        expected = golden[f"faces{level + 1}"]
        np.testing.assert_array_equal(np.sort(faces, axis=1), np.sort(expected, axis=1))
        columns, weights = upsampling_weights(fine, points, faces, "reference")
        ours = dense(columns, weights, len(keep))
        theirs = dense(golden[f"U{level}_cols"], golden[f"U{level}_weights"], len(keep))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_symmetric_heads_keep_nearly_the_same_vertices(sampling, name):
    golden = load(sampling, name)
    points, faces = golden["vertices0"].astype(float), golden["faces0"]
    for level in LEVELS:
        expected = golden[f"keep{level}"]
        keep, _ = decimate(points, faces, -(-len(points) // 4), "reference")
        assert len(keep) == len(expected)
        assert len(np.intersect1d(keep, expected)) >= 0.97 * len(expected)
        points, faces = points[expected], golden[f"faces{level + 1}"]


@pytest.mark.parametrize("name", HEADS)
def test_reference_weights_on_its_own_levels(sampling, name):
    golden = load(sampling, name)
    points = golden["vertices0"].astype(float)
    for level in LEVELS:
        coarse, faces = points[golden[f"keep{level}"]], golden[f"faces{level + 1}"]
        columns, weights = upsampling_weights(points, coarse, faces, "reference")
        theirs = golden[f"U{level}_cols"], golden[f"U{level}_weights"]
        placed = (coarse[columns] * weights[..., None]).sum(1)
        expected = (coarse[theirs[0]] * theirs[1][..., None]).sum(1)
        diagonal = np.linalg.norm(np.ptp(golden["vertices0"], axis=0))
        different = np.abs(placed - expected).max(1) > 1e-4 * diagonal
        assert different.mean() <= 0.002, (level, different.sum())
        points = coarse


@pytest.mark.parametrize("name", [*BLOBS, *HEADS])
def test_adjacency(sampling, name):
    golden = load(sampling, name)
    for level in range(5):
        matrix = adjacency(golden[f"faces{level}"], len(golden[f"A{level}_indptr"]) - 1)
        np.testing.assert_array_equal(matrix.indptr, golden[f"A{level}_indptr"])
        np.testing.assert_array_equal(matrix.indices, golden[f"A{level}_indices"])
        np.testing.assert_array_equal(matrix.data, golden[f"A{level}_data"])


@pytest.mark.parametrize("name", [*BLOBS, *HEADS])
@pytest.mark.parametrize("decimation", ["borders", "reference"])
def test_down_and_up_is_as_good_as_the_reference(sampling, name, decimation):
    golden = load(sampling, name)
    quality = json.loads((sampling / "quality.json").read_text())[name]["levels"]
    hierarchy = build_hierarchy(golden["vertices0"], golden["faces0"], (4,) * 4, decimation)
    diagonal = np.linalg.norm(np.ptp(hierarchy.vertices[0], axis=0))
    for level, (fine, coarse) in enumerate(pairwise(hierarchy.vertices)):
        expected = quality[level]["barycentric_U"]
        assert len(coarse) <= quality[level]["n_to"]
        error = np.linalg.norm(hierarchy.up(level) @ coarse - fine, axis=1) / diagonal
        assert error.mean() <= 1.1 * expected["updown_mean"], level
        assert error.max() <= 1.1 * expected["updown_max"], level


@pytest.mark.parametrize(
    ("name", "mean", "largest"),
    [
        ("ict_full", 2.8e-4, 7.6e-3),
        ("ict_face", 2.5e-4, 1.6e-2),
        ("blob_open_3", 1.1e-3, 1.0e-2),
    ],
)
def test_the_library_reaches_what_was_measured_of_it(sampling, name, mean, largest):
    golden = load(sampling, name)
    hierarchy = build_hierarchy(golden["vertices0"], golden["faces0"], (4,), "fast_simplification")
    assert hierarchy.sizes[1] == len(golden["keep0"])
    fine, coarse = hierarchy.vertices
    error = np.linalg.norm(hierarchy.up(0) @ coarse - fine, axis=1)
    error /= np.linalg.norm(np.ptp(fine, axis=0))
    assert error.mean() <= 1.1 * mean
    assert error.max() <= 1.1 * largest
