"""The miniatures as users get them: procedural head, procedural photographs, real loaders."""

import numpy as np
import pytest
import scipy.io
import torch

from lit_face.data import miniature_aflw2000, miniature_w300lp
from lit_face.data.aflw2000 import AFLW2000Dataset
from lit_face.data.landmarks import project_landmarks
from lit_face.data.miniature_aflw2000 import plan_people
from lit_face.data.miniature_w300lp import plan_photographs
from lit_face.data.w300lp import W300LPDataset, photograph
from lit_face.io.images import read_image
from lit_face.morphable_models.bfm import load_bfm
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def plans(toy_model):
    seeds = [miniature_w300lp.SEED + number for number in range(4)]
    return [plan_photographs(toy_model, 6, 4, seed) for seed in seeds], plan_people(toy_model)[0]


def test_test_people_are_nobody_of_the_training_set(plans):
    training, test = plans
    seen = torch.cat([plan.coefficients["identity"] for plan in training])
    distance = torch.cdist(test.coefficients["identity"], seen)
    assert distance.min() > 1.0, "12 independent standard deviations are never that close"
    assert torch.cdist(seen[::4], seen[::4]).fill_diagonal_(9).min() > 1.0


def test_views_turn_one_person_like_face_profiling(plans):
    for plan in plans[0]:
        yaw = np.degrees(plan.pose[:, 1]).reshape(6, 4)
        assert (np.diff(np.abs(yaw), axis=1) > 5).all()
        assert np.abs(yaw).max() <= 80.5
        assert (np.sign(yaw) == np.sign(yaw[:, :1])).all()
        identity = plan.coefficients["identity"].view(6, 4, -1)
        assert (identity == identity[:, :1]).all()
    angles = np.degrees(np.concatenate([plan.pose[:, :3] for plan in plans[0]]))
    assert (angles.std(axis=0) > 5).all()
    yaw = angles[:, 1]
    assert min((yaw > 0).mean(), (yaw < 0).mean()) > 0.2


def test_views_keep_the_points_of_their_photograph(w300lp_folder):
    """As in the real files: pt2d of a turned view is that of view 0; `landmarks` has its own."""
    views = [scipy.io.loadmat(w300lp_folder / "AFW" / f"AFW_000020_1_{k}.mat") for k in range(4)]
    assert all((view["pt2d"] == views[0]["pt2d"]).all() for view in views)
    folder = w300lp_folder / "landmarks" / "AFW"
    own = [scipy.io.loadmat(folder / f"AFW_000020_1_{k}_pts.mat")["pts_3d"] for k in range(4)]
    assert np.abs(own[3] - own[0]).mean() > 5


def test_layout_has_the_real_names_and_types(w300lp_folder):
    names = {
        p.relative_to(w300lp_folder).as_posix() for p in w300lp_folder.rglob("*") if p.is_file()
    }
    for name in ("AFW/AFW_000007_1_0.jpg", "HELEN/HELEN_000000007_1_3.mat",
                 "IBUG_Flip/IBUG_image_007_1_0.mat", "LFPW/LFPW_image_train_0007_0.jpg",
                 "landmarks/LFPW/LFPW_image_train_0007_0_pts.mat"):  # fmt: skip
        assert name in names
    assert not any(name.startswith("AFW_Flip") for name in names)
    found = scipy.io.loadmat(w300lp_folder / "AFW" / "AFW_000020_1_1.mat")
    expected = {"pt2d": ((2, 68), "float64"), "roi": ((1, 4), "int16"),
                "Pose_Para": ((1, 7), "float32"), "Shape_Para": ((199, 1), "float64"),
                "Exp_Para": ((29, 1), "float64"), "Tex_Para": ((199, 1), "float64"),
                "Illum_Para": ((1, 10), "float64"), "Color_Para": ((1, 7), "float32")}  # fmt: skip
    assert {k: (v.shape, str(v.dtype)) for k, v in found.items() if k[0] != "_"} == expected
    assert read_image(w300lp_folder / "AFW" / "AFW_000020_1_1.jpg").shape == (450, 450, 3)


def test_the_built_in_miniature_is_read_by_the_real_loader(tmp_path):
    """Test size, with the procedural head and its photographs; the planted defects are found."""
    root = miniature_w300lp.miniature_w300lp(tmp_path, "test")
    again = miniature_w300lp.miniature_w300lp(tmp_path, "test")
    assert again == root
    dataset = W300LPDataset(root, "all", cache_folder=tmp_path, max_rejected=0.25)
    assert len(dataset) == 6
    assert [name for name, _ in dataset.index.rejected] == [
        "AFW/AFW_000007_1_1", "IBUG/IBUG_image_020_1_1",
    ]  # fmt: skip
    for item in range(len(dataset)):
        image = dataset[item]["image"].float()
        assert image.std() > 15, "a picture, not a plain colour"
    people = {photograph(name) for name in dataset.sample_ids}
    assert len(people) == 4
    _check_head_and_its_bfm_agree(root, dataset, tmp_path)
    leftovers = [path for path in root.parent.parent.iterdir() if path.name.startswith(".")]
    assert not leftovers


def _check_head_and_its_bfm_agree(root, dataset, cache):
    """The head itself gives the same faces as what was written of it in BFM's layout."""
    head, bfm = procedural_head(), load_bfm(root.parent / "BFM")
    same = W300LPDataset(root, "all", head, cache_folder=cache, max_rejected=0.25)
    items = list(range(6))
    from_head = project_landmarks(head, same.coefficients(items), same.camera)
    from_bfm = project_landmarks(bfm, dataset.coefficients(items), dataset.camera)
    assert_close(from_head, from_bfm, atol=5e-3, rtol=0.0)


@pytest.mark.slow
def test_the_built_in_evaluation_miniature(tmp_path):
    root = miniature_aflw2000.miniature_aflw2000(tmp_path)
    assert len(AFLW2000Dataset(root, cache_folder=tmp_path)) == 24


def test_digest_names_the_models_content(toy_model):
    before = model_digest(toy_model)
    toy_model.mean[3, 1] += 1e-3
    changed = model_digest(toy_model)
    toy_model.mean[3, 1] -= 1e-3
    assert changed != before
