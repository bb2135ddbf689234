"""Photometric fit of FLAME itself: joints, contour, and the released code's frame."""

from functools import partial

import pytest
import torch

from lit_face.geometry.rotations import axis_angle_to_matrix
from lit_face.methods.flame_fit import FlameFit, reference
from lit_face.methods.flame_fit.camera import project, to_pixels
from lit_face.methods.flame_fit.reference_predictor import ModelShape
from lit_face.methods.flame_fit.scene import Head
from lit_face.morphable_models.flame import flame
from lit_face.morphable_models.texture_space import texture_space_of
from tests.helpers.faces import faces
from tests.helpers.tolerances import assert_close

SIZE = 64
SMALL = partial(texture_space_of, size=32)


@pytest.fixture(scope="module")
def model():
    return flame(identity_size=20, expression_size=15)


def test_the_released_frame_and_the_houses_are_one(model):
    generator = torch.Generator().manual_seed(0)
    values = {
        "identity": torch.randn(2, model.identity_size, generator=generator),
        "expression": torch.randn(2, model.expression_size, generator=generator),
        "pose": 0.3 * torch.randn(2, 6, generator=generator),
        "camera": torch.tensor([[7.0, 0.02, -0.01], [6.0, -0.03, 0.04]]),
        "texture": torch.zeros(2, 1),
        "light": torch.zeros(2, 9, 3),
    }
    shape = ModelShape(model)
    vertices, landmarks = shape(values["identity"], values["expression"], values["pose"])
    house = shape.house_values(values)
    head = Head(model, None)
    rotation = axis_angle_to_matrix(house["rotation"])
    ndc = project(head.vertices(house), rotation, house["camera"])
    expected = reference.project(vertices, values["camera"])[..., :2]
    assert_close(ndc[..., :2], expected, atol=1e-5)
    found = head.landmarks(ndc, rotation)[..., :2]
    expected = reference.project(landmarks, values["camera"])[..., :2]
    assert_close(found, expected, atol=1e-5)


def test_the_jaw_moves_and_other_joints_rest(model):
    batch = faces(2, SIZE, seed=5, yaw_deg=15.0)
    quick = {"landmark_steps": 60, "steps": (6,), "offset_steps": 5, "window": 0}
    method = FlameFit(
        model,
        image_size=SIZE,
        texture_space=SMALL,
        components=5,
        options=quick,
    )
    found = method.refine(batch.image, batch.landmarks)
    joints = found.face.coefficients["joints"]
    assert joints[:, model.joint_names.index("jaw")].abs().max() > 1e-4
    assert not joints[:, model.joint_names.index("neck")].any()
    assert (found.after["landmarks_px"] < found.before["landmarks_px"]).all()
    rotation = found.face.camera.matrix[:, :, :3]
    scale = torch.linalg.det(rotation).abs().pow(1 / 3)[:, None, None]
    upright = rotation / scale * torch.tensor([1.0, -1.0, -1.0])[:, None]
    expected = model.landmarks(found.face.image_vertices, upright)
    assert_close(found.face.landmarks, expected, atol=1e-3)
    assert to_pixels(torch.zeros(1), SIZE).item() == (SIZE - 1) / 2
