"""FLAME as a house model, on the built-in head in FLAME's formats (no licence-gated file)."""

import math

import pytest
import torch

from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.morphable_models.flame import flame
from lit_face.morphable_models.flame.files import find_model, read_flame
from lit_face.morphable_models.flame.landmarks import contour_row, contour_yaw
from lit_face.morphable_models.flame.layer import FlameLayer
from lit_face.morphable_models.flame.model import _miniature
from lit_face.morphable_models.flame.regions import face_by_landmarks
from lit_face.morphable_models.flame.skinning import chain, skin
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close

MM = {"atol": 1e-3, "rtol": 0}  # a micrometre: float32 on 100 mm


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def model():
    return flame()


@pytest.fixture(scope="module")
def layer():
    return FlameLayer(read_flame(find_model(_miniature())))


@pytest.fixture(scope="module")
def faces(head):
    return head.sample(2, torch.Generator().manual_seed(0))


def rotation(degrees, axis=1):
    vector = torch.zeros(1, 3)
    vector[0, axis] = math.radians(degrees)
    return axis_angle_to_matrix(vector)


def turned(**angles):
    """Joints (1,4,3) with some rotation vectors."""
    names = ("neck", "jaw", "left_eye", "right_eye")
    return torch.tensor([[angles.get(name, (0.0, 0, 0)) for name in names]])


def test_export_and_reading_return_the_same_head(head, model, faces):
    assert torch.equal(model.faces, head.faces)
    assert_close(model.uv, head.uv, atol=1e-6, rtol=0)
    assert torch.equal(model.landmark_index, head.landmark_index)
    assert (model.identity_size, model.expression_size) == (60, 29)  # zero columns are dropped
    arguments = faces["identity"], faces["expression"]
    assert_close(model(*arguments), head(*arguments), **MM)
    for name in ("face", "nose", "eyes", "lips", "neck", "ears", "eyeballs", "scalp"):
        assert torch.equal(model.regions[name] > 0.5, head.regions[name] > 0.5), name


def test_colours_are_those_of_the_texture_space(head, model, faces):
    codes = faces["albedo"]
    error = (model.albedo(codes) - head.albedo(codes)).abs()
    skin = model.regions["skin"] > 0.5
    assert error[:, skin].mean() < 0.01  # a texture of 256 texels is coarser than the vertices


def test_house_model_is_the_layer_times_1000(model, layer, faces):
    generator = torch.Generator().manual_seed(1)
    joints = 0.2 * torch.randn(2, 4, 3, generator=generator)
    eyes = joints[:, 2:].flatten(1)
    pose = torch.cat([torch.zeros(2, 3), joints[:, 1]], 1)
    rotations = layer.rotations(pose, joints[:, 0], eyes)
    arguments = faces["identity"], faces["expression"]
    expected = layer(*arguments, rotations)
    assert_close(model(*arguments, joints=joints), 1000 * expected.vertices[:, model.origin], **MM)
    rest = layer(*arguments, layer.rotations(torch.zeros(2, 6))).joints
    assert_close(model.joints(*arguments), 1000 * rest, **MM)


def test_a_rotation_of_the_head_turns_the_vertices_about_the_origin(model, faces):
    pose = rotation(25).expand(2, 3, 3)
    arguments = faces["identity"], faces["expression"]
    joints = turned(jaw=(0.2, 0, 0)).expand(2, 4, 3)
    still = model(*arguments, joints=joints)
    assert_close(model(*arguments, pose, joints), still @ pose.mT, **MM)


def test_global_rotation_turns_the_layer_about_its_root(layer, faces):
    arguments = faces["identity"], faces["expression"]
    pose = torch.tensor([[0.3, -0.5, 0.2, 0.25, 0, 0]]).repeat(2, 1)
    jaw_only = torch.cat([torch.zeros(2, 3), pose[:, 3:]], 1)
    still = layer(*arguments, layer.rotations(jaw_only))
    moved = layer(*arguments, layer.rotations(pose))
    root, matrix = still.joints[:, :1], axis_angle_to_matrix(pose[:, :3])
    assert_close(moved.vertices, (still.vertices - root) @ matrix.mT + root, atol=1e-6, rtol=0)


