"""PNG files, photos and the reference's packed floats into the forms that are read."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from lit_face.data.celeba_commands import main
from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.geometry.five_points import align_five_points
from lit_face.io.images import read_rgba, write_image
from tests.helpers.celeba import picture_of, points_of, shared_miniature, write_folder
from tests.helpers.tolerances import assert_close


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name]


@pytest.mark.parametrize("known", [True, False])
def test_packed_samples_are_those_of_the_files(tmp_path, known):
    root = write_folder(tmp_path / "celeba", 20, landmarks=known, lists=known)
    assert main(["pack", str(root), str(tmp_path / "packed"), "--size", "48"]) == 0
    assert np.load(tmp_path / "packed/images.npy", mmap_mode="r").shape == (20, 48, 48, 4)
    for split in ("train", "val", "test", "all"):
        plain = CelebASkinDataset(root, split, picture_size=48)
        packed = CelebASkinDataset(tmp_path / "packed", split, picture_size=48)
        assert packed.sample_ids == plain.sample_ids
        for item in range(len(plain)):
            same(packed[item], plain[item])
    again = pickle.loads(pickle.dumps(packed))
    same(again[3], packed[3])


def test_the_miniature_packed_is_the_same(tmp_path, tmp_path_factory):
    root = shared_miniature(tmp_path_factory)
    assert main(["pack", str(root), str(tmp_path / "packed")]) == 0
    plain, packed = CelebASkinDataset(root, "val"), CelebASkinDataset(tmp_path / "packed", "val")
    same(packed[2], plain[2])
    assert packed.person.tolist() == plain.person.tolist()


def test_packing_leaves_broken_pictures_out_and_says_so(tmp_path, capsys):
    root = write_folder(tmp_path / "celeba")
    bad = root / "CelebA_Segment/000005.png"
    bad.write_bytes(bad.read_bytes()[:-300])
    assert main(["pack", str(root), str(tmp_path / "packed")]) == 2
    assert "1 of 12 records are unusable" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
    arguments = ["pack", str(root), str(tmp_path / "packed"), "--max-rejected", "0.1"]
    assert main(arguments) == 0
    assert "11 pictures" in capsys.readouterr().out
    assert "000005.png" not in CelebASkinDataset(tmp_path / "packed", "all").sample_ids
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def test_packed_folders_that_do_not_fit_are_refused(tmp_path):
    root = write_folder(tmp_path / "celeba")
    packed = tmp_path / "packed"
    main(["pack", str(root), str(packed), "--size", "8"])
    facts = json.loads((packed / "celeba_skin.json").read_text())
    (packed / "celeba_skin.json").write_text(json.dumps({**facts, "format": 9}))
    with pytest.raises(ValueError, match="format 9, this version reads 1"):
        CelebASkinDataset(packed)
    (packed / "celeba_skin.json").unlink()
    with pytest.raises(ValueError, match="write the folder again"):
        CelebASkinDataset(packed)
    (packed / "celeba_skin.json").write_text(json.dumps(facts))
    np.save(packed / "images.npy", np.zeros((3, 8, 8, 4), np.uint8))
    with pytest.raises(ValueError, match=r"pictures \(3, 8, 8, 4\) for 12 records"):
        CelebASkinDataset(packed)


def floats(numbers):
    """Records as the reference packs them."""
    pixels = np.stack([picture_of(number, 224) for number in numbers]).astype(np.float32)
    return np.concatenate([pixels[..., :3] / 127.5 - 1, pixels[..., 3:] / 255], -1).astype("<f4")


def test_the_references_floats_are_imported(tmp_path):
    floats(range(4)).tofile(tmp_path / "CelebA_RGBA.bin")
    (tmp_path / "names.txt").write_text("".join(f"data/CelebA/{n:06d}.jpg\n" for n in (9, 3, 7, 1)))
    people = "".join(f"{n:06d}.jpg {n + 20}\n" for n in range(12))
    (tmp_path / "identity_CelebA.txt").write_text(people)
    arguments = ["import", str(tmp_path / "CelebA_RGBA.bin"), str(tmp_path / "packed")]
    more = ["--names", str(tmp_path / "names.txt"), "--lists", str(tmp_path)]
    assert main(arguments + more) == 0
    dataset = CelebASkinDataset(tmp_path / "packed", "all")
    assert dataset.sample_ids == ["000009.jpg", "000003.jpg", "000007.jpg", "000001.jpg"]
    assert dataset.person.tolist() == [29, 23, 27, 21]
    for item in range(4):
        pixels = torch.from_numpy(picture_of(item, 224)).permute(2, 0, 1)
        sample = dataset[item]
        assert torch.equal(sample["image"], pixels[:3])
        assert torch.equal(sample["skin_mask"], pixels[3:] // 255)
        assert "landmarks" not in sample


def nan(records):
    records[2, 100, 100, 1] = np.nan


def bytes_instead(records):
    records[1, ..., :3] = 127.5 * (records[1, ..., :3] + 1)


def negative_alpha(records):
    records[0, 5, 5, 3] = -0.5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "record 2 holds NaN or infinity"),
        (bytes_instead, r"RGB should lie in \[-1, 1\], found \[0, 255\] in the records 1 to 1"),
        (negative_alpha, r"alpha should lie in \[0, 1\], found \[-0.5"),
    ],
)
def test_floats_out_of_range_are_refused(tmp_path, capsys, spoil, message):
    records = floats(range(3))
    spoil(records)
    records.tofile(tmp_path / "a.bin")
    assert main(["import", str(tmp_path / "a.bin"), str(tmp_path / "packed")]) == 2
    text = capsys.readouterr().err
    with pytest.raises(ValueError, match=message):
        raise ValueError(text)
    assert not (tmp_path / "packed").exists()


def test_files_of_another_length_are_refused(tmp_path, capsys):
    floats([0]).tofile(tmp_path / "a.bin")
    with (tmp_path / "a.bin").open("ab") as file:
        file.write(b"\0" * 17)
    assert main(["import", str(tmp_path / "a.bin"), str(tmp_path / "packed")]) == 2
    assert "are 1 pictures of 802816 bytes and 17 bytes more" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "b.bin"), str(tmp_path / "packed")]) == 2
    assert "No file" in capsys.readouterr().err
    floats([0]).tofile(tmp_path / "a.bin")
    (tmp_path / "names.txt").write_text("a.jpg\nb.jpg\n")
    arguments = ["import", str(tmp_path / "a.bin"), str(tmp_path / "packed")]
    assert main([*arguments, "--names", str(tmp_path / "names.txt")]) == 2
    assert "names 2 pictures" in capsys.readouterr().err


def photos(folder, count=3):
    """Photos of 178 x 218 with a face-like set of five points each, and masks."""
    points = np.array([[69.0, 111], [108, 112], [88, 131], [74, 153], [104, 153]])
    lines = [str(count), " ".join(f"p{n}" for n in range(10))]
    for number in range(1, count + 1):
        pixels = np.random.default_rng(number).integers(0, 256, (218, 178, 3)).astype(np.uint8)
        write_image(folder / f"img_align_celeba/{number:06d}.jpg", pixels)
        mask = np.zeros((218, 178), np.uint8)
        mask[90:160, 60:120] = 11
        write_image(folder / f"masks/{number:06d}.png", mask)
        shifted = points + number
        lines.append(f"{number:06d}.jpg " + " ".join(f"{v:g}" for v in shifted.ravel()))
    (folder / "list_landmarks_align_celeba.txt").write_text("\n".join(lines) + "\n")
    (folder / "identity_CelebA.txt").write_text(
        "".join(f"{n:06d}.jpg {n}\n" for n in range(1, count + 1))
    )
    return points


STANDARD = np.array(
    [[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0, -0.05, 0.55], [-0.25, -0.38, 0.22],
     [0.25, -0.38, 0.22]]
)  # fmt: skip


def crop_arguments(folder, *more):
    np.save(folder / "standard.npy", STANDARD)
    places = [folder / "img_align_celeba", folder / "list_landmarks_align_celeba.txt"]
    return [
        "crop", *map(str, places), str(folder / "out"), "--standard", str(folder / "standard.npy"),
        *more,
    ]  # fmt: skip


def test_photos_become_deep3ds_crops(tmp_path):
    points = photos(tmp_path)
    arguments = crop_arguments(tmp_path, "--masks", str(tmp_path / "masks"))
    assert main(arguments) == 0
    dataset = CelebASkinDataset(tmp_path / "out", "all")
    assert len(dataset) == 3
    assert dataset.person.tolist() == [1, 2, 3]
    from lit_face.io.photos import read_photo

    photo = read_photo(tmp_path / "img_align_celeba/000002.jpg")
    expected = align_five_points(photo, points + 2, STANDARD)
    pixels = read_rgba(tmp_path / "out/CelebA_Segment/000002.png")
    assert np.array_equal(pixels[..., :3], expected.image)
    corners = np.array([[60, 90, 1], [119, 159, 1.0]]) @ expected.matrix[:2].T
    rows, columns = np.nonzero(pixels[..., 3])
    found = np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]])
    assert_close(found, corners.clip(0, 223), atol=1.5, rtol=0)


def test_an_interrupted_run_goes_on(tmp_path):
    photos(tmp_path)
    arguments = crop_arguments(tmp_path, "--masks", str(tmp_path / "masks"))
    main(arguments)
    first, last = (tmp_path / f"out/CelebA_Segment/00000{n}.png" for n in (1, 3))
    before, content = first.stat().st_mtime_ns, last.read_bytes()
    last.unlink()
    assert main(arguments) == 0
    assert first.stat().st_mtime_ns == before
    assert last.read_bytes() == content


def test_photos_without_points_or_masks_are_listed(tmp_path, capsys):
    photos(tmp_path, 4)
    (tmp_path / "masks/000001.png").unlink()
    write_image(tmp_path / "masks/000004.png", np.zeros((218, 178), np.uint8))
    lines = (tmp_path / "list_landmarks_align_celeba.txt").read_text().splitlines()
    del lines[3]  # of 000002
    (tmp_path / "list_landmarks_align_celeba.txt").write_text("\n".join(lines))
    arguments = crop_arguments(tmp_path, "--masks", str(tmp_path / "masks"))
    assert main(arguments) == 2
    text = capsys.readouterr().err
    for part in (
        "3 of 4 photos cannot be used",
        "no mask 000001.png and no 000001.npy",
        "000002.jpg is not in list_landmarks_align_celeba.txt",
        "000004.jpg: alpha is 0 everywhere",
    ):
        assert part in text
    assert len((tmp_path / "out/rejected.csv").read_text().splitlines()) == 4
    assert main([*arguments, "--max-rejected", "0.9"]) == 0
    assert main(crop_arguments(tmp_path)) == 2
    assert "Where do the skin masks come from?" in capsys.readouterr().err


def test_landmarks_make_masks_and_come_along(tmp_path):
    """An orange face on blue: the mask from 68 points is on the face, the points move along."""
    landmarks = points_of(3).astype(float)
    angle = np.linspace(0, np.pi, 17)
    landmarks[:17] = np.stack([110 - 45 * np.cos(angle), 100 + 70 * np.sin(angle)], 1)
    landmarks[17:27] = np.stack([np.linspace(75, 145, 10), np.full(10, 88.0)], 1)
    landmarks[27:36] = [[110, 100 + 4 * k] for k in range(4)] + [
        [100 + 5 * k, 120] for k in range(5)
    ]
    landmarks[36:42] = [[82, 100], [86, 97], [91, 97], [95, 100], [91, 103], [86, 103]]
    landmarks[42:48] = landmarks[36:42] + np.array([42, 0])
    landmarks[48:60] = [[95 + 2.5 * k, 142] for k in range(12)]
    landmarks[60:68] = [[98 + 3 * k, 142.5] for k in range(8)]
    y, x = np.mgrid[:218, :220]
    pixels = np.where(
        (np.hypot((x - 110) / 48, (y - 115) / 75) < 1)[..., None], [220, 150, 110], 40
    )
    pixels = (pixels + np.random.default_rng(0).normal(0, 2, pixels.shape)).clip(0, 255)
    write_image(tmp_path / "photos/a.png", pixels.astype(np.uint8))
    (tmp_path / "points").mkdir()
    five = [landmarks[[36, 39]].mean(0), landmarks[[42, 45]].mean(0), *landmarks[[30, 48, 54]]]
    (tmp_path / "points/a.txt").write_text("".join(f"{u} {v}\n" for u, v in five))
    (tmp_path / "lm").mkdir()
    np.save(tmp_path / "lm/a.npy", landmarks)
    arguments = [*map(str, (tmp_path / "photos", tmp_path / "points", tmp_path / "out"))]
    assert main(["crop", *arguments, "--landmarks", str(tmp_path / "lm")]) == 0
    dataset = CelebASkinDataset(tmp_path / "out", "all")
    sample = dataset[0]
    x, y = sample["landmarks"][30, :2].round().long().tolist()
    assert sample["skin_mask"][0, y, x] == 1
    assert sample["skin_mask"].float().mean() > 0.05
    orange = sample["image"][0][sample["skin_mask"][0] == 1].float()
    assert (orange > 150).float().mean() > 0.95


def test_the_module_is_the_command_line():
    found = subprocess.run(
        [sys.executable, "-m", "lit_face.data.celeba_skin", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(name in found.stdout for name in ("pack", "import", "crop"))
