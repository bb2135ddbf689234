"""Edited pictures of faces whose geometry is known exactly."""

import cv2
import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.inference.editing import Reference, edit_face, region_mask
from lit_face.inference.finders.base import Detection
from lit_face.inference.model import faces_of
from lit_face.methods.prn.reader import PositionMapReader
from lit_face.morphable_models.position_maps import PositionMaps
from tests.helpers import faces as helper

SIDE = 160


@pytest.fixture(scope="module")
def tools():
    maps = PositionMaps(helper.head(), 96)
    return maps, PositionMapReader.of_model(helper.head(), maps)


def photo_and_face(tools, batch, row, transform=None):
    """Return a photo and its face, warped by a similarity of pixels if one is given."""
    maps, reader = tools
    photo = (batch.image[row].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    camera = AffineCamera(batch.camera.matrix[row : row + 1])
    size = photo.shape[:2]
    if transform is not None:
        matrix, size = transform
        camera = camera.warped(torch.tensor(matrix, dtype=torch.float32)[None])
        photo = cv2.warpAffine(photo, np.array(matrix)[:2], size[::-1], flags=cv2.INTER_CUBIC)
    coefficients = {name: value[row : row + 1] for name, value in batch.coefficients.items()}
    reconstruction = reader(maps(coefficients, camera))
    return photo, faces_of(reconstruction, [Detection((0.0, 0.0, 9.0, 9.0))], [size])[0]


@pytest.fixture(scope="module")
def batch():
    return helper.faces(3, size=SIDE, seed=3, yaw_deg=25.0)


@pytest.fixture(scope="module")
def first(tools, batch):
    return photo_and_face(tools, batch, 0)


@pytest.fixture(scope="module")
def second(tools, batch):
    return photo_and_face(tools, batch, 1)


def changed(before, after, by=0):
    return np.abs(before.astype(int) - after).max(axis=2) > by


def test_a_face_swapped_with_itself_is_itself(tools, first):
    photo, face = first
    edited = edit_face(photo, face, Reference(photo, face), tools[1].regions["face"])
    assert changed(photo, edited, by=2).sum() == 0


def test_another_photo_of_the_same_person_changes_nothing(tools, batch, first):
    """Surface points are found again in a picture that is turned, moved and larger."""
    photo, face = first
    turn = [[1.35, 0.25, -40.0], [-0.25, 1.35, 22.0], [0, 0, 1]]
    other, same_face = photo_and_face(tools, batch, 0, (turn, (230, 220)))
    region = tools[1].regions["face"]
    edited = edit_face(photo, face, Reference(other, same_face), region, blend="none")
    assert changed(photo, edited).any()
    difference = np.abs(photo.astype(int) - edited)
    assert difference.max() < 60  # resampled edges of lips and lids
    assert difference.mean() < 0.3


def test_a_texture_lands_on_its_region_and_nowhere_else(tools, first):
    photo, face = first
    green = np.zeros((64, 64, 3), np.uint8)
    green[..., 1] = 255
    for name, landmarks in (("mouth", range(48, 60)), ("nose", range(30, 36))):
        edited = edit_face(photo, face, green, tools[1].regions[name], blend="none")
        touched = changed(photo, edited)
        assert (edited[touched] == [0, 255, 0]).all()
        assert 0.002 < touched.mean() < 0.15
        x, y = face.landmarks[list(landmarks), :2].mean(axis=0).round().astype(int)
        assert touched[y, x]
        for other in range(17):  # the jaw
            x, y = face.landmarks[other, :2].round().astype(int).clip(0, SIDE - 1)
            assert not touched[y, x]


def darker(photo):
    return (photo * 0.6).round().astype(np.uint8)


def test_colours_are_matched_at_the_border(tools, first):
    """The same face under less light comes back at the photo's own brightness."""
    photo, face = first
    region = tools[1].regions["nose"]
    source = Reference(darker(photo), face)
    copied = edit_face(photo, face, source, region, blend="none")
    blended = edit_face(photo, face, source, region)
    mask = changed(photo, copied)
    error = [np.abs(edited.astype(int) - photo)[mask].mean() for edited in (copied, blended)]
    assert error[1] < 0.25 * error[0], error
    assert not changed(photo, blended)[~mask].any()


def test_large_faces_are_blended_on_a_smaller_copy(tools, batch, first, monkeypatch):
    photo, face = first
    region = tools[1].regions["nose"]
    exact = edit_face(photo, face, Reference(darker(photo), face), region)
    monkeypatch.setattr("lit_face.inference.editing._LARGEST", 64)
    quick = edit_face(photo, face, Reference(darker(photo), face), region)
    assert np.abs(exact.astype(int) - quick).mean(axis=2)[changed(photo, exact)].mean() < 3
    assert not changed(photo, quick)[~changed(photo, darker(photo))].any()


@pytest.mark.parametrize("edge", ["left", "bottom"])
def test_faces_cut_by_the_edge_of_the_photo(tools, batch, edge):
    """Nothing is known beyond the edge, so nothing is forced upon the colours there."""
    shift = {"left": (-SIDE / 2, 0), "bottom": (0, SIDE * 0.35)}[edge]
    matrix = [[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]
    photo, face = photo_and_face(tools, batch, 0, (matrix, (SIDE, SIDE)))
    region = tools[1].regions["face"]
    copied = edit_face(photo, face, Reference(darker(photo), face), region, blend="none")
    blended = edit_face(photo, face, Reference(darker(photo), face), region)
    mask = changed(photo, copied)
    along = {"left": np.s_[:, 0], "bottom": np.s_[-1]}[edge]
    assert mask[along].sum() > 20  # the region reaches the edge
    # Gradients are 0.6 of the photo's, so the middle differs; the edge is no worse than the rest.
    error = np.abs(blended.astype(int) - photo).mean(axis=2)
    plain = np.abs(copied.astype(int) - photo).mean(axis=2)
    assert error[mask].mean() < 0.5 * plain[mask].mean()
    assert error[along][mask[along]].mean() < 0.6 * plain[along][mask[along]].mean()


def test_what_the_reference_does_not_show_stays(tools, first):
    photo, face = first
    batch = helper.faces(1, size=SIDE, seed=8, yaw_deg=0.0)
    turned = helper.euler_to_matrix(torch.tensor([[0.0, 1.1, 0.0]]))
    turned = torch.tensor([1.0, -1.0, -1.0])[:, None] * turned
    scale = torch.tensor([0.65])
    batch.camera = AffineCamera.orthographic(scale, turned, torch.tensor([[80.0, 75.0, 0.0]]))
    other, profile = photo_and_face(tools, batch, 0)
    red = np.zeros_like(other) + np.array([255, 0, 0], np.uint8)
    edited = edit_face(photo, face, Reference(red, profile), tools[1].regions["face"], "none")
    touched = changed(photo, edited)
    left = touched[:, : int(face.landmarks[30, 0])].mean()
    right = touched[:, int(face.landmarks[30, 0]) :].mean()
    assert max(left, right) > 3 * min(left, right)
    assert profile.visibility_share < 0.8


def test_swaps_in_both_directions(tools, first, second):
    """The eyes of another person arrive, and the rest does not change."""
    region = region_mask(["eyes"], tools[1].regions)
    for (photo, face), other in ((first, second), (second, first)):
        edited = edit_face(photo, face, Reference(*other), region)
        touched = changed(photo, edited, by=3)
        assert touched.any()
        rows = np.flatnonzero(touched.any(axis=1))
        assert rows.max() < face.landmarks[30, 1]  # above the tip of the nose


def test_regions_by_name_and_picture(tools, tmp_path):
    regions = tools[1].regions
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((48, 48), 255, np.uint8))
    both = region_mask(["eyes", "mouth"], regions)
    assert np.array_equal(both, torch.maximum(regions["eyes"], regions["mouth"]))
    assert region_mask(["eyes", str(tmp_path / "mask.png")], regions).min() == 1
    with pytest.raises(ValueError, match="knows eyes, nose, mouth, face"):
        region_mask("ears", regions)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        region_mask("none.png", regions)


def test_what_does_not_fit_is_named(tools, first):
    photo, face = first
    region = tools[1].regions["face"]
    with pytest.raises(ValueError, match="blend"):
        edit_face(photo, face, photo, region, blend="laplace")
    with pytest.raises(ValueError, match="square"):
        edit_face(photo, face, np.zeros((4, 5, 3), np.uint8), region)
    with pytest.raises(ValueError, match="region"):
        edit_face(photo, face, photo, torch.zeros(3, 4, 4))
    small = PositionMaps(helper.head(), 48)
    other = photo_and_face((small, PositionMapReader.of_model(helper.head(), small)),
                           helper.faces(1, size=SIDE, seed=3), 0)  # fmt: skip
    with pytest.raises(ValueError, match="different meshes"):
        edit_face(photo, face, Reference(*other), region)
