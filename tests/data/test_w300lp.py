import logging
import pickle
import shutil

import numpy as np
import pytest
import scipy.io
import torch

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fit_parameters import PIXEL_ORIGINS, from_matlab_pixels, pose_cameras
from lit_face.data.fitted import collate
from lit_face.data.landmarks import MIRROR_68, project_landmarks
from lit_face.data.w300lp import W300LPDataset, held_out_photographs, photograph
from lit_face.io.images import read_image, write_image
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.bfm import load_bfm
from tests.helpers.tolerances import assert_close


@pytest.fixture
def copy(w300lp_folder, tmp_path):
    """A copy of the dataset that a test may spoil."""
    shutil.copytree(w300lp_folder.parent, tmp_path / "set")
    return tmp_path / "set" / "300W_LP"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_landmarks_of_the_loaded_faces_sit_on_the_drawn_dots(w300lp_folder, cache):
    """Image, coefficients, camera, pixel origin and the model on disk fit together."""
    dataset = W300LPDataset(w300lp_folder, "all", cache_folder=cache)
    model = load_bfm(w300lp_folder.parent / "BFM")
    batch = collate([dataset[item] for item in range(0, len(dataset), 7)])
    assert batch.image.dtype == torch.uint8
    points = project_landmarks(model, batch.coefficients, batch.camera)[..., :2].round().long()
    inside = ((points > 2) & (points < 447)).all(2)
    rows = torch.arange(len(batch))[:, None].expand(-1, 68)
    bright = batch.image[rows, 0, points[..., 1].clamp(0, 449), points[..., 0].clamp(0, 449)]
    assert (bright[inside] > 200).float().mean() > 0.99


def test_raw_parameters_become_standard_deviations_and_back(w300lp_folder, cache):
    dataset = W300LPDataset(w300lp_folder, "train", cache_folder=cache)
    model = load_bfm(w300lp_folder.parent / "BFM")
    sample = dataset[3]
    stored = scipy.io.loadmat(w300lp_folder / f"{sample['sample_id']}.mat")
    for name, field, std in (("identity", "Shape_Para", model.identity_std),
                             ("expression", "Exp_Para", model.expression_std),
                             ("albedo", "Tex_Para", model.albedo_std)):  # fmt: skip
        raw = torch.from_numpy(stored[field].astype(np.float32))[:, 0]
        assert_close(sample["coefficients"][name] * std, raw[: len(std)], rtol=1e-4)
        assert not raw[len(std) :].any()


def test_uint8_zero_expressions_and_float32_flips_are_read(w300lp_folder, cache):
    neutral = w300lp_folder / "IBUG" / "IBUG_image_007_1_0.mat"
    assert scipy.io.loadmat(neutral)["Exp_Para"].dtype == np.uint8
    flip = w300lp_folder / "IBUG_Flip" / "IBUG_image_020_1_0.mat"
    assert scipy.io.loadmat(flip)["Shape_Para"].dtype == np.float32
    dataset = W300LPDataset(
        w300lp_folder, "all", include_flips=True, cache_folder=cache, subsets=["IBUG"]
    )
    item = dataset.sample_ids.index("IBUG/IBUG_image_007_1_0")
    assert not dataset[item]["coefficients"]["expression"].any()
    flips = [name for name in dataset.sample_ids if name.startswith("IBUG_Flip/")]
    assert len(flips) == 40
    assert dataset[dataset.sample_ids.index(flips[5])]["coefficients"]["identity"].isfinite().all()


def test_points_of_mirrored_files_come_in_ibug_order(w300lp_folder, cache):
    """The files mirror x (width + 1 - x, as they count from 1) and keep the order of the points."""
    options = {"include_flips": True, "subsets": ["IBUG"], "cache_folder": cache}
    dataset = W300LPDataset(w300lp_folder, "all", **options)
    names = dataset.sample_ids
    rows = dataset.index.rows["points"]
    original = rows[names.index("IBUG/IBUG_image_020_1_0")]
    flipped = rows[names.index("IBUG_Flip/IBUG_image_020_1_0")]
    np.testing.assert_allclose(flipped[MIRROR_68, 0], 451 - original[:, 0], atol=1e-3)


