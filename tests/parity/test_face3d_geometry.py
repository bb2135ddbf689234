"""face3d's and PRNet's geometry (specs/prn.md sections 2, 5.1, 5.4, 5.6, 5.9)."""

import cv2
import numpy as np
import pytest
import torch
from scipy.io import loadmat

from lit_face.geometry.cameras import AffineCamera, PerspectiveCamera, look_at
from lit_face.geometry.face3d_raster import rasterize_face3d
from lit_face.geometry.meshes import grid_faces, vertex_normals
from lit_face.geometry.pose import (
    decompose_affine,
    fit_affine_camera,
    fit_orthographic_camera,
    frontalize_affine,
    head_angles,
    prnet_pose,
)
from lit_face.geometry.rotations import (
    euler_to_matrix,
    face3d_angles_to_matrix,
    face3d_matrix_to_angles,
)
from lit_face.geometry.sampling import warp_image
from lit_face.geometry.similarity2d import (
    INFERENCE_MARGIN,
    TRAINING_MARGIN,
    apply_similarity,
    box_of_detection,
    box_of_points,
    box_to_crop,
    jitter_box,
)
from lit_face.geometry.uv import uv_resampling, uv_to_texels
from tests.helpers.tolerances import assert_close

FLOAT32 = {"atol": 1e-5, "rtol": 1e-5}  # the stored value was computed in float32
Y_UP = torch.tensor([1.0, -1, 1]).double()  # PRNet's y points down
Z_AWAY = torch.tensor([1.0, 1, -1]).double()  # and its z towards the viewer


@pytest.fixture(scope="module")
def golden(reference):
    return np.load(reference / "prn" / "geometry.npz")


@pytest.fixture(scope="module")
def uv_data(reference):
    return np.load(reference / "prn" / "uv_data.npz")


@pytest.fixture(scope="module")
def standin(reference):
    """Faces, UV and the raw model of the stand-in for BFM."""
    model = loadmat(reference / "prn" / "standin_BFM.mat")["model"][0, 0]
    uv = loadmat(reference / "prn" / "standin_BFM_UV.mat")["UV"]
    faces = np.concatenate([model["tri"].T, model["tri_mouth"].T]).astype(np.int64) - 1
    return torch.from_numpy(faces), torch.from_numpy(uv), model


@pytest.mark.parametrize("case", range(4))
def test_position_maps_to_the_last_bit(reference, standin, case):
    golden = np.load(reference / "prn" / f"posmap_case{case}.npz")
    faces, uv, _ = standin
    expected = torch.from_numpy(golden["uv_position_map"]).permute(2, 0, 1)
    position = torch.from_numpy(golden["position"]).float()
    assert torch.equal(uv_resampling(uv, faces, 256, rules="face3d")(position), expected)

    buffers = rasterize_face3d(
        torch.from_numpy(np.load(reference / "prn" / "standin_uv_processed.npz")["uv_processed"])
        .float(), faces, (256, 256),
    )  # fmt: skip
    corners = position[faces[buffers.face_index.clamp(min=0)]]
    w0, w1, w2 = buffers.barycentric[..., None].unbind(-2)
    drawn = w0 * corners[..., 0, :] + w1 * corners[..., 1, :] + w2 * corners[..., 2, :]
    assert torch.equal(drawn.permute(2, 0, 1), expected)


