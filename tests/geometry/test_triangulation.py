import pytest
import torch

from lit_face.geometry.cameras import look_at
from lit_face.geometry.triangulation import disagreeing_views, triangulate, view_residuals
from tests.helpers.tolerances import assert_close


def ring(views=10, distance=1000.0, spread_deg=60.0):
    """Cameras on an arc around the origin: K (N,3,3) and Rt (N,3,4), mm."""
    yaw = torch.deg2rad(torch.linspace(-spread_deg, spread_deg, views).double())
    eye = distance * torch.stack([yaw.sin(), 0.3 * (3 * yaw).sin(), yaw.cos()], dim=1)
    up = torch.tensor([0.0, 1, 0]).double().expand(views, -1)
    rotation, translation = look_at(eye, torch.zeros_like(eye), up)
    intrinsics = torch.tensor([[1500.0, 0, 240], [0, 1500, 320], [0, 0, 1]]).double()
    return intrinsics.expand(views, -1, -1), torch.cat([rotation, translation[..., None]], dim=-1)


def face_points(seed=0, count=68):
    generator = torch.Generator().manual_seed(seed)
    return 60 * torch.randn(count, 3, generator=generator).double()


def project(intrinsics, extrinsics, points):
    homogeneous = (points @ extrinsics[..., :3].mT + extrinsics[..., None, :, 3]) @ intrinsics.mT
    return homogeneous[..., :2] / homogeneous[..., 2:]


def noisy(pixels, seed=1, std=0.7):
    generator = torch.Generator().manual_seed(seed)
    return pixels + std * torch.randn(pixels.shape, generator=generator).double()


@pytest.mark.parametrize("robust", [False, True])
def test_exact_pictures_give_exact_points_in_a_batch(robust):
    intrinsics, extrinsics = ring()
    points = torch.stack([face_points(0), face_points(1)])
    pixels = torch.stack([project(intrinsics, extrinsics, each) for each in points])
    found = triangulate(intrinsics, extrinsics, pixels, robust=robust)
    assert_close(found.points, points, atol=1e-6)
    assert float(found.residual.max()) < 1e-6


def test_a_face_does_not_depend_on_its_batch():
    intrinsics, extrinsics = ring()
    pixels = torch.stack([noisy(project(intrinsics, extrinsics, face_points(k))) for k in (0, 1)])
    pixels[1, 3, 5:20] += 60
    both = triangulate(intrinsics, extrinsics, pixels, robust=True)
    alone = triangulate(intrinsics, extrinsics, pixels[0], robust=True)
    assert_close(both.points[0], alone.points)
    assert_close(both.weights[0], alone.weights)


def test_views_without_a_face_do_not_matter():
    intrinsics, extrinsics = ring()
    pixels = noisy(project(intrinsics, extrinsics, face_points()))
    missing = pixels.clone()
    missing[[2, 7]] = torch.nan
    found = triangulate(intrinsics, extrinsics, missing)
    kept = [row for row in range(10) if row not in (2, 7)]
    expected = triangulate(intrinsics[kept], extrinsics[kept], pixels[kept])
    assert_close(found.points, expected.points)
    assert found.residual[[2, 7]].isnan().all()
    assert not found.weights[[2, 7]].any()
    weights = torch.ones(10, 68)
    weights[[2, 7]] = 0
    assert_close(triangulate(intrinsics, extrinsics, pixels, weights).points, found.points)


@pytest.mark.parametrize("views", [3, 5, 10])
def test_wrong_points_lose_their_influence(views):
    intrinsics, extrinsics = ring(views)
    points = face_points()
    pixels = noisy(project(intrinsics, extrinsics, points))
    pixels[1, :6] += torch.tensor([50.0, -40.0])
    plain = triangulate(intrinsics, extrinsics, pixels).points
    robust = triangulate(intrinsics, extrinsics, pixels, robust=True)
    error = (robust.points - points).norm(dim=1)
    assert float((plain - points).norm(dim=1)[:6].mean()) > 3.5
    assert float(error[:6].mean()) < (3 if views == 3 else 0.8)
    assert float(error[6:].mean()) < 0.8
    if views > 3:
        assert float(robust.weights[1, :6].max()) < 0.05


def test_a_camera_that_is_off_by_5_mm_is_named():
    intrinsics, extrinsics = ring()
    pixels = noisy(project(intrinsics, extrinsics, face_points()))
    sound = triangulate(intrinsics, extrinsics, pixels, robust=True)
    assert not disagreeing_views(sound.residual, least=1.0).any()
    moved = extrinsics.clone()
    moved[6, :, 3] += torch.tensor([4.0, 3.0, 0.0])
    found = triangulate(intrinsics, moved, pixels, robust=True)
    assert disagreeing_views(found.residual, least=1.0).nonzero().flatten().tolist() == [6]
    of_views = view_residuals(found.residual)
    assert 4 < float(of_views[6]) < 6
    error = (found.points - face_points()).norm(dim=1)
    assert float(error.mean()) < 1


def test_one_ray_or_parallel_rays_say_nothing():
    intrinsics, extrinsics = ring(3)
    pixels = project(intrinsics, extrinsics, face_points())
    pixels[1:, 4] = torch.nan
    found = triangulate(intrinsics, extrinsics, pixels)
    assert found.points[4].isnan().all()
    assert found.points.isfinite().all(-1).sum() == 67
    twice = triangulate(intrinsics[:1].expand(2, -1, -1), extrinsics[[0, 0]], pixels[[0, 0]])
    assert twice.points.isnan().all()