def test_flips_are_ignored_by_default(w300lp_folder, cache):
    dataset = W300LPDataset(w300lp_folder, "all", cache_folder=cache)
    assert len(dataset) == 160
    assert not any("_Flip" in name for name in dataset.sample_ids)


def test_views_and_flips_of_a_photograph_share_a_split(w300lp_folder, cache):
    options = {
        "include_flips": True,
        "subsets": ["IBUG"],
        "val_fraction": 0.3,
        "cache_folder": cache,
    }
    train = W300LPDataset(w300lp_folder, "train", **options)
    val = W300LPDataset(w300lp_folder, "val", **options)
    assert len(train) + len(val) == 80
    of = lambda dataset: {photograph(name) for name in dataset.sample_ids}  # noqa: E731
    assert not of(train) & of(val)
    assert len(val) % 8 == 0, "4 views and their mirrored copies stay together"


def test_split_is_a_hash_of_the_name_and_never_empty():
    names = [f"HELEN/HELEN_{n}_1_{k}" for n in range(3000) for k in range(3)]
    held = held_out_photographs(names, 0.02)
    assert 0.013 < len(held) / 3000 < 0.027
    assert held_out_photographs(names[: 3 * 1500], 0.02) == {
        name for name in held if int(name.split("_")[1]) < 1500
    }
    assert held_out_photographs(names[::-1], 0.02) == held
    assert len(held_out_photographs(names[:6], 0.02)) == 1
    assert len(held_out_photographs(names[:6], 0.999)) == 1
    assert photograph("LFPW_Flip/LFPW_image_train_0001_0") == "LFPW_image_train_0001"


@pytest.mark.parametrize("origin", PIXEL_ORIGINS)
def test_pixel_origins_agree_between_cameras_and_points(origin):
    """Points made by the MATLAB camera and moved equal those of the other camera."""
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(5, 7, generator=generator)
    pose[:, 6] = 1.2e-3
    points = torch.randn(5, 68, 3, generator=generator) * 60
    matlab = pose_cameras(pose, "matlab").project(points)
    stored = matlab * torch.tensor([1.0, 1.0, -1.0])  # the dataset's z points to the viewer
    found = torch.from_numpy(from_matlab_pixels(stored.numpy(), origin))
    assert_close(found, pose_cameras(pose, origin).project(points), atol=1e-3, rtol=0.0)
    shift = {"zero_based": (-1, -1), "face3d": (0, -2), "matlab": (0, 0)}[origin]
    expected = matlab[..., :2] + torch.tensor(shift)
    assert_close(found[..., :2], expected, atol=1e-3, rtol=0.0)


def test_broken_records_are_named_and_limited(w300lp_test_folder, cache):
    """Eight records, two of them spoilt: an error by default, six left when allowed."""
    with pytest.raises(ValueError, match="2 of 8 records") as caught:
        W300LPDataset(w300lp_test_folder, "all", cache_folder=cache)
    for part in ("'Shape_Para' should be 199 values, found (40)", "truncated JPEG", "rejected.csv"):
        assert part in str(caught.value)
    dataset = W300LPDataset(w300lp_test_folder, "all", cache_folder=cache, max_rejected=0.25)
    assert len(dataset) == 6
    listed = (dataset.index.folder / "rejected.csv").read_text()
    assert listed.count("\n") == 3
    assert "AFW/AFW_000007_1_1" in listed


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("Pose_Para", None, "no field 'Pose_Para'"),
        ("Exp_Para", np.zeros((10, 1)), r"'Exp_Para' should be 29 values, found \(10\)"),
        ("Shape_Para", np.full((199, 1), np.nan), "'Shape_Para' has 199 NaN"),
        ("Pose_Para", np.array([[0, 0, 0, 0, 0, 0, 1.2]]), "scale in Pose_Para"),
        ("Pose_Para", np.array([[0, 4.0, 0, 0, 0, 0, 1e-3]]), "within pi"),
        ("pt2d", np.zeros((2, 68)), "all points are equal"),
        ("pt2d", np.arange(136.0).reshape(2, 68) * 10, "points should lie in"),
    ],
)
def test_misshapen_records_say_why(copy, cache, field, value, message):
    path = sorted((copy / "HELEN").glob("*.mat"))[2]
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content.pop(field)
    scipy.io.savemat(path, content if value is None else {**content, field: value})
    with pytest.raises(ValueError, match=message):
        W300LPDataset(copy, cache_folder=cache, max_rejected=0)


