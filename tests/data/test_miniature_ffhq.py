import json
import shutil

import numpy as np
import pytest
import torch

from lit_face.data import miniature_people as module
from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_alignment import ffhq_alignment
from lit_face.data.ffhq_truth import FFHQTruth, has_truth
from lit_face.data.miniature_ffhq import make_pictures, miniature_ffhq, plan_pictures
from lit_face.geometry.similarity2d import apply_similarity, similarity_matrix
from lit_face.metrics.skin_tone import typology_angle_deg
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.ffhq import shared_miniature
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared_miniature(tmp_path_factory)


def test_layout_is_the_real_one(folder):
    content = json.loads((folder / "ffhq-dataset-v2.json").read_text())
    assert list(content) == [str(number) for number in range(16)]
    entry = content["3"]
    assert entry.keys() == {"category", "metadata", "image", "thumbnail", "in_the_wild"}
    assert (folder / entry["image"]["file_path"]).stat().st_size == entry["image"]["file_size"]
    assert entry["image"]["pixel_size"] == [256, 256]
    points = np.load(folder / "landmarks/00003.npy")
    assert points.dtype == np.float64
    assert points.shape == (68, 2)
    assert_close(np.array(entry["image"]["face_landmarks"]), points, atol=1e-4, rtol=0)
    labels = np.load(folder / "segmentation/00003.npy")
    assert labels.shape == (256, 256)
    assert 0 in labels
    assert 1 < labels.max() <= 15


def test_loader_reads_it_and_the_pictures_show_the_truth(folder, tmp_path):
    dataset, truth = FFHQDataset(folder, "val", cache_folder=tmp_path), FFHQTruth(folder)
    true = truth.read(dataset.sample_ids)
    assert len(dataset) == 8
    assert len(FFHQDataset(folder, "train", cache_folder=tmp_path)) == 8
    points = true.camera.project(truth.model.landmarks(true.vertices))
    found = torch.stack([dataset[item]["landmarks"] for item in range(8)])
    assert_close(found[..., :2], points[..., :2], atol=1e-3, rtol=0)
    # Pictures show the albedo: brighter skin in the truth is brighter skin in the picture.
    skin = [dataset[i]["image"].float()[:, dataset[i]["skin_mask"][0] > 0].mean() for i in range(8)]
    lightness = (true.diffuse * truth.skin[:, None]).sum((1, 2))
    correlation = torch.corrcoef(torch.stack([torch.stack(skin), lightness]))[0, 1]
    assert correlation > 0.6


def test_training_reads_nothing_of_the_truth(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "truth")
    assert has_truth(folder)
    assert not has_truth(copy)
    sample = FFHQDataset(copy, "train", cache_folder=tmp_path)[0]
    assert sample.keys() == {"image", "landmarks", "skin_mask", "sample_id"}


def test_no_held_out_person_is_in_any_training_split():
    small, large = plan_pictures(32), plan_pictures(400)
    assert small.held_out.sum() == 8
    assert large.held_out.sum() == 40
    for trained, tested in ((small, large), (large, small), (large, large)):
        trained_people = set(trained.person[~trained.held_out].tolist())
        assert not trained_people & set(tested.person[tested.held_out].tolist())
        keys = set(trained.picture_keys[~trained.held_out].tolist())
        assert not keys & set(tested.picture_keys[tested.held_out].tolist())
    assert large.person[large.held_out].unique(return_counts=True)[1].tolist() == [4] * 10
    assert len(large.person[~large.held_out].unique()) == 360


def test_held_out_skin_goes_from_light_to_dark():
    head = procedural_head()
    plan = plan_pictures(400)
    held_out = plan.person[plan.held_out].unique()
    albedo = module.people(head, held_out, torch.ones(len(held_out), dtype=torch.bool))["albedo"]
    linear = module.srgb_to_linear(head.albedo(albedo).clamp(0.01, 1))
    tone = typology_angle_deg(linear, head.regions["nose"])
    assert tone.max() > 41
    assert tone.min() < -10
    assert tone.std() > 15


def test_pictures_of_a_person_share_face_and_albedo_but_not_light_and_pose(folder):
    truth = FFHQTruth(folder).read([f"00000/000{n:02d}.png" for n in (8, 9, 10)])
    assert truth.person[0] == truth.person[1] != truth.person[2]
    assert_close(truth.diffuse[0], truth.diffuse[1])
    assert (truth.light[0] - truth.light[1]).norm() > 0.1
    assert (truth.camera.matrix[0] - truth.camera.matrix[1]).norm() > 0.05


def test_a_picture_depends_on_its_number_alone(folder):
    head, plan = procedural_head(), plan_pictures(16)
    alone = make_pictures(head, plan, torch.tensor([5]))
    stored = np.load(folder / "landmarks/00005.npy")
    assert_close(alone.landmarks[0, :, :2].double(), stored, atol=1e-3, rtol=0)


def test_another_head_is_refused(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    np.save(copy / "landmarks/00000.npy", np.load(copy / "landmarks/00000.npy") + 0.2)
    with pytest.raises(ValueError, match="written with another procedural head"):
        FFHQTruth(copy)


def test_too_small_a_miniature_is_refused(tmp_path):
    with pytest.raises(ValueError, match="miniature_images should be at least 16, found 4"):
        miniature_ffhq(4, tmp_path)


def test_alignment_undoes_any_similarity_of_the_photo():
    generator = torch.Generator().manual_seed(0)
    # Points near a face: the alignment is a fixed frame around eyes and mouth.
    points = torch.rand(5, 68, 2, generator=generator) * 10
    points[:, 36:42] += torch.tensor([80.0, 100.0])
    points[:, 42:48] += torch.tensor([140.0, 105.0])
    points[:, 48:] += torch.tensor([110.0, 170.0])
    turn = similarity_matrix(
        torch.rand(5, generator=generator) + 0.5,
        torch.randn(5, generator=generator),
        40 * torch.randn(5, 2, generator=generator),
        torch.full((5, 2), 50.0),
    )
    moved = apply_similarity(turn, points)
    aligned = apply_similarity(ffhq_alignment(points, 256), points)
    again = apply_similarity(ffhq_alignment(moved, 256), moved)
    assert_close(again, aligned, atol=1e-3, rtol=1e-4)
    eyes = aligned[:, 36:48].mean(1)
    assert ((eyes - 127.5).abs() < 40).all()  # in the middle, the eyes a little above it
    assert (eyes[:, 1] < 127.5).all()
