"""Deep3DFaceRecon_pytorch's face model, light, camera and losses: shared/reference/gcn/deep3d."""

import numpy as np
import pytest
import torch

from lit_face.data.landmarks import MIRROR_68
from lit_face.geometry.meshes import vertex_normals
from lit_face.geometry.similarity2d import apply_similarity, similarity_matrix
from lit_face.methods.deep3d import losses
from lit_face.methods.deep3d.face import Deep3DFace, head_rotation
from lit_face.methods.deep3d.light import to_radiance
from lit_face.methods.deep3d.regressor import split_coefficients
from lit_face.rendering.shade import sh_shading
from tests.helpers.tolerances import assert_close

SIZES = {"identity": 80, "expression": 64, "albedo": 80}
MM = 100.0
TO_CAMERA = torch.tensor([1.0, -1.0, -1.0])
# The optical axis meets the middle of the picture here, column and row 111.5; there 112 and 111.
AXIS_SHIFT = torch.tensor([0.5, -0.5])


def read(reference, name):
    with np.load(reference / "gcn" / "deep3d" / f"{name}.npz") as stored:
        return {
            key: torch.from_numpy(np.asarray(stored[key]))
            for key in stored.files
            if stored[key].dtype.kind != "U"
        }


@pytest.fixture(scope="module", params=[0, 1])
def golden(request, reference):
    return read(reference, f"model_{request.param}")


@pytest.fixture(scope="module")
def face(golden):
    count = len(golden["model_mean_shape"]) // 3
    face = Deep3DFace(count, len(golden["model_face_buf"]), **SIZES, contour=1, map_size=2)
    values = {
        "mean": MM * golden["model_mean_shape"].view(-1, 3),
        "identity_basis": MM * golden["model_id_base"].view(-1, 3, 80),
        "expression_basis": MM * golden["model_exp_base"].view(-1, 3, 64),
        "albedo_mean": golden["model_mean_tex"].view(-1, 3) / 255,
        "albedo_basis": golden["model_tex_base"].view(-1, 3, 80) / 255,
        "faces": golden["model_face_buf"],
        "landmark_index": golden["model_keypoints"],
        "skin": golden["model_skin_mask"],
        "distance": torch.tensor(1000.0),
    }
    for name, value in values.items():
        getattr(face, name).copy_(value)
    return face


@pytest.fixture(scope="module")
def found(golden, face):
    return face(split_coefficients(golden["coeffs"], **SIZES), 224, with_maps=False)


def upward(pixels):
    """Pixels of the house as the reference counts them: y up from the last row."""
    moved = pixels[..., :2] + AXIS_SHIFT
    return torch.stack([moved[..., 0], 223 - moved[..., 1]], dim=-1)


def test_shape_and_albedo(golden, face, found):
    assert_close(found.vertices / MM, golden["shape"], atol=1e-5)
    assert_close(face.albedo(found.coefficients["albedo"]), golden["texture"], atol=1e-5)


def test_pose_and_projection(golden, found):
    angles = split_coefficients(golden["coeffs"], **SIZES)["angles"]
    assert_close(head_rotation(angles).mT, golden["rotation"], atol=1e-5)
    camera = found.camera.to_camera(found.vertices) / MM
    expected = golden["camera"] * torch.tensor([1.0, -1.0, 1.0])
    assert_close(camera, expected, atol=1e-5)
    assert_close(upward(found.image_vertices), golden["image_xy"], atol=5e-4, rtol=1e-5)
    assert_close(upward(found.landmarks), golden["landmark"], atol=5e-4, rtol=1e-5)


def test_colors_of_vertices(golden, face, found):
    normals = vertex_normals(found.vertices, face.faces, by_area=False)
    # The reference's table holds eight faces a vertex; this random mesh has vertices with more.
    count = torch.bincount(face.faces.flatten(), minlength=len(face.mean))
    few, some = count <= 8, count > 0
    assert few.float().mean() > 0.5
    assert_close(normals[:, few], golden["normal"][:, few], atol=1e-5)
    turned = golden["normal"] @ golden["rotation"]
    assert_close(turned, golden["normal_rot"], atol=1e-5)
    shading = sh_shading(turned * TO_CAMERA, found.light)
    # A vertex without faces has no normal: what nine functions of it are is anybody's guess.
    color = shading * golden["texture"]
    assert_close(color[:, some], golden["color"][:, some], atol=1e-5)


