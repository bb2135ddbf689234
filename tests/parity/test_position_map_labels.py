"""face3d's generator of 300W-LP labels on its own cases, and the datasets' real samples.

The samples are public examples that lie with the reference numbers; they are never copied here.
"""

import numpy as np
import pytest
import torch

from lit_face.data import aflw2000, w300lp
from lit_face.data.aflw2000 import AFLW2000Dataset
from lit_face.data.fit_parameters import pose_cameras
from lit_face.data.fitted import collate
from lit_face.data.landmarks import MIRROR_68
from lit_face.data.w300lp import W300LPDataset
from lit_face.geometry.sampling import warp_image
from lit_face.geometry.similarity2d import (
    apply_similarity,
    box_of_points,
    box_to_crop,
    jitter_box,
)
from lit_face.geometry.uv import uv_resampling
from lit_face.io.images import read_image
from lit_face.io.matlab import load_mat
from lit_face.morphable_models.bfm import load_bfm, read_bfm
from tests.helpers.tolerances import assert_close

CASES = range(4)
# Specification, acceptance checklist: float32 pose arithmetic within 1e-4 px.
PIXELS = {"atol": 1e-4, "rtol": 0.0}


@pytest.fixture(scope="module")
def raw(reference):
    return read_bfm(reference / "prn" / "standin_BFM.mat")


@pytest.fixture(scope="module")
def resampling(raw):
    faces = torch.from_numpy(raw.full_triangles.astype(np.int64))
    return uv_resampling(torch.from_numpy(raw.uv), faces, 256, rules="face3d")


@pytest.fixture(scope="module", params=CASES)
def case(request, reference):
    return dict(np.load(reference / "prn" / f"posmap_case{request.param}.npz"))


@pytest.fixture(scope="module")
def generated(case, raw):
    """Everything the generator makes of one annotation, by our own pieces."""
    vertices = torch.from_numpy(raw.vertices(case["Shape_Para"], case["Exp_Para"]))
    camera = pose_cameras(case["Pose_Para"], "face3d")
    points = camera.project(vertices / 1000)
    box = box_of_points(points[:, raw.landmark_index.astype(np.int64)], 1.5, truncate_points=True)
    draws = torch.from_numpy(case["rand"])[None]
    box = jitter_box(box._replace(centre=box.centre.double(), size=box.size.double()), draws)
    matrix = box_to_crop(box)
    position = apply_similarity(matrix, points.double())[0]
    position[:, 2] = -position[:, 2] - (-position[:, 2]).min()  # towards the viewer, rearmost at 0
    return {"vertices": vertices, "points": points[0], "box": box, "matrix": matrix,
            "position": position}  # fmt: skip


def test_vertices_and_their_projection(case, generated):
    assert_close(generated["vertices"], case["vertices_model"], atol=0.1, rtol=0.0)  # micrometres
    towards_viewer = generated["points"] * torch.tensor([1.0, 1.0, -1.0])
    assert_close(towards_viewer, case["image_vertices"], **PIXELS)


def test_crop_box_and_similarity(case, generated):
    box = generated["box"]
    assert_close(box.centre[0], case["center"], atol=1e-4, rtol=0.0)
    assert_close(box.size[0], case["size"], atol=1e-9, rtol=0.0)
    assert_close(generated["matrix"][0], case["tform"], atol=1e-4, rtol=0.0)


def test_position_map(case, generated, resampling):
    """Within float32 rounding of the reference's map in every texel, holes and border included."""
    assert_close(generated["position"], case["position"], **PIXELS)
    texels = resampling.apply(generated["position"].float()[None])
    found = resampling.to_map(texels)[0].permute(1, 2, 0)
    expected = case["uv_position_map"]
    assert torch.equal((found != 0).any(2), torch.from_numpy((expected != 0).any(2)))
    assert_close(found, expected, **PIXELS)


def test_position_map_from_the_references_own_positions_is_exact(case, resampling):
    """With equal inputs the gather equals the rasteriser to the last bit or two of float32."""
    texels = resampling.apply(torch.from_numpy(case["position"]).float()[None])
    found = resampling.to_map(texels)[0].permute(1, 2, 0)
    assert_close(found, case["uv_position_map"], atol=3.1e-5, rtol=0.0)  # one ulp at 256 px


def test_cropped_image(case, generated):
    image = torch.from_numpy(case["image_u8"]).permute(2, 0, 1)[None].float() / 255
    found = warp_image(image, generated["matrix"].float(), (256, 256))[0].permute(1, 2, 0)
    assert_close(found, case["cropped_image_u8"] / 255.0, atol=1 / 255, rtol=0.0)
    assert_close(found[::16, ::16], case["cropped_sample"].astype(np.float32), atol=1e-3, rtol=0.0)


