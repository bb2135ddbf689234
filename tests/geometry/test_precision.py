import pytest
import torch

from lit_face.geometry.alignment import procrustes
from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera, look_at
from lit_face.geometry.precision import check_precision, fp32_region
from lit_face.geometry.rotations import axis_angle_to_matrix, rotation_angle
from lit_face.geometry.similarity2d import apply_similarity, similarity_matrix


def everything():
    """Results of all that multiplies matrices, by name."""
    generator = torch.Generator().manual_seed(0)
    points = 100 * torch.randn(2, 50, 3, generator=generator)
    rotation = axis_angle_to_matrix(torch.randn(2, 3, generator=generator))
    shift = torch.tensor([[120.3, 110.7, 600.0]]).expand(2, 3)
    affine = AffineCamera.orthographic(torch.tensor([1.3, 0.9]), rotation, shift)
    intrinsics = torch.tensor([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]]).expand(2, 3, 3)
    pinhole = PerspectiveCamera(intrinsics, rotation, shift)
    crop = similarity_matrix(torch.tensor([1.1, 1.2]), torch.tensor([0.3, 0.1]),
                             shift[:, :2], shift[:, 1:])  # fmt: skip
    fit = procrustes(points, affine.project(points))
    return {
        "affine": affine.project(points),
        "pinhole": pinhole.project(points),
        "warped affine": affine.warped(crop).matrix,
        "warped pinhole": pinhole.warped(crop).intrinsics,
        "similarity": apply_similarity(crop, points),
        "alignment": fit.inverse().apply(fit.apply(points)),
        "angle": rotation_angle(rotation),
        "look at": look_at(points[:, 0], points[:, 1], points[:, 2])[1],
    }


def test_autocast_does_not_reach_coordinates():
    expected = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = everything()
        with fp32_region():
            assert (torch.eye(3) @ torch.eye(3)).dtype == torch.float32
        assert (torch.eye(3) @ torch.eye(3)).dtype == torch.bfloat16
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_half_precision_coordinates_are_refused():
    check_precision("x", torch.zeros(1))
    with pytest.raises(TypeError, match=r"x is torch.float16.*\.float\(\)"):
        check_precision("x", torch.zeros(1).half())