def test_wrong_and_incomplete_roots_say_what_to_do(copy, tmp_path, cache):
    with pytest.raises(DatasetNotFoundError, match=r"no folder .*nowhere.*3DDFA"):
        W300LPDataset(tmp_path / "nowhere", cache_folder=cache)
    with pytest.raises(DatasetNotFoundError, match=r"Did you mean .*300W_LP"):
        W300LPDataset(copy.parent, cache_folder=cache)
    shutil.rmtree(copy / "HELEN")
    with pytest.raises(DatasetNotFoundError, match=r"no folder 'HELEN'.*AFW, HELEN, IBUG, LFPW"):
        W300LPDataset(copy, cache_folder=cache)
    (copy / "HELEN").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"'HELEN' holds no .*\.mat"):
        W300LPDataset(copy, cache_folder=cache)


def test_half_a_pair_is_a_rejected_record(copy, cache):
    sorted((copy / "AFW").glob("*.jpg"))[0].unlink()
    sorted((copy / "LFPW").glob("*.mat"))[0].unlink()
    with pytest.raises(
        ValueError, match=r"2 of 160.*(?s:.*)no image AFW.*(?s:.*)no annotation LFPW"
    ):
        W300LPDataset(copy, cache_folder=cache)


def test_without_a_model_the_images_are_useless_and_it_says_so(copy, cache):
    shutil.rmtree(copy.parent / "BFM")
    with pytest.raises(DatasetNotFoundError, match=r"no BFM\.mat.*no position maps"):
        W300LPDataset(copy, cache_folder=cache)


def test_a_model_that_is_not_the_datasets_is_refused(w300lp_folder, toy_model, cache):
    arrays = {name: getattr(toy_model, name) for name in
              ("mean", "faces", "uv", "landmark_index", "identity_basis", "expression_basis",
               "identity_std", "expression_std", "albedo_mean", "albedo_basis")}  # fmt: skip
    other = MorphableModel(ModelArrays(**{**arrays, "mean": arrays["mean"] * 2}), "other")
    with pytest.raises(ValueError, match="'other' does not fit the annotations"):
        W300LPDataset(w300lp_folder, morphable_model=other, cache_folder=cache)


def test_an_incomplete_copy_is_counted_but_not_the_miniature(copy, cache, caplog):
    with caplog.at_level(logging.WARNING):
        W300LPDataset(copy, cache_folder=cache)
    assert not caplog.records
    (copy / "miniature.json").unlink()
    with caplog.at_level(logging.WARNING):
        W300LPDataset(copy, cache_folder=cache)
    assert "40 samples in AFW, a complete copy has 5207" in caplog.text


def test_workers_map_the_index_themselves(w300lp_folder, cache):
    dataset = W300LPDataset(w300lp_folder, cache_folder=cache)
    _ = dataset.index.rows
    packed = pickle.dumps(dataset.index)
    assert len(packed) < 2000, "the table itself must not travel to the workers"
    np.testing.assert_array_equal(pickle.loads(packed).rows["pose"], dataset.index.rows["pose"])


def test_a_resized_image_is_an_error_when_it_is_read(copy, cache):
    dataset = W300LPDataset(copy, cache_folder=cache)
    path = dataset.image_path(0)
    write_image(path, read_image(path)[:224, :224])
    with pytest.raises(ValueError, match="450 x 450 pixels, the image has 224 x 224"):
        dataset[0]