@pytest.fixture
def without_bfm(monkeypatch):
    """The samples' own model is licensed; accept the stand-in for what does not depend on it."""
    monkeypatch.setattr(w300lp, "check_model_fits", lambda *_: None)
    monkeypatch.setattr(aflw2000, "check_model_fits", lambda *_: None)


def test_another_model_than_bfm_is_refused_on_the_real_samples(reference, tmp_path):
    """The stand-in has BFM's layout and units, and still is not the model of these fits."""
    standin = load_bfm(reference / "prn" / "standin_BFM.mat")
    samples = reference / "prn" / "samples"
    with pytest.raises(ValueError, match="does not fit the annotations"):
        W300LPDataset(
            samples / "300W_LP", "all", standin, cache_folder=tmp_path, subsets=["AFW", "IBUG"]
        )
    with pytest.raises(ValueError, match="does not fit the annotations"):
        AFLW2000Dataset(samples / "AFLW2000", standin, cache_folder=tmp_path, allow_partial=True)


def test_real_300w_lp_samples_load(reference, tmp_path, without_bfm):
    standin = load_bfm(reference / "prn" / "standin_BFM.mat")
    root = reference / "prn" / "samples" / "300W_LP"
    dataset = W300LPDataset(
        root, "all", standin, cache_folder=tmp_path, subsets=["AFW", "IBUG"], verify="full"
    )
    assert dataset.sample_ids == [
        "AFW/AFW_134212_1_0", "AFW/AFW_134212_1_1", "IBUG/IBUG_image_008_1_0",
    ]  # fmt: skip
    batch = collate([dataset[item] for item in range(3)])
    assert batch.image.shape == (3, 3, 450, 450)
    stored = load_mat(root / "IBUG" / "IBUG_image_008_1_0.mat")["Shape_Para"]
    raw = batch.coefficients["identity"][2] * standin.identity_std
    assert_close(raw, stored[:10].astype(np.float32), rtol=1e-5)
    # Views of a photograph turn further and keep the face.
    yaw = torch.rad2deg(dataset.pose[:2, 1]).abs()
    assert yaw[1] > yaw[0] + 4
    flips = W300LPDataset(
        root, "all", standin, cache_folder=tmp_path, subsets=["AFW"], include_flips=True
    )
    assert len(flips) == 4


def test_flipped_files_prove_one_based_points_in_the_original_order(
    reference, tmp_path, without_bfm
):
    """x mirrors to width + 1 - x, so the first pixel is 1; the loader puts them in iBUG order."""
    root = reference / "prn" / "samples" / "300W_LP"
    for name in ("AFW_134212_1_0", "AFW_134212_1_1"):
        points = load_mat(root / "AFW" / f"{name}.mat")["pt2d"]
        flipped = load_mat(root / "AFW_Flip" / f"{name}.mat")["pt2d"]
        assert_close(flipped[0], 451 - points[0], atol=1e-9)
        assert_close(flipped[1], points[1], atol=1e-9)
        image = read_image(root / "AFW" / f"{name}.jpg").astype(float)
        mirrored = read_image(root / "AFW_Flip" / f"{name}.jpg")[:, ::-1].astype(float)
        assert np.abs(image - mirrored).mean() < 3  # two JPEG encodings
    standin = load_bfm(reference / "prn" / "standin_BFM.mat")
    options = {"cache_folder": tmp_path, "subsets": ["AFW"], "include_flips": True}
    dataset = W300LPDataset(root, "all", standin, **options)
    original, flipped = dataset.index.rows["points"][[0, 2]]
    assert_close(flipped[MIRROR_68, 0], 451 - original[:, 0], atol=1e-4)
    assert flipped[0, 0] < flipped[16, 0], "the jaw starts at the image's left"


def test_real_aflw2000_samples_agree_with_3ddfas_lists(reference, tmp_path):
    dataset = AFLW2000Dataset(
        reference / "prn" / "samples" / "AFLW2000", cache_folder=tmp_path, allow_partial=True
    )
    assert dataset.sample_ids == [f"image{n:05d}" for n in (50, 81, 251, 2420, 3324, 3614, 4331)]
    assert dataset[0]["landmarks"].isfinite().all()
    labelled = dataset.points21[~dataset.points21.isnan()]
    assert dataset.points21.isnan().any()
    assert labelled.min() > 0
    assert labelled.max() < 449
    lists = np.load(reference / "prn" / "nme_eval.npz")
    # Row of the 2,000 sorted images -> sample; only these two are among the reference's rows.
    for row, item in ((150, 2), (1536, 4)):
        listed = int(np.flatnonzero(lists["index"] == row)[0])
        one_based = dataset.landmarks[item, :, :2] + 1
        assert_close(one_based, lists["gt"][listed, :2].T, atol=1e-4)
        assert_close(dataset.yaw("fitted")[item], lists["yaw_fitted"][listed], atol=1e-3)
