import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from lit_face.geometry.detailed_mesh import detailed_mesh
from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.reporting.heat_maps import HeatMesh, heat_maps, heat_picture, upright
from tests.helpers.view_sphere import view_sphere


@pytest.fixture(scope="module")
def mesh():
    sphere = view_sphere(32, yaws=(0.0,), height=8, width=8)
    return detailed_mesh(sphere.position.movedim(0, -1), sphere.mask, levels=0)


def redness(picture):
    """Where red outweighs blue by much, the sides of the picture: left, right."""
    red = picture[..., 0].astype(float) - picture[..., 2]
    half = picture.shape[1] // 2
    return (red[:, :half] > 60).mean(), (red[:, half:] > 60).mean()


def test_a_side_keeps_its_place(mesh):
    colors = ScalarMappable(Normalize(-1, 1), colormaps["coolwarm"])
    left = (mesh.vertices[:, 0] > 5).float().numpy()  # the subject's left, right in the picture
    heat = HeatMesh(mesh.vertices, mesh.faces, 2 * left - 1)
    frontal = redness(heat_picture(heat, colors, 0.0, 64))
    assert frontal[0] < 0.02 < 0.2 < frontal[1]
    from_left = redness(heat_picture(heat, colors, 45.0, 64))
    from_right = redness(heat_picture(heat, colors, -45.0, 64))
    assert sum(from_left) > sum(frontal) > sum(from_right)
    top = (mesh.vertices[:, 1] > 5).float().numpy()
    upper = heat_picture(HeatMesh(mesh.vertices, mesh.faces, 2 * top - 1), colors, 0.0, 64)
    red = upper[..., 0].astype(float) - upper[..., 2] > 60
    assert red[:32].mean() > 0.2 > 0.02 > red[32:].mean()


def test_colours_are_those_of_the_bar(mesh):
    colors = ScalarMappable(Normalize(0, 1), colormaps["viridis"])
    heat = HeatMesh(mesh.vertices, mesh.faces, np.full(len(mesh.vertices), 0.5))
    middle = heat_picture(heat, colors, 0.0, 64)[32, 32]
    want = np.array(colormaps["viridis"](0.5)[:3]) * 255
    np.testing.assert_allclose(middle, want, atol=3)
    unknown = HeatMesh(mesh.vertices, mesh.faces, np.full(len(mesh.vertices), np.nan))
    grey = heat_picture(unknown, colors, 0.0, 64)[32, 32]
    assert 60 < grey.max() == grey.min() < 90
    assert (heat_picture(heat, colors, 0.0, 64)[0, 0] == 255).all()


def test_a_sheet(mesh):
    distance = 0.3 * np.sin(np.asarray(mesh.vertices[:, 0]) / 10)
    heat = HeatMesh(mesh.vertices, mesh.faces, distance)
    sheet = heat_maps({"base": heat, "regularised": heat}, size=96)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    assert sheet.shape[0] > 2 * 96
    assert sheet.shape[1] > 3 * 96
    with pytest.raises(ValueError, match="3 distances for"):
        heat_maps({"base": HeatMesh(mesh.vertices, mesh.faces, distance[:3])})
    with pytest.raises(ValueError, match="needs a mesh"):
        heat_maps({})


def test_faces_are_turned_upright(mesh):
    turn = axis_angle_to_matrix(torch.tensor([0.4, -1.1, 2.0]))
    turned = mesh.vertices @ turn.T + torch.tensor([5.0, 6, 7])
    found = upright(turned, mesh.faces, mesh.uv)
    want = mesh.vertices
    torch.testing.assert_close(found - found.mean(0), want - want.mean(0), atol=0.05, rtol=0)