def test_default_rules_change_the_map_at_the_edge_only(reference, standin):
    golden = np.load(reference / "prn" / "posmap_case1.npz")
    faces, uv, _ = standin
    position = torch.from_numpy(golden["position"]).float()
    expected = torch.from_numpy(golden["uv_position_map"]).permute(2, 0, 1)
    found = uv_resampling(uv, faces, 256)(position)
    assert_close(found[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=1e-4, rtol=0)
    assert ((found - expected).abs().amax(0) > 1e-3).sum() < 300


def test_processed_uv(reference, standin):
    processed = np.load(reference / "prn" / "standin_uv_processed.npz")["uv_processed"]
    assert np.array_equal(uv_to_texels(standin[1], 256), processed[:, :2])


@pytest.mark.parametrize("case", range(4))
def test_training_crop(reference, case):
    golden = np.load(reference / "prn" / f"posmap_case{case}.npz")
    landmarks = torch.from_numpy(golden["kpt_int"]).double()[None]
    box = box_of_points(landmarks, TRAINING_MARGIN, truncate_points=True)
    box = jitter_box(box, torch.from_numpy(golden["rand"])[None])
    assert_close(box.centre[0], golden["center"])
    assert_close(box.size[0], golden["size"])
    transform = box_to_crop(box)
    assert_close(transform[0], golden["tform"], atol=1e-9, rtol=1e-9)
    vertices = torch.from_numpy(golden["image_vertices"]).double()[None]
    position = apply_similarity(transform, vertices)
    position[..., 2] -= position[..., 2].min()
    assert_close(position[0], golden["position"], atol=1e-4, rtol=0)
    image = torch.from_numpy(golden["image_u8"]).double().permute(2, 0, 1)[None] / 255
    crop = warp_image(image, transform, (256, 256))[0].permute(1, 2, 0)
    assert_close(crop[::16, ::16], golden["cropped_sample"], atol=1e-9)
    assert_close(255 * crop, golden["cropped_image_u8"], atol=0.5 + 1e-6, rtol=0)


def test_inference_crops(reference):
    golden = np.load(reference / "prn" / "prn_process.npz")
    for face in range(4):
        kind = f"kpt{face}"
        box = torch.from_numpy(golden[f"{kind}_bbox"]).double()[None]
        corners = box[:, [0, 2, 1, 3]].view(1, 2, 2)
        crop = box_to_crop(box_of_points(corners, INFERENCE_MARGIN))
        assert_close(crop[0], golden[f"{kind}_bbox_tform"], atol=1e-4, rtol=0)
        name = str(golden[f"{kind}_image"])
        file = next((reference / "prn" / "samples" / "AFLW2000").glob(f"{name}*.mat"))
        landmarks = torch.from_numpy(loadmat(file)["pt3d_68"].T.astype(np.float32))[None]
        crop = box_to_crop(box_of_points(landmarks, INFERENCE_MARGIN))
        assert_close(crop[0], golden[f"{kind}_tform"], atol=1e-4, rtol=0)
        detected = torch.from_numpy(golden[f"{kind}_det_ltrb"]).double()[None]
        crop = box_to_crop(box_of_detection(detected))
        assert_close(crop[0], golden[f"{kind}_det_tform"], atol=1e-4, rtol=0)


def test_random_boxes(reference):
    golden = np.load(reference / "prn" / "prn_process.npz")
    boxes = torch.from_numpy(golden["rand_boxes_lrtb"])
    corners = boxes[:, [0, 2, 1, 3]]
    crops = box_to_crop(box_of_points(corners.view(-1, 2, 2), INFERENCE_MARGIN))
    assert_close(crops, golden["rand_tform_bbox"], atol=1e-4, rtol=0)
    crops = box_to_crop(box_of_detection(corners.trunc()))
    assert_close(crops, golden["rand_tform_det_intbox"], atol=1e-4, rtol=0)


def test_inference_crop_picture(reference):
    golden = np.load(reference / "prn" / "prn_process.npz")
    for face in range(4):
        name = str(golden[f"kpt{face}_image"])
        file = next((reference / "prn" / "samples" / "AFLW2000").glob(f"{name}*.jpg"))
        image = torch.from_numpy(cv2.imread(str(file))[:, :, ::-1].copy()).double()
        transform = torch.from_numpy(golden[f"kpt{face}_tform"])[None]
        crop = warp_image(image.permute(2, 0, 1)[None] / 255, transform, (256, 256))[0]
        expected = golden[f"kpt{face}_crop_sample"]
        # JPEG decoders differ by a few grey levels.
        assert_close(crop.permute(1, 2, 0)[::16, ::16], expected, atol=4 / 255, rtol=0)


def test_grid_triangles(uv_data):
    mask = torch.zeros(256 * 256, dtype=torch.bool)
    mask[torch.from_numpy(uv_data["face_ind"]).long()] = True
    faces = grid_faces(mask.view(256, 256))
    assert np.array_equal(faces, uv_data["triangles_grid"])
    canonical = torch.from_numpy(uv_data["canonical_vertices"]) * Y_UP
    assert vertex_normals(canonical[None], faces)[0, :, 2].mean() > 0.4  # out of the face


def test_angles(golden):
    angles = torch.from_numpy(golden["angles_deg"])
    assert_close(face3d_angles_to_matrix(angles), golden["angle2matrix"], **FLOAT32)
    assert_close(euler_to_matrix(angles.deg2rad()), golden["angle2matrix_3ddfa"], **FLOAT32)
    for name in ("angle2matrix", "3ddfa"):
        matrix = golden["angle2matrix" if name == "angle2matrix" else "angle2matrix_3ddfa"]
        found = face3d_matrix_to_angles(torch.from_numpy(matrix).double())
        assert_close(found, golden[f"matrix2angle_of_{name}"], **FLOAT32)


def test_orthographic_camera(golden):
    rotation = torch.from_numpy(golden["angle2matrix"][golden["R_idx"]]).double()
    camera = AffineCamera.orthographic(
        torch.tensor([float(golden["s"])]).double(), rotation[None],
        torch.from_numpy(golden["t"])[None],
    )  # fmt: skip
    points = torch.from_numpy(golden["X"])
    assert_close(camera.project(points)[0], golden["similarity_transform"], **FLOAT32)


def test_camera_that_looks_at_the_origin(golden):
    eye = torch.from_numpy(golden["lookat_eye"])[None]
    rotation, translation = look_at(
        eye, torch.zeros_like(eye), torch.tensor([[0.0, 1, 0]]).double()
    )
    camera = PerspectiveCamera(torch.eye(3).double()[None], rotation, translation)
    found = camera.to_camera(torch.from_numpy(golden["X"]))[0]
    assert_close(found * torch.tensor([1.0, -1, -1]).double(), golden["lookat_camera"], **FLOAT32)


def test_perspective_projection_to_pixels(golden):
    height, width = 200, 300
    tangent = np.tan(np.deg2rad(30))  # face3d takes the full angle where half of it is meant
    intrinsics = [[width / 2 / tangent, 0, width / 2], [0, height / 2 / tangent, height / 2 - 1],
                  [0, 0, 1]]  # fmt: skip
    axes = torch.diag(torch.tensor([1.0, -1, -1]).double())[None]
    camera = PerspectiveCamera(
        torch.tensor(intrinsics).double()[None], axes, torch.zeros(1, 3).double()
    )
    pixels = camera.project(torch.from_numpy(golden["persp_in"]))[0]
    assert_close(pixels[:, :2], golden["to_image_persp_200x300"][:, :2])


def test_affine_camera_from_pixels(golden):
    points, pixels = (torch.from_numpy(golden[name])[None] for name in ("X", "x2"))
    expected = golden["estimate_affine_matrix_3d22d"]
    assert_close(fit_affine_camera(points, pixels).matrix[0, :2], expected[:2], **FLOAT32)
    pose = decompose_affine(torch.from_numpy(expected)[None])
    for part, name in zip(pose, ("s", "R", "t"), strict=True):
        assert_close(part[0], golden[f"P2sRt_{name}"], atol=1e-6)


def test_pose_as_prnet_computes_it(reference, golden, uv_data):
    vertices = torch.from_numpy(np.load(reference / "prn" / "pose_vertices.npz")["vertices"])
    canonical = torch.from_numpy(uv_data["canonical_vertices"])
    found = prnet_pose(vertices.double(), canonical)
    assert_close(found.camera_matrix, golden["pose_camera_matrix"])
    assert_close(found.yaw_pitch_roll_rad, golden["pose_yaw_pitch_roll_rad"])
    assert_close(found.pose.scale, golden["pose_s"])
    assert_close(found.pose.rotation, golden["pose_R"])
    assert_close(found.pose.translation[:, :2], golden["pose_t2d"])
    rows = torch.from_numpy(golden["frontalize_sub_idx"])
    frontal = frontalize_affine(vertices.double(), canonical)[:, rows]
    assert_close(frontal, golden["frontalize_sub"], atol=1e-8)


def test_corrected_pose_finds_the_true_angles_and_translation(reference, golden, uv_data):
    vertices = torch.from_numpy(np.load(reference / "prn" / "pose_vertices.npz")["vertices"])
    head = torch.from_numpy(uv_data["canonical_vertices"]) * Y_UP
    image_vertices = vertices.double() * Z_AWAY
    camera = fit_orthographic_camera(head, image_vertices)
    error = head_angles(camera).rad2deg() - torch.from_numpy(golden["pose_gt_pitch_yaw_roll_deg"])
    assert error.abs().max() < 0.05  # the points carry noise
    assert (camera.project(head) - image_vertices).abs().mean() < 0.8


def test_normals_and_point_lights(golden, standin):
    _, _, model = standin
    rotation = face3d_angles_to_matrix(torch.from_numpy(golden["mesh_rot_deg"])).float()
    mean = torch.from_numpy((model["shapeMU"].reshape(-1, 3) / 1e3).astype(np.float32))
    vertices = float(golden["mesh_scale"]) * mean @ rotation.T
    faces = torch.from_numpy(model["tri"].T.astype(np.int64) - 1)
    normals = vertex_normals(vertices[None], faces)[0]
    # Cross products of nearly parallel edges in float32, summed in another order.
    assert_close(normals, golden["normal"], atol=1e-4, rtol=0)

    albedo = torch.from_numpy(np.clip(model["texMU"].reshape(-1, 3) / 255, 0, 1))
    lit = torch.zeros_like(albedo)
    for position, strength in zip(golden["light_pos"], golden["light_int"], strict=True):
        away = torch.nn.functional.normalize(vertices - torch.from_numpy(position), dim=-1)
        lit += albedo * (normals * away).sum(-1, keepdim=True) * torch.from_numpy(strength)
    assert_close(lit.clamp(0, 1), golden["add_light"], atol=1e-4, rtol=0)
