from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_face.reporting.pictures import (
    PREDICTED_COLOUR,
    TRUE_COLOUR,
    comparison,
    contact_sheet,
    draw_landmarks,
    mesh_overlay,
    panel,
    to_pixels,
)
from lit_face.types import FaceBatch, Reconstruction

SIZE = 40


@pytest.fixture
def triangle():
    """A triangle with corners (5, 5), (29, 5), (5, 29); all 68 points lie at (33, 20)."""
    vertices = torch.tensor([[[5.0, 5.0, 0.0], [5.0, 29.0, 0.0], [29.0, 5.0, 0.0]]])
    return Reconstruction(
        image_vertices=vertices,
        vertices=vertices,
        faces=torch.tensor([[0, 1, 2]]),
        uv=torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]),
        landmarks=torch.tensor([33.0, 20.0, 0.0]).expand(1, 68, 3),
    )


def test_an_overlay_changes_the_mesh_and_nothing_else(triangle):
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    changed = (mesh_overlay(image, triangle.image_vertices, triangle.faces) != image).any(dim=1)[0]
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    inside = (columns >= 5) & (rows >= 5) & (columns + rows <= 34)
    on_edge = (columns == 5) | (rows == 5) | (columns + rows == 34)
    assert changed[inside & ~on_edge].all()
    assert not changed[~inside].any()


def test_a_mesh_that_faces_the_viewer_is_light_grey(triangle):
    black = torch.zeros(1, 3, SIZE, SIZE)
    overlay = mesh_overlay(black, triangle.image_vertices, triangle.faces, opacity=1.0)
    torch.testing.assert_close(overlay[0, :, 10, 10], torch.full((3,), 0.95))


def test_a_point_is_drawn_where_it_is():
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    points = np.tile([[33.0, 20.0, 5.0]], (68, 1))
    drawn = draw_landmarks(picture, points, (10, 200, 30))
    assert tuple(drawn[20, 33]) == (10, 200, 30)
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (rows.mean(), columns.mean()) == pytest.approx(
        (20, 33), abs=0.5
    )  # drawn in whole pixels
    assert max(np.ptp(rows), np.ptp(columns)) <= 4
    assert not picture.any()  # a copy was drawn on


def test_points_that_are_no_numbers_do_not_stop_a_report():
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    drawn = draw_landmarks(picture, np.full((68, 2), np.nan), (9, 9, 9))
    assert drawn.shape == picture.shape


def test_a_comparison_shows_image_points_and_mesh(triangle):
    true = torch.tensor([10.0, 30.0, 0.0]).expand(1, 68, 3)
    batch = FaceBatch(torch.full((1, 3, SIZE, SIZE), 0.2), landmarks=true)
    (strip,) = comparison(batch, triangle, smallest=SIZE)
    image, points, mesh = np.split(strip, 3, axis=1)
    assert (image == 51).all()
    assert tuple(points[30, 10]) == TRUE_COLOUR
    assert tuple(points[20, 33]) == PREDICTED_COLOUR
    overlay = mesh_overlay(batch.image, triangle.image_vertices, triangle.faces)
    np.testing.assert_array_equal(mesh, to_pixels(overlay)[0])
    (without_truth,) = comparison(replace(batch, landmarks=None), triangle, smallest=SIZE)
    assert tuple(without_truth[30, SIZE + 10]) == (51, 51, 51)


def test_small_pictures_are_enlarged_and_points_stay_on_their_pixels(triangle):
    batch = FaceBatch(torch.full((1, 3, SIZE, SIZE), 0.2))
    (strip,) = comparison(batch, triangle, smallest=3 * SIZE)
    assert strip.shape == (3 * SIZE, 9 * SIZE, 3)
    points = strip[:, 3 * SIZE : 6 * SIZE]
    rows, columns = np.nonzero((points == PREDICTED_COLOUR).all(axis=2))
    assert (rows.mean(), columns.mean()) == pytest.approx((61, 100), abs=0.7)  # 3 * 20 + 1, ...


def test_tiles_of_a_contact_sheet():
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = contact_sheet(pictures, columns=2)
    np.testing.assert_array_equal(sheet[::2, ::3, 0], [[1, 2], [3, 255]])
    assert sheet.shape == (4, 6, 3)


def test_a_panel_shows_the_first_faces(triangle):
    images = torch.linspace(0, 1, 3)[:, None, None, None].expand(3, 3, SIZE, SIZE)
    three = {
        name: getattr(triangle, name).expand(3, -1, -1)
        for name in ("image_vertices", "vertices", "landmarks")
    }
    picture = panel(FaceBatch(images), replace(triangle, **three), faces=2)
    side = 5 * SIZE  # enlarged to at least 192 pixels
    assert picture.shape == (side, 2 * 3 * side, 3)
    assert (picture[:, :side] == 0).all()
    assert np.abs(picture[:, 3 * side : 4 * side].astype(int) - 128).max() <= 1  # 127.5
