"""Losses, ramps, masks and sampled colours of the mesh refiner in closed form."""

import cv2
import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.methods.gcn import ImageCritic, losses
from lit_face.methods.gcn.sampling import (
    erode_skin,
    mirror_pairs,
    sample_colours,
    seen_vertices,
)
from lit_face.methods.gcn.schedule import ramps
from lit_face.morphable_models.ict_facekit import ict_facekit
from tests.helpers.faces import cameras, head
from tests.helpers.tolerances import assert_close


def colours(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=generator, dtype=dtype) - 1


def test_distance_of_vertices():
    coarse = torch.zeros(2, 5, 3)
    fine = coarse.clone()
    fine[0, 1] = torch.tensor([3.0, 0.0, 4.0])
    assert_close(losses.vertex(fine, coarse), 7 / 30)
    assert_close(losses.vertex(fine, coarse, "l2"), 5 / 10)
    with pytest.raises(ValueError, match="'l1' or 'l2', found 'l3'"):
        losses.vertex(fine, coarse, "l3")


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_projection_splits_seen_and_hidden_vertices(norm):
    lit, sampled, coarse = (colours(2, 7, 3, seed=seed) for seed in range(3))
    seen = torch.zeros(2, 7, dtype=torch.float64)
    seen[:, :4] = 1
    shown, hidden = (
        losses.vertex(lit[:, part], other[:, part], norm) * lit[:, part].shape[1] / 7
        for part, other in ((slice(0, 4), sampled), (slice(4, 7), coarse))
    )
    assert_close(losses.project(lit, sampled, seen, norm=norm), shown)
    assert_close(losses.project(lit, sampled, seen, coarse, 0.5, norm), shown + 0.5 * hidden)
    sampled[:, 4:] = 100  # what is not seen has no colour
    assert_close(losses.project(lit, sampled, seen, norm=norm), shown)


def test_identity_is_a_cosine_of_every_scale():
    photo = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert_close(losses.identity(photo, 7 * photo), 0.0, atol=1e-6)
    assert_close(losses.identity(photo, -photo), 2.0, atol=1e-6)
    assert_close(losses.identity(photo, photo.flip(1)), 1.0)
    assert torch.isfinite(losses.identity(photo, torch.zeros_like(photo)))


def test_symmetry_of_mirrored_vertices():
    values = torch.zeros(1, 4, 3)
    values[0, 2] = torch.tensor([0.0, 0.6, 0.8])
    pairs = torch.tensor([[0, 2], [1, 3]])
    assert_close(losses.symmetry(values, pairs), 0.5)
    same = values[:, [0, 1, 0, 1]].requires_grad_()
    losses.symmetry(same, pairs).backward()
    assert torch.isfinite(same.grad).all()


def test_variance_of_skin():
    values = colours(3, 20, 3)
    index = torch.arange(5, 15)
    expected = values[:, 5:15].numpy().var(axis=1).mean()
    weight = torch.zeros(20)
    weight[index] = 1
    for skin in (index, weight, weight.bool()):
        assert_close(losses.variance(values, skin), expected)
    assert_close(losses.variance(values + 3, 0.5 * weight), expected)


def test_decay():
    parameters = [torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])]
    assert_close(losses.dense_decay(parameters), 7.0)


def test_pixels_in_the_mask():
    photo = torch.zeros(2, 3, 4, 4)
    rendered = photo.clone()
    rendered[0, :, 1, 1] = torch.tensor([3.0, 0.0, -4.0])
    rendered[:, :, 3, 3] = 100.0
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2, :2] = 1
    assert_close(losses.pixel(photo, rendered, mask), 5 / 8)
    assert_close(losses.pixel_l1(photo, rendered, mask), 7 / 8)
    assert losses.pixel(photo, rendered, torch.zeros_like(mask)) == 0


def test_gradients():
    lit, sampled, coarse = (colours(2, 6, 3, seed=seed) for seed in range(3))
    lit.requires_grad_()
    seen = torch.tensor([[1.0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 1, 0]], dtype=torch.float64)
    pairs = torch.tensor([[0, 1], [2, 5]])
    photo, mask = colours(1, 3, 4, 4, seed=3), (colours(1, 1, 4, 4, seed=4) > 0).double()
    terms = [
        lambda x: losses.vertex(x, coarse),
        lambda x: losses.vertex(x, coarse, "l2"),
        lambda x: losses.project(x, sampled, seen, coarse),
        lambda x: losses.project(x, sampled, seen, norm="l2"),
        lambda x: losses.symmetry(x, pairs),
        lambda x: losses.variance(x, seen[0]),
        lambda x: losses.pixel(photo, x.flatten()[:24].repeat(2).view(1, 3, 4, 4), mask),
    ]
    for term in terms:
        assert torch.autograd.gradcheck(term, lit)


def test_penalty_of_a_critic_with_a_known_slope():
    weight = colours(3, 4, 4, dtype=torch.float32)
    weight = (3 * weight / weight.norm()).requires_grad_()

    def critic(pictures):
        return (pictures * weight).flatten(1).sum(1, keepdim=True)

    real, fake = colours(2, 2, 3, 4, 4, dtype=torch.float32)
    penalty = losses.gradient_penalty(critic, real, fake, torch.rand(2, 1, 1, 1))
    assert_close(penalty, 40.0)
    penalty.backward()
    assert_close(weight.grad, 40 * weight.detach() / 3, rtol=1e-4)