def test_joints_at_rest_move_nothing(model, faces):
    arguments = faces["identity"], faces["expression"]
    still = model(*arguments)
    assert_close(model(*arguments, joints=torch.zeros(2, 4, 3)), still, **MM)
    assert model(*arguments, joints=torch.zeros(2, 4, 3)).shape == still.shape


def test_a_positive_jaw_opens_the_mouth_and_leaves_the_skull(model):
    zero = torch.zeros(1, 1)
    still, opened = model(zero, zero), model(zero, zero, joints=turned(jaw=(0.3, 0, 0)))
    marks = opened[:, model.landmark_index] - still[:, model.landmark_index]
    assert marks[0, 8, 1] < -12  # 13.4 if it were all bone
    assert marks[0, 57, 1] < -10
    assert marks[0, [27, 30, 33, 51, 62, 36, 45]].norm(dim=-1).max() < 2
    skull = model.regions["scalp"] > 0.5
    assert (opened - still)[0, skull].norm(dim=-1).max() < 0.01


def test_eyes_turn_alone(model):
    zero = torch.zeros(1, 1)
    moved = (model(zero, zero, joints=turned(left_eye=(0, 0.3, 0))) - model(zero, zero))[0]
    balls = model.regions["eyeballs"] > 0.5
    left = balls & (model.mean[:, 0] > 0)
    assert moved[left].norm(dim=-1).max() > 1
    assert moved[left, 0].mean() > 0  # a positive yaw looks to the subject's left
    assert_close(moved[~left], torch.zeros_like(moved[~left]), **MM)


def test_wrong_joints_are_refused(model):
    zero = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"\(B,4,3\) for neck, jaw, left_eye, right_eye"):
        model(zero, zero, joints=torch.zeros(1, 3, 3))


def test_skin_weights_are_smooth_and_sum_to_one(model):
    weights = model.skin_weights
    assert_close(weights.sum(1), torch.ones(len(weights)))
    assert weights.min() >= 0
    bone = weights[:, 2][model.faces]
    steps = (bone.amax(1) - bone.amin(1))[(model.regions["lips"] < 0.5)[model.faces].all(1)]
    assert steps.quantile(0.99) < 0.25


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_far_contour_points_lie_on_the_silhouette(model, degrees):
    zero = torch.zeros(1, 1)
    vertices, matrix = model(zero, zero), rotation(degrees)
    seen = (model.landmarks(vertices, matrix) @ matrix.mT)[0]
    fixed = (model.landmarks(vertices) @ matrix.mT)[0]
    far = slice(12, 16) if degrees > 0 else slice(1, 5)
    side = 1 if degrees > 0 else -1
    face = model.regions["face"] > 0.5
    surface = (vertices @ matrix.mT)[0, face]
    low, high = marks_of_height(model, vertices)
    for mark, old in zip(seen[far], fixed[far], strict=True):
        level = (surface[:, 1] - mark[1]).abs() < 3
        outline = (side * surface[level, 0]).max()
        assert side * mark[0] > outline - 4, (mark, outline)
        assert side * mark[0] >= side * old[0] - 0.01
        assert low < mark[1] < high


def marks_of_height(model, vertices):
    height = vertices[0, :, 1]
    return float(height.min()), float(height.max())


def test_without_a_rotation_the_jaw_runs_from_ear_to_ear(model, head):
    vertices = model.mean[None]
    assert_close(model.landmarks(vertices), head.landmarks(vertices), **MM)
    seen = model.landmarks(vertices, rotation(20))
    assert_close(seen[:, 17:], head.landmarks(vertices)[:, 17:], **MM)


