import json

import numpy as np
import pytest
import torch

from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.data.ffhq_truth import FFHQTruth, has_truth
from lit_face.data.five_point_files import read_points_list
from lit_face.data.miniature_celeba import make_crops, miniature_celeba, plan_pictures
from lit_face.data.miniature_ffhq import plan_pictures as plan_ffhq
from lit_face.geometry.five_points import five_point_box, five_points, standard_points
from lit_face.io.images import read_image, read_rgba
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.celeba import shared_miniature
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared_miniature(tmp_path_factory)


def test_layout_is_the_real_one(folder):
    names = [f"{number:06d}" for number in range(1, 13)]
    for tree, suffix in (("CelebA_Segment", "png"), ("img_align_celeba", "jpg"), ("truth", "npz")):
        assert sorted(path.name for path in (folder / tree).iterdir()) == [
            f"{name}.{suffix}" for name in names
        ]
    pixels = read_rgba(folder / "CelebA_Segment/000003.png")
    assert pixels.shape == (224, 224, 4)
    assert np.unique(pixels[..., 3]).tolist() == [0, 255]
    assert np.fromfile(folder / "CelebA_Landmarks/000003.npy", "<i4").shape == (136,)
    assert read_image(folder / "img_align_celeba/000003.jpg").shape == (218, 178, 3)
    assert (folder / "list_eval_partition.txt").read_text().splitlines()[4] == "000005.jpg 1"
    assert len((folder / "identity_CelebA.txt").read_text().splitlines()) == 12
    assert json.loads((folder / "miniature.json").read_text())["dataset"] == "CelebA"


def test_the_lists_points_are_on_the_aligned_pictures_eyes(folder):
    points = read_points_list(folder / "list_landmarks_align_celeba.txt")
    assert list(points) == [f"{number:06d}" for number in range(1, 13)]
    for row in points.values():
        assert np.abs(row[:2].mean(0) - [89, 111.5]).max() <= 1
        assert abs(row[1, 0] - row[0, 0] - 39) <= 1
        assert row[2:, 1].min() > row[:2, 1].max()


def test_crops_are_deep3ds(folder, tmp_path):
    dataset = CelebASkinDataset(folder, "all", cache_folder=tmp_path)
    head = procedural_head()
    standard = standard_points(five_points(head.landmarks(head.mean[None]))[0])
    points = torch.stack([dataset[item]["landmarks"][:, :2] for item in range(12)])
    box = five_point_box(five_points(points), standard)
    assert_close(box.centre, torch.full((12, 2), 111.5), atol=1.0, rtol=0)  # whole pixels
    assert_close(box.size, torch.full((12,), 223.0), atol=4.0, rtol=0)


def test_the_truth_is_that_of_the_pictures(folder, tmp_path):
    dataset = CelebASkinDataset(folder, "all", cache_folder=tmp_path)
    assert has_truth(folder)
    truth = FFHQTruth(folder)
    true = truth.read(dataset.sample_ids)
    assert true.person.tolist() == dataset.person.tolist()
    points = true.camera.project(truth.model.landmarks(true.vertices))
    found = torch.stack([dataset[item]["landmarks"] for item in range(12)])
    assert_close(found[..., :2], points[..., :2], atol=0.51, rtol=0)
    assert_close(true.diffuse[0], true.diffuse[3])
    assert (true.light[0] - true.light[1]).norm() > 0.1


def test_alpha_is_the_face_without_ears_neck_and_mouth(folder, tmp_path):
    """Where the true face is seen, alpha has brows, eyes, nose and lips, and no neck or ears."""
    dataset = CelebASkinDataset(folder, "all", cache_folder=tmp_path)
    truth = FFHQTruth(folder)
    true = truth.read(dataset.sample_ids)
    pixels = true.camera.project(true.vertices)[..., :2].round().long().clamp(0, 223)
    regions = truth.model.regions
    frontal = true.camera.matrix[:, 0, 0] / true.camera.matrix[:, 0, :3].norm(dim=1) > 0.97
    assert frontal.any()
    shown = []
    for row in frontal.nonzero()[:, 0].tolist():
        alpha = dataset[row]["skin_mask"][0]
        seen = alpha[pixels[row, :, 1], pixels[row, :, 0]].float()
        lowest = true.vertices[row, :, 1] < true.vertices[row, regions["face"] > 0.5, 1].min() - 5
        assert seen[(regions["neck"] > 0.9) & lowest].mean() < 0.02
        names = ("brows", "nose", "lips", "eyeballs")
        front = true.vertices[row, :, 2] > true.vertices[row, regions["eyeballs"] > 0.5, 2].mean()
        shown.append([seen[(regions[name] > 0.8) & front].mean().item() for name in names])
    assert min(np.max(shown, axis=0)) > 0.95  # where nothing lies before them
    shares = [dataset[row]["skin_mask"].float().mean().item() for row in range(12)]
    assert min(shares) > 0.2
    assert max(shares) < 0.6


def test_no_held_out_person_is_in_any_training_split():
    (small, small_split), (large, large_split) = plan_pictures(48), plan_pictures(1600)
    assert small_split.bincount().tolist() == [32, 8, 8]
    assert large_split.bincount().tolist() == [1472, 64, 64]
    ffhq = plan_ffhq(320)
    shown = set(ffhq.person[~ffhq.held_out].tolist())
    for trained, tested in ((small, large), (large, small), (large, large)):
        trained_people = set(trained.person[~trained.held_out].tolist()) | shown
        assert not trained_people & set(tested.person[tested.held_out].tolist())
        keys = set(trained.picture_keys[~trained.held_out].tolist())
        assert not keys & set(tested.picture_keys[tested.held_out].tolist())
    assert large.person.unique(return_counts=True)[1].unique().tolist() == [4]
    val, test = (set(large.person[large_split == number].tolist()) for number in (1, 2))
    assert not val & test
    assert set(small.person[small_split == 2].tolist()) < test


def test_a_picture_depends_on_its_number_alone(folder):
    plan, _ = plan_pictures(12)
    alone = make_crops(procedural_head(), plan, torch.tensor([5]))
    with np.load(folder / "truth/000006.npz") as stored:
        assert_close(alone.landmarks[0, :, :2].double(), stored["landmarks"], atol=1e-3, rtol=0)


def test_too_small_a_miniature_is_refused(tmp_path):
    with pytest.raises(ValueError, match="miniature_images should be at least 12, found 8"):
        miniature_celeba(8, tmp_path)
