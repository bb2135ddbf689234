import copy

import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.methods.uv_implicit import ImplicitNetwork, ImplicitSurface
from lit_face.methods.uv_implicit.agreement import view_agreement
from tests.helpers.multiview import plane_batch
from tests.helpers.tolerances import assert_close

HEIGHT = 2.0


def agreement(batch):
    torch.manual_seed(0)
    network = ImplicitNetwork(width=8, channels=16, hidden=(16,), groups=8)
    surface = ImplicitSurface(network, planes=21, interval=0.5, crop=None)
    return surface.agreement(batch, torch.full((1, 1, 16, 16), HEIGHT))


def test_views_of_one_surface_agree():
    found = agreement(plane_batch([HEIGHT]))
    assert (found.features < 1.6).all()
    assert_close(found.brightness, torch.ones(1, 5), atol=0.02)


def test_a_moved_camera_stands_out():
    for view in range(5):
        batch = plane_batch([HEIGHT])
        camera = batch.camera
        translation = camera.translation.clone()
        translation[:, view, 0] += 3
        batch.camera = PerspectiveCamera(camera.intrinsics, camera.rotation, translation)
        found = agreement(batch).features[0]
        assert found.argmax() == view
        assert found[view] > 1.4 * found.sort().values[-2]


def test_an_overexposed_photo_stands_out():
    batch = plane_batch([HEIGHT])
    batch.image[:, 2] = (2.5 * batch.image[:, 2]).clamp(max=1)
    found = agreement(batch).brightness[0]
    assert found[2] > 1.6
    assert_close(found[[0, 1, 3, 4]], torch.ones(4), atol=0.05)


def test_a_view_that_sees_nothing_has_no_number():
    batch = plane_batch([HEIGHT])
    away = copy.copy(batch)
    translation = batch.camera.translation.clone()
    translation[:, 4, 0] += 1000
    away.camera = PerspectiveCamera(batch.camera.intrinsics, batch.camera.rotation, translation)
    found = agreement(away)
    assert found.features.isnan().tolist() == [[False, False, False, False, True]]
    assert found.brightness.isnan().tolist() == [[False, False, False, False, True]]


def test_texels_count_where_two_views_see_them():
    """Distances in closed form: three views see a texel, one of these another one alone."""
    features = torch.tensor([[[0.0, 5.0]], [[0.0, 0.0]], [[3.0, 0.0]]])[..., None].permute(
        1, 0, 2, 3
    )
    weights = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    found = view_agreement(features, torch.ones(1, 3, 2, 3), weights)
    # From the means 1.5, 1.5 and 0 of the others: 1.5, 1.5 and 3.
    assert_close(found.features, torch.tensor([[1.0, 1.0, 2.0]]))
    assert_close(found.brightness, torch.ones(1, 3))