def test_the_neck_turns_the_contour(model):
    vertices = model.mean[None]
    neck = turned(neck=(0, math.radians(20), 0))
    expected = model.landmarks(vertices, rotation(20))
    assert_close(model.landmarks(vertices, torch.eye(3)[None], neck), expected, **MM)


def test_contour_rows_and_their_ends():
    degrees = torch.tensor([0, 0.5, 1.5, 39, 80, -0.5, -0.6, -1, -39, -80])
    assert contour_row(degrees).tolist() == [0, 0, 2, 39, 39, 0, 40, 40, 78, 78]
    assert_close(contour_yaw(rotation(25)), torch.tensor([25.0]), atol=1e-4, rtol=0)


def test_interpolated_contours_pass_through_whole_degrees(model):
    vertices, embedding = model.mean[None], model.embedding
    for degrees in (-39, -7, 0, 12, 39, 60):
        exact = embedding.contour(vertices, rotation(degrees))
        near = embedding.contour(vertices, rotation(degrees), "interpolate")
        assert_close(near, exact, atol=0.01, rtol=0)
    between = embedding.contour(vertices, rotation(-0.5), "interpolate")
    ends = [embedding.contour(vertices, rotation(d)) for d in (0, -1)]
    assert_close(between, (ends[0] + ends[1]) / 2, atol=0.01, rtol=0)
    with pytest.raises(ValueError, match="'nearest' or 'interpolate'"):
        embedding.contour(vertices, rotation(0), "cubic")


def test_skinning_a_chain_is_the_product_of_its_turns():
    joints = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]])
    quarter = rotation(90, axis=2)[0]
    rotations = torch.stack([quarter, quarter, torch.eye(3)])[None]
    turned_by, placed = chain(rotations, joints, (-1, 0, 1))
    assert_close(placed[0], torch.tensor([[0.0, 0, 0], [0, 1, 0], [-1, 1, 0]]))
    assert_close(turned_by[0, 2], quarter @ quarter)
    tip = torch.tensor([[[3.0, 0, 0]]])
    posed = skin(tip, joints, rotations, (-1, 0, 1), torch.tensor([[0.0, 0, 1]]))
    assert_close(posed.vertices[0, 0], torch.tensor([-2.0, 1, 0]))


def test_skinning_has_the_gradients_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    vertices, joints, vectors = (
        torch.randn(1, n, 3, generator=generator, dtype=torch.float64) for n in (4, 3, 3)
    )
    weights = torch.rand(4, 3, generator=generator, dtype=torch.float64).softmax(1)
    correctives = torch.randn(18, 12, generator=generator, dtype=torch.float64)

    def posed(vertices, joints, vectors):
        rotations = axis_angle_to_matrix(vectors)
        return skin(vertices, joints, rotations, (-1, 0, 0), weights, correctives).vertices

    inputs = tuple(value.requires_grad_() for value in (vertices, joints, vectors))
    assert torch.autograd.gradcheck(posed, inputs)


def test_gradients_reach_codes_and_joints(model):
    codes = torch.zeros(1, 5, requires_grad=True), torch.zeros(1, 5, requires_grad=True)
    joints = torch.zeros(1, 4, 3, requires_grad=True)
    vertices = model(*codes, joints=joints)
    model.landmarks(vertices, torch.eye(3)[None])[..., 1].sum().backward()
    for value in (*codes, joints):
        assert value.grad.isfinite().all()
    assert joints.grad[0, 1, 0] != 0


def test_without_masks_the_face_is_what_landmarks_enclose(head):
    marks = head.mean[head.landmark_index]
    found = face_by_landmarks(head.mean, head.faces, marks) > 0.5
    truth = head.regions["face"] > 0.5
    overlap = (found & truth).sum() / (found | truth).sum()
    assert overlap > 0.75
    assert not (found & (head.regions["neck"] > 0.5)).any()