def test_penalty_mixes_each_sample_for_itself():
    def critic(pictures):  # a slope that depends on where it is: the picture itself
        return pictures.square().flatten(1).sum(1, keepdim=True) / 2

    real, fake = colours(2, 2, 3, 4, 4, dtype=torch.float32)
    mix = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    slopes = torch.stack([fake[0].norm(), real[1].norm()])
    found = losses.gradient_penalty(critic, real, fake, mix)
    assert_close(found, 10 * (slopes - 1).square().mean())
    both = losses.gradient_penalty(critic, real, fake, torch.ones(1).expand(2, 1, 1, 1))
    assert_close(both, 10 * (real.flatten(1).norm(dim=1) - 1).square().mean())


def test_penalty_is_float32_under_autocast_and_reaches_the_critic():
    torch.manual_seed(0)
    network = ImageCritic(32)
    real, fake = colours(2, 2, 3, 32, 32, dtype=torch.float32)
    fake.requires_grad_()
    mix = torch.rand(2, 1, 1, 1)
    expected = losses.gradient_penalty(network, real, fake, mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses.gradient_penalty(network, real.bfloat16().float(), fake, mix)
        exact = losses.gradient_penalty(network, real, fake, mix)
    assert found.dtype == torch.float32
    assert torch.equal(exact, expected)
    expected.backward()
    assert fake.grad is None
    gradients = [p.grad for name, p in network.named_parameters() if name.endswith("weight")]
    assert all(torch.isfinite(g).all() and g.any() for g in gradients)


def test_generator_and_critic_pull_apart():
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5], [-0.5]])
    assert losses.adversarial(fake + 1) == -1
    assert losses.critic(real, fake) == -2


def test_ramps():
    assert ramps(0) == (0, 1)
    assert ramps(1) == pytest.approx((0.2, 0.8))
    assert ramps(4.5) == pytest.approx((0.9, 0.2))
    assert ramps(100) == pytest.approx((1, 0.2))
    assert ramps(1, epochs=2) == pytest.approx((0.5, 0.5))
    assert ramps(25, "paper", 50) == pytest.approx((0.5, 0.5))
    assert ramps(80, "paper", 50) == (1, 0)
    with pytest.raises(ValueError, match="'released' or 'paper', found 'both'"):
        ramps(0, "both")
    with pytest.raises(ValueError, match="epochs should be above 0"):
        ramps(0, epochs=0)


def opencv_erosion(mask, small, large):
    """The same by OpenCV, whose border never constrains."""
    ellipses = [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (s, s)) for s in (small, large)]
    return cv2.erode(cv2.dilate(mask, ellipses[0]), ellipses[1], iterations=2)


