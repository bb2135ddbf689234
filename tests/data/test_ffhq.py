import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.ffhq import FFHQDataset
from lit_face.io.images import write_image
from tests.helpers.ffhq import SIDE, disc, picture_of, points_of, write_json, write_tree
from tests.helpers.tolerances import assert_close


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    return write_tree(tmp_path / "ffhq")


def is_bright_at_first_landmark(sample) -> bool:
    x, y = sample["landmarks"][0, :2].round().long()
    return bool((sample["image"][:, y, x] > 200).all())


def test_files_beside_the_pictures_are_read(root):
    dataset = FFHQDataset(root, "all")
    assert dataset.is_aligned
    assert dataset.sample_ids[1] == "00000/00001.png"
    for number in range(6):
        sample = dataset[number]
        assert_close(sample["landmarks"][:, :2], points_of(number))
        assert (sample["landmarks"][:, 2] == 0).all()
        assert (sample["skin_mask"][0].numpy() == (disc() > 0)).all()
        assert is_bright_at_first_landmark(sample)


def test_landmarks_of_the_json_are_scaled_from_its_pixels_to_the_pictures(root):
    shutil.rmtree(root / "landmarks")
    write_json(root)
    train, val = FFHQDataset(root, "train"), FFHQDataset(root, "val")
    assert train.sample_ids == [f"00000/0000{n}.png" for n in range(4)]
    assert val.sample_ids == ["00000/00004.png", "00000/00005.png"]
    assert_close(val[1]["landmarks"][:, :2], points_of(5), atol=1e-4, rtol=0)


