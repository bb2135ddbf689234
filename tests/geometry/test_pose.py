import torch

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera, look_at
from lit_face.geometry.pose import (
    fit_affine_camera,
    fit_orthographic_camera,
    frontalize_affine,
    frontalize_rigid,
    head_angles,
    pose_from_camera,
)
from lit_face.geometry.rotations import euler_to_matrix
from tests.helpers.tolerances import assert_close


def scene(batch=5):
    generator = torch.Generator().manual_seed(0)
    head = 60 * torch.randn(100, 3, generator=generator).double()
    angles = torch.rand(batch, 3, generator=generator).double() * 2 - 1
    scale = 1 + torch.rand(batch, generator=generator).double()
    translation = 100 * torch.rand(batch, 3, generator=generator).double()
    axes = torch.diag(torch.tensor([1.0, -1, -1]).double())
    camera = AffineCamera.orthographic(scale, axes @ euler_to_matrix(angles), translation)
    return head, angles, scale, camera


def test_camera_gives_back_the_angles_it_was_made_of():
    head, angles, scale, camera = scene()
    assert_close(head_angles(camera), angles)
    assert_close(pose_from_camera(camera).scale, scale)
    fitted = fit_orthographic_camera(head, camera.project(head))
    assert_close(fitted.matrix, camera.matrix)


def test_mirroring_the_picture_negates_yaw_and_roll():
    _, angles, scale, camera = scene()
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]).double())
    mirrored = camera.warped(mirror.expand(5, 3, 3))
    assert_close(head_angles(mirrored), angles * torch.tensor([1.0, -1, -1]).double())
    assert_close(pose_from_camera(mirrored).scale, scale)


def test_affine_camera_is_recovered_from_pixels_alone():
    head, _, _, camera = scene()
    fitted = fit_affine_camera(head.expand(5, -1, -1), camera.project(head)[..., :2])
    assert_close(fitted.matrix[:, :2], camera.matrix[:, :2])
    assert_close(fitted.matrix[:, 2, :3], camera.matrix[:, 2, :3])


def test_rigid_frontalisation_keeps_the_identity_and_affine_does_not():
    head, _, _, camera = scene()
    person = head * torch.tensor([1.1, 0.9, 1.0]).double()
    posed = camera.project(person)
    flipped = posed * torch.tensor([1.0, -1, -1]).double()
    rigid, affine = frontalize_rigid(flipped, head), frontalize_affine(flipped, head)
    ratio = rigid[0].std(0) / person.std(0)
    assert_close(ratio / ratio.mean(), torch.ones(3).double(), atol=0.02, rtol=0)
    assert_close(affine, head.expand(5, -1, -1), atol=1e-6)


def test_look_at_puts_the_target_in_the_middle_and_up_upwards():
    eye, target = torch.tensor([[100.0, 50, 600]]), torch.tensor([[5.0, 10, 20]])
    rotation, translation = look_at(eye, target, torch.tensor([[0.0, 1, 0]]))
    intrinsics = torch.tensor([[[800.0, 0, 64], [0, 800, 48], [0, 0, 1]]])
    camera = PerspectiveCamera(intrinsics, rotation, translation)
    centre, above, beside = camera.project(
        torch.stack([target[0], target[0] + torch.tensor([0.0, 10, 0]),
                     target[0] + torch.tensor([10.0, 0, 0])])
    )[0]  # fmt: skip
    assert_close(centre, torch.tensor([64.0, 48, (target - eye).norm()]), atol=1e-3)
    assert above[1] < centre[1] - 5  # y points down in the picture
    assert beside[0] > centre[0] + 5  # the subject's left is on the right
    assert_close(torch.linalg.det(rotation), torch.ones(1))
