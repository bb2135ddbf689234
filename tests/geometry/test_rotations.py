import math

import torch
from scipy.spatial.transform import Rotation

from lit_face.geometry.rotations import (
    axis_angle_to_matrix,
    euler_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler,
    rotation_angle,
)
from tests.helpers.tolerances import assert_close


def random_angles(count=200):
    generator = torch.Generator().manual_seed(0)
    unit = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1
    return unit * torch.tensor([math.pi, math.pi / 2, math.pi]).double() * 0.999


def test_angles_move_the_face_as_documented():
    # y-up frame: nose along +z, top of the head along +y; the left of the picture is -x.
    nose, top = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, 1, 0])
    pitch, yaw, roll = euler_to_matrix(0.3 * torch.eye(3))
    assert (pitch @ nose)[1] > 0.2  # looks up
    assert (yaw @ nose)[0] < -0.2  # turns to the left of the picture
    assert (roll @ top)[0] > 0.2  # tilts to the right of the picture


def test_euler_matrices_are_rotations_and_equal_scipys():
    angles = random_angles()
    matrices = euler_to_matrix(angles)
    identity = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    assert_close(matrices @ matrices.mT, identity)
    assert_close(torch.linalg.det(matrices), torch.ones(len(angles)).double())
    right_handed = Rotation.from_euler("xyz", angles.numpy()).as_matrix()
    assert_close(matrices.mT, right_handed)


def test_euler_round_trip_also_where_pitch_and_roll_merge():
    angles = random_angles()
    assert_close(matrix_to_euler(euler_to_matrix(angles)), angles, atol=1e-7)
    locked = angles.clone()
    locked[:, 1] = torch.sign(angles[:, 1]) * math.pi / 2
    matrices = euler_to_matrix(locked)
    assert_close(euler_to_matrix(matrix_to_euler(matrices)), matrices, atol=1e-6)


def test_axis_angle_equals_scipys_in_both_directions():
    vectors = random_angles()
    matrices = axis_angle_to_matrix(vectors)
    assert_close(matrices, Rotation.from_rotvec(vectors.numpy()).as_matrix())
    expected = Rotation.from_matrix(matrices.numpy()).as_rotvec()
    assert_close(matrix_to_axis_angle(matrices), expected, atol=1e-7)


def test_axis_angle_at_nothing_and_at_a_half_turn():
    for angle in (0.0, 1e-12, 1e-5, math.pi - 1e-9, math.pi):
        vector = angle * torch.tensor([[2.0, -1, 2]], dtype=torch.float64) / 3
        matrix = axis_angle_to_matrix(vector)
        assert_close(axis_angle_to_matrix(matrix_to_axis_angle(matrix)), matrix)
        assert_close(rotation_angle(matrix), torch.tensor([angle], dtype=torch.float64), atol=1e-8)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, zero)
    identity = torch.eye(3, dtype=torch.float64).requires_grad_()
    matrix_to_axis_angle(identity).sum().backward()
    assert identity.grad.isfinite().all()


def test_geodesic_distance_is_the_angle_between():
    first, second = euler_to_matrix(random_angles(50)), euler_to_matrix(random_angles(100)[50:])
    expected = (Rotation.from_matrix(first.mT @ second)).magnitude()
    assert_close(rotation_angle(first.mT @ second), expected, atol=1e-8)