def test_larger_pictures_are_shrunk_with_their_points_and_masks(root):
    sample = FFHQDataset(root, "all", picture_size=SIDE // 2)[2]
    assert sample["image"].shape == (3, SIDE // 2, SIDE // 2)
    assert_close(sample["landmarks"][:, :2], (points_of(2) + 0.5) / 2 - 0.5)
    share = (disc() > 0).mean()
    assert abs(sample["skin_mask"].float().mean().item() - share) < 0.02


def test_without_category_pictures_from_60000_on_validate(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    root = write_tree(tmp_path / "ffhq", [3, 59_999, 60_000, 60_001], tree="thumbnails128x128")
    assert FFHQDataset(root, "train").sample_ids == ["00000/00003.png", "59000/59999.png"]
    assert FFHQDataset(root, "val").sample_ids == ["60000/60000.png", "60000/60001.png"]


def test_a_folder_that_says_nothing_is_split_by_name_for_good(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    root = write_tree(tmp_path / "ffhq", range(40))
    before = FFHQDataset(root, "val", val_fraction=0.2).sample_ids
    write_tree(root, range(40, 60))
    after = FFHQDataset(root, "val", val_fraction=0.2).sample_ids
    train = FFHQDataset(root, "train", val_fraction=0.2).sample_ids
    assert [name for name in after if name < "00000/00040"] == before
    assert not set(train) & set(after)
    assert len(train) + len(after) == 60
    with pytest.raises(ValueError, match="val_fraction should lie between 0 and 1, found 1"):
        FFHQDataset(root, "val", val_fraction=1)


def test_photos_of_any_size_are_cut_around_the_face(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for number, (high, wide, left, top) in enumerate(((120, 160, 80, 40), (90, 70, 3, 20))):
        photo = np.zeros((high, wide, 3), np.uint8)
        photo[top : top + SIDE, left : left + SIDE] = picture_of(number)
        mask = np.zeros((high, wide))
        mask[top : top + SIDE, left : left + SIDE] = disc()
        write_image(root / f"{number}.png", photo)
        for folder, array in (
            ("landmarks", points_of(number) + np.array([left, top])),
            ("segmentation", mask),
        ):
            (root / folder).mkdir(exist_ok=True)
            np.save(root / folder / f"{number}.npy", array)
    dataset = FFHQDataset(root, "all", picture_size=256)
    assert not dataset.is_aligned
    for number in range(2):
        sample = dataset[number]
        assert sample["image"].shape == (3, 256, 256)
        x, y = sample["landmarks"][0, :2].round().long().tolist()
        # A bright pixel became a spot: its brightest place is the landmark.
        spot = sample["image"][:, max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7].float().mean(0)
        assert sample["image"][:, y, x].float().mean() > 0.9 * spot.max()
        assert sample["skin_mask"].float().mean() > 0.1


def test_phone_pictures_are_turned_before_the_points_count(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    for number in range(2):
        upright = np.full((96, SIDE, 3), 60, np.uint8)
        upright[:SIDE] = picture_of(number)
        exif = Image.Exif()
        exif[0x0112] = 6  # stored rotated: shown a quarter turn clockwise
        root.mkdir(exist_ok=True)
        Image.fromarray(np.rot90(upright).copy()).save(root / f"{number}.png", exif=exif)
        mask = np.zeros((96, SIDE), np.uint8)
        mask[:SIDE] = disc()
        write_image(root / "segmentation" / f"{number}.png", mask * 80)
        np.save(root / f"{number}.npy", points_of(number))
    sample = FFHQDataset(root, "all", picture_size=77)[0]
    x, y = sample["landmarks"][0, :2].round().long().tolist()
    near = sample["image"][0, y - 1 : y + 2, x - 1 : x + 2]
    assert near.max() == sample["image"][0].max() > 120


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: np.save(f / "landmarks/00001.npy", np.full((68, 2), np.nan)), "NaN or infinity"),
        (lambda f: np.save(f / "landmarks/00001.npy", points_of(1)[:51]), r"\(68,2\), found"),
        (lambda f: np.save(f / "landmarks/00001.npy", 16 * points_of(1)), "those of a larger pict"),
        (
            lambda f: np.save(f / "landmarks/00001.npy", points_of(1) / 4),
            "landmarks look like 16-pixel ones, the picture has 64 pixels",
        ),
        (lambda f: np.save(f / "landmarks/00001.npy", np.zeros((68, 2))), "lie on one line"),
        (lambda f: np.save(f / "landmarks/00001.npy", np.zeros((0, 2))), "no face was found"),
        (lambda f: (f / "landmarks/00001.npy").write_bytes(b""), "not an array that can be read"),
        (lambda f: (f / "landmarks/00001.npy").unlink(), "no landmarks, neither a file nor"),
        (lambda f: np.save(f / "segmentation/00001.npy", np.zeros((64, 64))), "skin covers 0.0 %"),
        (lambda f: np.save(f / "segmentation/00001.npy", np.ones((64, 64))), "skin covers 100.0 %"),
        (lambda f: np.save(f / "segmentation/00001.npy", disc()[:32]), "64 x 32 pixels, the pict"),
        (lambda f: np.save(f / "segmentation/00001.npy", disc() * np.nan), "holds NaN"),
        (lambda f: (f / "segmentation/00001.npy").unlink(), "no segmentation of 00000/00001.png"),
        (
            lambda f: (f / "images1024x1024/00000/00001.png").write_bytes(b"nothing"),
            "not a picture",
        ),
        (
            lambda f: write_image(f / "images1024x1024/00000/00001.png", picture_of(1)[:50]),
            "should be a square, found 64 x 50 pixels",
        ),
    ],
)
def test_a_broken_record_is_named_with_its_reason(root, spoil, reason):
    spoil(root)
    with pytest.raises(ValueError, match=rf"1 of 6 records.*\n- 00000/00001.png: .*{reason}"):
        FFHQDataset(root, "all")
    assert len(FFHQDataset(root, "all", max_rejected=0.5)) == 5


def test_a_truncated_picture_is_found_without_decoding_all(root):
    path = root / "images1024x1024/00000/00003.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"00003\.png"):
        FFHQDataset(root, "all")


def test_a_mask_of_another_resolution_is_fitted_to_the_picture(root):
    small = cv2.resize(disc(), (16, 16), interpolation=cv2.INTER_NEAREST)
    np.save(root / "segmentation/00001.npy", small)
    assert FFHQDataset(root, "all")[1]["skin_mask"].shape == (1, SIDE, SIDE)


def test_a_black_picture_is_read(root):
    write_image(root / "images1024x1024/00000/00001.png", np.zeros((64, 64, 3), np.uint8))
    assert FFHQDataset(root, "all")[1]["image"].max() == 0


def test_wrong_roots_say_what_is_missing(root, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no folder .*nothing.*docs/data/ffhq.md"):
        FFHQDataset(tmp_path / "nothing")
    with pytest.raises(DatasetNotFoundError, match=r"no pictures.*Did you mean .*ffhq\?"):
        FFHQDataset(tmp_path)
    shutil.rmtree(root / "segmentation")
    with pytest.raises(DatasetNotFoundError, match=r"6 pictures but no skin masks.*data.masker"):
        FFHQDataset(root)
    shutil.rmtree(root / "landmarks")
    with pytest.raises(DatasetNotFoundError, match="6 pictures but no landmarks"):
        FFHQDataset(root)
    (root / "ffhq-dataset-v2.json").write_text('{"0": {"category": "training"}}')
    np.save(tmp_path / "00000.npy", disc())
    with pytest.raises(ValueError, match=r"entry .0. has no category or no image\.face_landmarks"):
        FFHQDataset(root, masks=tmp_path)


def test_a_picture_that_changed_since_is_refused(root):
    dataset = FFHQDataset(root, "all")
    write_image(root / "images1024x1024/00000/00001.png", picture_of(1, 32))
    with pytest.raises(ValueError, match="32 x 32 pixels, but 64 x 64 when it was first read"):
        dataset[1]
