import shutil

import numpy as np
import pytest
import torch

from lit_face.data.aflw2000 import EXTRA_FILES, AFLW2000Dataset, yaw_bins
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fitted import collate
from lit_face.data.landmarks import project_landmarks
from lit_face.morphable_models.bfm import load_bfm
from tests.helpers.tolerances import assert_close


@pytest.fixture
def copy(aflw2000_folder, tmp_path):
    shutil.copytree(aflw2000_folder.parent, tmp_path / "set")
    return tmp_path / "set" / "AFLW2000"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(aflw2000_folder, cache):
    model = load_bfm(aflw2000_folder.parent / "BFM")
    return AFLW2000Dataset(aflw2000_folder, model, cache_folder=cache)


def test_stored_points_equal_the_projected_model_in_the_house_frame(dataset, aflw2000_folder):
    """x, y zero-based pixels; z smaller = nearer: the nose is nearer than the ears' jaw points."""
    model = load_bfm(aflw2000_folder.parent / "BFM")
    batch = collate([dataset[item] for item in range(len(dataset))])
    projected = project_landmarks(model, batch.coefficients, batch.camera)
    assert_close(batch.landmarks, projected, atol=5e-3, rtol=0.0)  # 3 float32 files in between
    frontal = dataset.yaw("fitted").abs() < 20
    depth = batch.landmarks[frontal, :, 2]
    assert (depth[:, 30] < depth[:, [0, 16]].mean(1)).all()


def test_samples_come_in_the_order_of_sorted_names(dataset):
    assert dataset.sample_ids == sorted(dataset.sample_ids)
    assert len(dataset) == 24
    numbers = [int(name.removeprefix("image")) for name in dataset.sample_ids]
    assert np.diff(numbers).max() > 1, "numbers have gaps"


def test_out_of_range_angles_are_kept_and_binned_as_the_protocol_does(dataset):
    yaw = dataset.yaw("fitted")
    assert yaw_bins(yaw) == (12, 6, 6)
    assert (yaw + 351).abs().min() < 1e-3
    assert (yaw - 110).abs().min() < 1e-3
    assert_close(dataset.pose_degrees[:, 1], yaw, atol=1e-3, rtol=0.0)
    # 9 degrees stored as -351 turns the head like 9 degrees.
    wrapped = int((yaw + 351).abs().argmin())
    linear = dataset.camera.matrix[wrapped, :, :3]
    assert abs(torch.rad2deg(torch.asin(linear[0, 2] / linear.norm(dim=1)[0])) + 9) < 0.1


def test_unlabelled_points_are_nan_and_the_others_zero_based(dataset, aflw2000_folder):
    raw = np.load(aflw2000_folder / EXTRA_FILES["points21"][0])
    hidden = torch.from_numpy((raw == -1).all(axis=1))
    assert hidden.any()
    assert torch.equal(dataset.points21.isnan().all(2), hidden)
    expected = torch.from_numpy(raw.transpose(0, 2, 1))[~hidden] - 1
    assert_close(dataset.points21[~hidden], expected, atol=1e-3, rtol=0.0)


def test_reannotated_points_are_near_the_truth_and_absent_without_the_file(dataset, copy, cache):
    size = (dataset.landmarks.amax(1) - dataset.landmarks.amin(1))[:, :2].prod(1).sqrt()
    distance = (dataset.reannotated - dataset.landmarks[..., :2]).norm(dim=2).mean(1) / size
    assert 0.005 < distance.mean() < 0.06
    assert (dataset.reannotated.round() == dataset.reannotated).all()
    for key in ("reannotated", "yaw_aflw"):
        (copy / EXTRA_FILES[key][0]).unlink()
    bare = AFLW2000Dataset(copy, cache_folder=cache)
    assert bare.reannotated is None
    assert bare.yaw_lists == ("fitted",)
    with pytest.raises(FileNotFoundError, match=r"new\.pose\.npy"):
        bare.yaw("aflw")


def test_without_a_model_the_landmarks_remain(aflw2000_folder, cache):
    sample = AFLW2000Dataset(aflw2000_folder, cache_folder=cache)[0]
    assert sample.keys() == {"image", "camera", "sample_id", "landmarks"}


def test_a_rejected_record_takes_its_row_of_every_list(copy, cache):
    path = sorted(copy.glob("*.mat"))[5]
    path.write_bytes(b"broken")
    dataset = AFLW2000Dataset(copy, cache_folder=cache, max_rejected=0.1)
    assert len(dataset) == len(dataset.yaw("aflw")) == len(dataset.reannotated) == 23
    everything = np.load(copy / EXTRA_FILES["yaw_aflw"][0])
    assert_close(dataset.yaw("aflw"), np.delete(everything, 5))


def test_lists_of_other_images_are_refused(copy, cache):
    path = copy / EXTRA_FILES["landmarks"][0]
    np.save(path, np.load(path)[::-1])
    with pytest.raises(ValueError, match="24 rows differ from pt3d_68"):
        AFLW2000Dataset(copy, cache_folder=cache)
    np.save(path, np.load(path)[:7])
    with pytest.raises(ValueError, match=r"should be \(24, 3, 68\)"):
        AFLW2000Dataset(copy, cache_folder=cache)


def test_partial_copies_need_consent_and_wrong_folders_advice(copy, cache):
    (copy / "miniature.json").unlink()
    with pytest.raises(DatasetNotFoundError, match="24 images, a complete copy has 2000"):
        AFLW2000Dataset(copy, cache_folder=cache)
    assert len(AFLW2000Dataset(copy, cache_folder=cache, allow_partial=True)) == 24
    with pytest.raises(DatasetNotFoundError, match=r"Did you mean .*AFLW2000"):
        AFLW2000Dataset(copy.parent, cache_folder=cache)


def test_a_complete_copy_must_reproduce_the_published_bins(aflw2000_folder, cache, monkeypatch):
    """Pretend that 24 is complete: the bins then contradict both published triples."""
    import lit_face.data.aflw2000 as module

    monkeypatch.setattr(module, "COMPLETE", 24)
    folder = aflw2000_folder.parent / "unmarked"
    shutil.copytree(aflw2000_folder, folder)
    (folder / "miniature.json").unlink()
    with pytest.raises(ValueError, match=r"\(12, 6, 6\).*\(1312, 383, 305\).*\(1306, 462, 232\)"):
        AFLW2000Dataset(folder, cache_folder=cache)
    monkeypatch.setattr(module, "YAW_BINS", {"fitted": (12, 6, 6), "aflw": (13, 5, 6)})
    lists = AFLW2000Dataset(folder, cache_folder=cache).yaw_lists
    assert lists == ("fitted", "aflw")
