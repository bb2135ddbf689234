import pickle

import numpy as np
import pytest
import torch

from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fitted import collate
from lit_face.io.images import write_image, write_rgba
from tests.helpers.celeba import picture_of, points_of, write_folder
from tests.helpers.tolerances import assert_close


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "celeba")


def test_samples_are_the_files(root):
    dataset = CelebASkinDataset(root, "train", picture_size=32)
    assert dataset.sample_ids == [f"{number:06d}.png" for number in range(1, 5)]
    sample = dataset[2]
    pixels = torch.from_numpy(picture_of(2)).permute(2, 0, 1)
    assert torch.equal(sample["image"], pixels[:3])
    assert torch.equal(sample["skin_mask"], (pixels[3:] > 0).to(torch.uint8))
    points = (points_of(2) + 0.5) * (32 / 224) - 0.5
    assert_close(sample["landmarks"][:, :2], points, atol=1e-5, rtol=0)
    assert sample["landmarks"].shape == (68, 3)
    assert sample["person"] == 100
    batch = collate([dataset[0], dataset[3]])
    assert batch.person.tolist() == [100, 100]
    assert batch.person.dtype == torch.int64


def test_splits_are_the_lists(root):
    people = {}
    for split in ("train", "val", "test"):
        dataset = CelebASkinDataset(root, split)
        assert len(dataset) == 4
        people[split] = set(dataset.person.tolist())
    assert people == {"train": {100}, "val": {101}, "test": {102}}
    assert len(CelebASkinDataset(root, "all")) == 12


def test_without_lists_names_are_split_by_hash(tmp_path):
    root = write_folder(tmp_path / "celeba", 40, lists=False, landmarks=False)
    found = [CelebASkinDataset(root, s, val_fraction=0.2) for s in ("train", "val", "test")]
    names = [set(dataset.sample_ids) for dataset in found]
    assert sum(map(len, names)) == len(set.union(*names)) == 40
    assert 3 <= len(names[1]) <= 14
    assert names[2]
    assert "landmarks" not in found[0][0]
    assert "person" not in found[0][0]
    assert found[0].person is None
    with pytest.raises(ValueError, match="leave something to train on"):
        CelebASkinDataset(root, "val", val_fraction=0.6, test_fraction=0.4)


def test_without_partition_persons_stay_together(tmp_path):
    root = write_folder(tmp_path / "celeba", 40)
    (root / "list_eval_partition.txt").unlink()
    split = [CelebASkinDataset(root, s, val_fraction=0.2) for s in ("train", "val", "test")]
    people = [set(dataset.person.tolist()) for dataset in split]
    assert sum(map(len, people)) == len(set.union(*people)) == 10
    assert all(people)
    more = write_folder(tmp_path / "more", 80)
    (more / "list_eval_partition.txt").unlink()
    again = set(CelebASkinDataset(more, "test", val_fraction=0.2).person.tolist())
    changed = people[2] ^ {person for person in again if person < 110}
    assert len(changed) <= 1  # the one that is there so that none is empty


def test_pictures_of_any_size_are_brought_to_one(tmp_path):
    root = write_folder(tmp_path / "celeba", side=48)
    sample = CelebASkinDataset(root, "train", picture_size=96)[0]
    assert sample["image"].shape == (3, 96, 96)
    assert sample["skin_mask"].unique().tolist() == [0, 1]
    share = picture_of(0, 48)[..., 3].mean() / 255
    assert abs(sample["skin_mask"].float().mean().item() - share) < 0.02
    points = (points_of(0) + 0.5) * (96 / 224) - 0.5
    assert_close(sample["landmarks"][:, :2], points, atol=1e-4, rtol=0)


@pytest.mark.parametrize("place", ["celeba", ".", "celeba/CelebA_Segment"])
def test_the_folder_is_found(root, tmp_path, place):
    assert len(CelebASkinDataset(tmp_path / place, "all")) == 12


