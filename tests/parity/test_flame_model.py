"""FLAME: numbers of photometric_optimization (83f84b8) and smplx 0.1.28 on a synthetic model."""

import numpy as np
import pytest
import torch

from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.morphable_models.flame.files import read_flame
from lit_face.morphable_models.flame.landmarks import LandmarkEmbedding, contour_row, contour_yaw
from lit_face.morphable_models.flame.layer import FlameLayer
from lit_face.morphable_models.flame.side_files import read_embedding
from lit_face.morphable_models.texture_space_files import read_texture_space
from tests.helpers.tolerances import assert_close

METRES = {"atol": 2e-6, "rtol": 0}
MODEL = "toy_generic_model_chumpy_py2.pkl"


@pytest.fixture(scope="module")
def toy(reference):
    return reference / "flame" / "toy_model"


@pytest.fixture(scope="module")
def layers(toy):
    return {
        dtype: FlameLayer(read_flame(toy / MODEL, dtype))
        for dtype in (torch.float32, torch.float64)
    }


@pytest.fixture(scope="module")
def layer(layers):
    return layers[torch.float32]


@pytest.fixture(scope="module")
def embedding(toy, layer):
    return LandmarkEmbedding(layer.faces, read_embedding(toy / "toy_landmark_embedding.npy"))


@pytest.fixture(params=["set_a", "set_b"])
def golden(request, reference):
    def read(name):
        with np.load(reference / "flame" / request.param / f"{name}.npz") as stored:
            return {key: torch.from_numpy(stored[key]) for key in stored.files}

    return read


def test_the_chumpy_pickle_equals_the_plain_arrays(toy):
    chumpy, plain = (read_flame(toy / name) for name in (MODEL, "toy_generic_model.npz"))
    for key in ("template", "faces", "shape_basis", "pose_basis", "joint_regressor", "weights"):
        assert torch.equal(getattr(chumpy, key), getattr(plain, key)), key
    assert chumpy.parents == plain.parents == (-1, 0, 1, 1, 1)
    assert chumpy.edition.split("-")[-1] == plain.edition.split("-")[-1]


def test_the_object_embedding_equals_the_plain_arrays(toy):
    first, second = (
        read_embedding(toy / f"toy_landmark_embedding.{end}") for end in ("npy", "npz")
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", ["flame_forward_ref100_50", "flame_forward_ref300_100_eyes"])
def test_forward(golden, layer, embedding, name):
    data = golden(name)
    rotations = layer.rotations(data["pose"], eyes=data.get("eye_pose"))
    vertices = layer(data["shape"], data["expression"], rotations).vertices
    assert_close(vertices, data["vertices"], **METRES)
    turned = rotations[:, 0] @ rotations[:, 1]
    assert_close(embedding(vertices, turned), data["landmarks2d"], **METRES)
    assert_close(embedding.full(vertices), data["landmarks3d"], **METRES)


@pytest.mark.parametrize(
    ("dtype", "end", "tolerance"),
    [(torch.float32, "f32", METRES), (torch.float64, "f64", {"atol": 2e-12, "rtol": 0})],
)
def test_linear_blend_skinning_of_smplx(golden, layers, embedding, dtype, end, tolerance):
    data, layer = golden("flame_lbs_smplx"), layers[dtype]
    betas = data["betas"].to(dtype)
    rotations = axis_angle_to_matrix(data["full_pose"].to(dtype).view(-1, 5, 3))
    posed = layer(betas[:, :300], betas[:, 300:], rotations)
    # in float64 the 1e-8 that the reference adds to each component of a rotation vector shows
    tolerance = {"atol": 2e-8, "rtol": 0} if dtype == torch.float64 else tolerance
    assert_close(posed.vertices, data[f"vertices_{end}"], **tolerance)
    assert_close(posed.joints, data[f"joints_{end}"], **tolerance)
    full = embedding.full(posed.vertices)
    assert_close(full, data[f"landmarks_full68_{end}"], **METRES)


def test_the_layer_of_smplx_turns_the_contour_the_other_way(golden, layer, embedding):
    """It has -yaw, and of the root joint alone; its points: 5 joints, 51 static, 17 contour."""
    data = golden("flame_smplx_layer")
    eyes = torch.cat([data["leye_pose"], data["reye_pose"]], 1)
    pose = torch.cat([data["global_orient"], data["jaw_pose"]], 1)
    rotations = layer.rotations(pose, data["neck_pose"], eyes)
    posed = layer(data["betas"], data["expression"], rotations)
    assert_close(posed.vertices, data["vertices"], **METRES)
    assert_close(posed.joints, data["joints"][:, :5], **METRES)
    assert_close(embedding.static(posed.vertices), data["joints"][:, 5:56], **METRES)
    opposite = contour_row(-contour_yaw(rotations[:, 0]))
    contour = embedding._row(posed.vertices, opposite)
    assert_close(contour, data["joints"][:, 56:], **METRES)
    ours = embedding.contour(posed.vertices, rotations[:, 0] @ rotations[:, 1])
    assert (ours - contour).norm(dim=-1).max() > 1e-3


def test_contour_rows_are_exact(golden, layer, embedding):
    data = golden("flame_dynamic_contour")
    rotations = layer.rotations(data["pose"])
    turned = rotations[:, 0] @ rotations[:, 1]
    assert torch.equal(contour_row(contour_yaw(turned)), data["lut_row"])
    zero = torch.zeros(len(turned), 1)
    vertices = layer(zero, zero, rotations).vertices
    assert_close(embedding(vertices, turned), data["landmarks2d"], **METRES)


def test_eyelids_are_added_before_skinning(golden, layer):
    data = golden("flame_eyelids")
    lids = torch.stack([data["l_eyelid"], data["r_eyelid"]])
    offsets = torch.einsum("bl,lvc->bvc", data["eyelid"], lids)
    rotations = layer.rotations(data["pose"])
    arguments = (data["shape"], data["expression"], rotations)
    without = layer(*arguments).vertices
    assert_close(without, data["vertices_without"], **METRES)
    assert_close(without + offsets, data["vertices_offset_after_skinning"], **METRES)
    before = layer(*arguments, offsets).vertices
    assert_close(before, data["vertices_offset_before_skinning"], **METRES)


def test_rodrigues(golden):
    data = golden("rodrigues")
    vectors = data["rot_vecs"].clone().requires_grad_()
    rotations = axis_angle_to_matrix(vectors)
    assert_close(rotations, data["rot_mats"], atol=2e-6, rtol=0)
    (rotations * torch.arange(9.0).view(3, 3)).sum().backward()
    assert_close(vectors.grad, data["grad_of_sum_R_times_arange9"], atol=2e-5, rtol=1e-5)


def test_texture_decode(golden, toy):
    data = golden("texture_decode")
    space = read_texture_space(toy / "toy_FLAME_texture.npz", 32, resize="nearest")
    code = data["code"]
    assert_close(255 * space(code), data["texture_rgb_0_255"], atol=1e-4, rtol=0)
    assert_close(space(code), data["albedo_rgb_0_1"], atol=1e-6, rtol=0)
