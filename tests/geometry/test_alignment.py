import pytest
import torch

from lit_face.geometry.alignment import procrustes
from lit_face.geometry.rotations import axis_angle_to_matrix
from tests.helpers.tolerances import assert_close


def scene(batch=4, count=30, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    source, rotation = normal(batch, count, 3), axis_angle_to_matrix(normal(batch, 3))
    scale, translation = normal(batch).exp(), 10 * normal(batch, 3)
    target = scale[:, None, None] * source @ rotation.mT + translation[:, None]
    return source, target + noise * normal(batch, count, 3), scale, rotation, translation


def test_exact_motion_is_recovered_and_inverted():
    source, target, scale, rotation, translation = scene()
    fit = procrustes(source, target)
    assert_close(fit.scale, scale)
    assert_close(fit.rotation, rotation)
    assert_close(fit.translation, translation)
    assert_close(fit.inverse().apply(target), source)
    homogeneous = torch.cat([source, torch.ones_like(source[..., :1])], -1)
    assert_close(homogeneous @ fit.matrix().mT, fit.apply(source))


@pytest.mark.parametrize("scale", [True, False])
def test_no_small_change_lowers_the_residual(scale):
    source, target, *_ = scene(noise=0.3)
    weights = torch.rand(4, 30, generator=torch.Generator().manual_seed(1)).double()
    fit = procrustes(source, target, weights, scale=scale)

    def residual(turn, shift, stretch):
        turned = (source * stretch) @ (axis_angle_to_matrix(turn) @ fit.rotation).mT
        moved = fit.scale[:, None, None] * turned + (fit.translation + shift)[:, None]
        return (weights[..., None] * (moved - target) ** 2).sum()

    turn, shift = (torch.zeros(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    stretch = torch.ones(4, 1, 1, dtype=torch.float64, requires_grad=True)
    gradients = torch.autograd.grad(residual(turn, shift, stretch), (turn, shift, stretch))
    for gradient in gradients[: 3 if scale else 2]:
        assert_close(gradient, torch.zeros_like(gradient), atol=1e-8)


def test_a_mirrored_target_gets_a_rotation_unless_mirrors_are_allowed():
    source, target, scale, *_ = scene()
    mirrored = target * torch.tensor([-1.0, 1, 1]).double()
    assert_close(torch.linalg.det(procrustes(source, mirrored).rotation), torch.ones(4).double())
    fit = procrustes(source, mirrored, reflection=True)
    assert_close(fit.apply(source), mirrored)
    assert_close(fit.scale, scale)


def test_single_meshes_and_batches_agree():
    source, target, *_ = scene()
    single, batch = procrustes(source[1], target[1]), procrustes(source, target)
    assert_close(single.apply(source[1]), batch.apply(source)[1])
    assert single.scale.shape == ()


def test_no_answer_is_nan_and_leaves_the_other_samples_alone():
    source, target, *_ = scene()
    source[1] = 3.0
    target[2, 5, 0] = torch.nan
    fit = procrustes(source, target)
    assert fit.scale.isnan().tolist() == [False, True, True, False]
    assert fit.apply(source).isnan().all(-1).all(-1).tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match="equal N"):
        procrustes(source, target[:, :5])