def test_losses(golden, face, found):
    parts = split_coefficients(golden["coeffs"], **SIZES)
    names = ("identity", "expression", "albedo")
    terms = {
        "landmark": losses.landmark(golden["landmark"], golden["gt_landmark"]),
        "reg": losses.coefficients({name: parts[name] for name in names}),
        "gamma": losses.light(parts["light"]),
        "reflectance": losses.reflectance(golden["texture"], face.skin),
        "photo": losses.photo(golden["imageA"], golden["imageB"], golden["mask"]),
        "photo_emptymask": losses.photo(
            golden["imageA"], golden["imageB"], torch.zeros_like(golden["mask"])
        ),
        "perceptual": losses.perceptual(golden["featA"], golden["featB"]),
    }
    for name, value in terms.items():
        assert_close(value.double(), golden[f"loss_{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("row", [0, 1])
def test_light_and_camera(reference, row):
    golden = read(reference, f"sh_camera_{row}")
    gamma = golden["gamma"].view(-1, 3, 9)
    normals = golden["normals"] * TO_CAMERA
    shading = sh_shading(normals, to_radiance(gamma))
    assert_close(shading, golden["shading"], atol=1e-5)
    assert_close(shading * golden["albedo"], golden["color"], atol=1e-5)
    # Each of the nine functions alone, in every channel.
    alone = torch.eye(9)[:, None].expand(9, 3, 9).clone()
    alone[..., 0] -= 0.8
    basis = sh_shading(normals[:1].expand(9, -1, -1), to_radiance(alone))[..., 0]
    assert_close(basis.mT, golden["basis9"], atol=1e-5)
    assert_close(head_rotation(golden["angles"]).mT, golden["rotation"], atol=1e-5)
    face = Deep3DFace(1, 0, 0, 0, 0, 1, 2)
    face.distance.fill_(1000.0)
    nothing = torch.zeros(2, 3)
    camera = face.camera(nothing, nothing, 224)
    points = MM * golden["world_xyz"]
    depth = golden["camera_xyz"][..., 2]
    assert_close(camera.project(points)[..., 2] / MM, depth, atol=1e-5)
    # Pixels grow without bound where the depth is small.
    tolerance = {"atol": 5e-3, "rtol": 1e-5}
    assert_close(upward(camera.project(points)), golden["image_xy"], **tolerance)


@pytest.mark.parametrize("row", [0, 1])
def test_augmented_landmarks(reference, row):
    with np.load(reference / "gcn" / "align" / f"augment_{row}.npz") as stored:
        golden = {key: torch.from_numpy(stored[key]) for key in stored.files}
    downward = golden["lm_in_yup"].double()
    downward[..., 1] = 223 - downward[..., 1]
    moved = apply_similarity(golden["affine"], downward)
    flip = golden["flip"]
    moved[flip] = moved[flip][:, MIRROR_68]
    moved[..., 1] = 223 - moved[..., 1]
    assert_close(moved, golden["lm_out_yup"], atol=1e-4)
    # Its scales, turns and flips about pixel 112 are those of the house's transform.
    linear = golden["affine"][:, :2, :2]
    scale = torch.linalg.det(linear).abs().sqrt()
    sign = torch.where(flip, -1.0, 1.0).double()
    angle = torch.atan2(sign * linear[:, 1, 0], sign * linear[:, 0, 0])
    centre = torch.full((len(flip), 2), 112.0, dtype=torch.float64)
    away = apply_similarity(golden["affine"], centre[:, None])[:, 0] - centre
    for mirror in (False, True):
        rows = flip == mirror
        parts = (value[rows] for value in (scale, angle, away, centre))
        assert_close(similarity_matrix(*parts, mirror=mirror), golden["affine"][rows])