def test_wrong_folders_say_what_was_expected(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no folder .*nowhere"):
        CelebASkinDataset(tmp_path / "nowhere")
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    with pytest.raises(DatasetNotFoundError, match=r"found pictures.*CelebA_Segment/<name>\.png"):
        CelebASkinDataset(tmp_path / "data")
    (tmp_path / "data" / "img_align_celeba").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"this is CelebA itself.*crop"):
        CelebASkinDataset(tmp_path / "data")
    (tmp_path / "data" / "CelebA_Segment").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"no \.png in"):
        CelebASkinDataset(tmp_path / "data")
    with pytest.raises(ValueError, match="split should be"):
        CelebASkinDataset(tmp_path, "valid")


def opaque(file, name):
    pixels = picture_of(0)
    pixels[..., 3] = 255
    write_rgba(file, pixels)


def transparent(file, name):
    pixels = picture_of(0)
    pixels[..., 3] = 0
    write_rgba(file, pixels)


def write_landmarks(points):
    def write(file, name):
        np.asarray(points).tofile(file.parent.parent / "CelebA_Landmarks" / f"{name}.npy")

    return write


DEFECTS = {
    "no alpha: run the segmentation step": lambda f, n: write_image(f, picture_of(0)[..., :3]),
    "alpha is 0 everywhere": transparent,
    "alpha is 255 everywhere.*run the segmentation step": opaque,
    "should be a square, found 32 x 16": lambda f, n: write_rgba(f, picture_of(0)[:16]),
    "decoded": lambda f, n: f.write_bytes(f.read_bytes()[:-200]),
    "not a picture": lambda f, n: f.write_bytes(b"nothing"),
    "no landmarks CelebA_Landmarks/000003.npy": lambda f, n: (
        f.parent.parent / "CelebA_Landmarks" / f"{n}.npy"
    ).unlink(),
    r"expected 544 bytes \(68 x 2 int32\), found 272": write_landmarks(np.zeros(68, np.int32)),
    "the eyes lie below the mouth": write_landmarks(223 - points_of(1)),
    r"face in \[-224, 448\], found": write_landmarks(10 * points_of(1)),
    "000003 is not in identity_CelebA.txt": lambda f, n: (
        f.parent.parent / "identity_CelebA.txt"
    ).write_text("".join(f"{k:06d}.jpg 7\n" for k in range(1, 13) if k != 3)),
}


@pytest.mark.parametrize("reason", DEFECTS)
def test_broken_records_are_named_and_counted(root, reason):
    DEFECTS[reason](root / "CelebA_Segment/000003.png", "000003")
    with pytest.raises(ValueError, match=f"1 of 12 records.*max_rejected(.|\n)*000003.*{reason}"):
        CelebASkinDataset(root)
    dataset = CelebASkinDataset(root, "all", max_rejected=0.1)
    assert len(dataset) == 11
    assert "000003.png" not in dataset.sample_ids


def test_landmarks_may_be_numpy_files(root):
    np.save(root / "CelebA_Landmarks/000002.npy", points_of(1) + 0.25)
    sample = CelebASkinDataset(root, picture_size=224)[1]
    assert_close(sample["landmarks"][:, :2], points_of(1) + 0.25)
    np.save(root / "CelebA_Landmarks/000002.npy", np.full((68, 2), np.nan))
    with pytest.raises(ValueError, match="finite"):
        CelebASkinDataset(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001.jpg\n", "line 1: expected '000001.jpg 2880'"),
        ("000001.jpg 3\n", "has the split 3; expected 0"),
    ],
)
def test_lists_that_are_none(root, line, message):
    (root / "list_eval_partition.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        CelebASkinDataset(root)


def test_persons_in_two_splits_are_reported(root, caplog):
    names = [f"{number:06d}.jpg {7 + number % 2}\n" for number in range(1, 13)]
    (root / "identity_CelebA.txt").write_text("".join(names))
    CelebASkinDataset(root)
    assert "2 persons are in training and in another split" in caplog.text


def test_datasets_travel_to_workers(root):
    dataset = CelebASkinDataset(root, picture_size=32)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[1]["image"], dataset[1]["image"])