@pytest.mark.parametrize(("side", "small", "large"), [(224, 5, 9), (96, 3, 5)])
def test_erosion_is_opencvs(side, small, large):
    rng = np.random.default_rng(0)
    blobs = cv2.GaussianBlur(rng.random((2 * side, side)), (0, 0), side / 20).reshape(2, side, side)
    masks = (blobs > np.median(blobs)).astype(np.float32)
    masks[:, : side // 5] = 1  # skin up to the border
    masks[0, 30, 40] = 1 - masks[0, 30, 40]
    found = erode_skin(torch.from_numpy(masks)[:, None])
    for mask, result in zip(masks, found, strict=True):
        assert np.array_equal(result[0].numpy(), opencv_erosion(mask, small, large))
    assert 0.02 < found.mean() < masks.mean()
    grey = torch.from_numpy(rng.random((1, 1, side, side)))
    expected = opencv_erosion(grey[0, 0].numpy(), small, large)
    assert np.array_equal(erode_skin(grey)[0, 0].numpy(), expected)


def test_erosion_takes_a_border_in_proportion():
    removed = {}
    for side in (64, 96, 160, 224, 448):
        mask = torch.zeros(1, 1, side, side)
        mask[..., side // 4 : -side // 4, side // 4 : -side // 4] = 1
        inside = erode_skin(mask)[0, 0, side // 2].sum()
        removed[side] = float(side / 2 - inside) / 2 / side
    assert all(0.013 < width < 0.034 for width in removed.values())
    assert removed[448] == removed[224]
    assert erode_skin(torch.ones(1, 1, 96, 96)).all()


def test_sampled_colours():
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    image = torch.stack([columns, rows, columns + 10 * rows])[None]
    points = torch.tensor([[[2.25, 1.5], [0.5, 1.5], [1.5, 2.5], [-3.0, 9.0], [6.0, 4.0]]])
    bilinear = sample_colours(image, points)
    assert_close(bilinear[0, :3, :2], points[0, :3])
    assert_close(bilinear[0, 0, 2], 2.25 + 15)
    nearest = sample_colours(image, points, "nearest")
    expected = torch.tensor([[2.0, 2], [0, 2], [2, 2], [0, 4], [6, 4]])  # halves to the even one
    assert torch.equal(nearest[0, :, :2], expected)
    assert torch.equal(bilinear[0, 3:], nearest[0, 3:])


def two_sheets():
    """A small sheet in front of the middle of a large one, both facing the camera; pixels."""
    grid = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="xy"), dim=-1)
    wide = torch.cat([8 + 6.5 * grid, torch.full((8, 8, 1), 10.0)], dim=-1).flatten(0, 1)
    narrow = torch.cat([24 + 2 * grid, torch.zeros(8, 8, 1)], dim=-1).flatten(0, 1)
    index = torch.arange(64).view(8, 8)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.stack([a, c, b, b, c, d], dim=-1).view(-1, 3)
    return torch.cat([wide, narrow])[None], torch.cat([faces, faces + 64])


def test_what_a_nose_hides_is_not_seen():
    vertices, faces = two_sheets()
    skin = torch.ones(1, 1, 64, 64)
    behind = ((vertices[0, :64, :2] > 25) & (vertices[0, :64, :2] < 37)).all(-1)
    assert behind.sum() == 4
    seen = seen_vertices(vertices, faces, (64, 64), skin)
    assert torch.equal(seen[0, :64] == 0, behind)
    assert seen[0, 64:].all()
    assert seen_vertices(vertices, faces, (64, 64), skin, depth_test=False).all()


def test_seen_vertices_face_the_camera_on_skin_in_the_picture():
    vertices, faces = two_sheets()
    skin = torch.ones(1, 1, 64, 64)
    skin[..., 40:] = 0.4
    right = vertices[0, :, 0].round() >= 40
    seen = seen_vertices(vertices, faces, (64, 64), skin, depth_test=False)
    assert torch.equal(seen[0] == 0, right)
    assert not seen_vertices(vertices, faces.flip(1), (64, 64), skin).any()
    shifted = vertices + torch.tensor([20.0, 0, 0])
    seen = seen_vertices(shifted, faces, (64, 64), torch.ones_like(skin), depth_test=False)
    assert torch.equal(seen[0] == 0, shifted[0, :, 0] > 63.5)
    facing = torch.zeros(1, 128, dtype=torch.bool)
    facing[:, 3] = True
    seen = seen_vertices(
        vertices, faces, (64, 64), torch.ones_like(skin), depth_test=False, facing=facing
    )
    assert torch.equal(seen, facing.float())


def test_a_cheek_behind_the_nose():
    model = head()
    camera = cameras(1, 128)
    turn = torch.tensor([1.0, -1.0, -1.0])[:, None] * euler_to_matrix(
        torch.deg2rad(torch.tensor([[0.0, 65.0, 0.0]]))
    )
    camera = AffineCamera.orthographic(torch.full((1,), 0.5), turn, camera.matrix[:, :, 3])
    points = camera.project(model.mean)
    skin = torch.ones(1, 1, 128, 128)
    tested, plain = (
        seen_vertices(points, model.faces, (128, 128), skin, depth_test=test) > 0
        for test in (True, False)
    )
    assert not (tested & ~plain).any()
    hidden = model.mean[(plain & ~tested)[0]]
    front = hidden[hidden[:, 2] > model.mean[:, 2].max() - 60]
    assert len(front) > 20  # nasal side of the far eye and cheek
    away = camera.matrix[0, 2, :3] * torch.tensor([1.0, 0, 0])  # the side turned away is deeper
    assert (front @ away > 0).float().mean() > 0.75  # the rest: the nose's own folds, the lips


def check_pairs(vertices):
    pairs = mirror_pairs(vertices)
    diagonal = (vertices.amax(0) - vertices.amin(0)).norm()
    mirrored = vertices[pairs[:, 0]] * torch.tensor([-1.0, 1, 1])
    assert (mirrored - vertices[pairs[:, 1]]).norm(dim=1).max() < 0.01 * diagonal
    ordered = pairs.sort(dim=1).values
    assert len(ordered.unique(dim=0)) == len(pairs)
    single = torch.ones(len(vertices), dtype=torch.bool)
    single[pairs.flatten()] = False
    assert vertices[single, 0].abs().max() < 1e-3  # the mid-line, and nothing else
    assert (vertices[pairs, 0].abs() > 0).all()
    return pairs


def test_mirrored_vertices_of_the_built_in_head():
    pairs = check_pairs(head().mean)
    values = torch.zeros(1, len(head().mean), 3)
    values[..., 0] = head().mean[:, 0].abs() + head().mean[:, 1]
    assert losses.symmetry(values, pairs) < 1e-3


def test_mirrored_vertices_of_ict_facekit(reference):
    check_pairs(ict_facekit(reference / "ict_facekit").mean)


def test_vertices_without_a_mirrored_one_stay_out():
    points = torch.tensor([[-5.0, 0, 0], [5.0, 0.1, 0], [3.0, 4, 0], [0.0, 9, 0], [0.0, 9, 0]])
    assert mirror_pairs(points, 0.02).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=r"None of the 5 vertices.*symmetric about x = 0"):
        mirror_pairs(points + torch.tensor([50.0, 0, 0]))
