"""Edited photos by the command that users type; what an edit does is tested elsewhere."""

import csv

import cv2
import numpy as np
import pytest
import torch

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config
from lit_face.inference.portable import save_portable
from tests.methods.test_prn import small_module

BOX = (30.0, 30.0, 90.0, 90.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that draws one and the same face, filling the crop, whatever it sees."""
    module = small_module().eval()
    predictor = module.predictor()
    maps = predictor.reader
    face = maps.mean_face[:, 2].new_zeros(3, maps.uv_size**2)
    scaled = maps.mean_face / 300 + 0.45
    face[:, maps.texels] = (scaled * torch.tensor([1.0, -1, 1]) + torch.tensor([0, 0.9, 0])).T
    predictor.network.output = Constant(face.view(1, 3, maps.uv_size, maps.uv_size).logit(1e-3))
    return predictor


class Constant(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, features):
        return self.values.expand(len(features), -1, -1, -1)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("größe 1.png", "b.jpg", "empty.jpg"):
        picture = random.integers(90, 110, (120, 120, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), picture)
    (folder / "text.jpg").write_text("no picture")
    with (tmp_path / "boxes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["photo", "left", "top", "right", "bottom"])
        writer.writerows([["größe 1.png", *BOX], ["b.jpg", *BOX]])
    return tmp_path


def edit(photos, model, monkeypatch, **options):
    monkeypatch.setattr("lit_face.inference.loading.load_predictor", lambda *_: model)
    given = {"ckpt": "x", "input": photos / "photos", "out": photos / "out", "device": "cpu",
             "finder.path": photos / "boxes.csv", **options}  # fmt: skip
    overrides = [f"{key}='{value}'" for key, value in given.items()]
    config = compose_config("edit_texture", ["finder=file", *overrides])
    run_task("lit_face.cli.texture_editing", config, photos / "out")


def test_a_folder_of_photos(photos, model, monkeypatch, capsys):
    cv2.imwrite(str(photos / "red.png"), np.full((32, 32, 3), [0, 0, 255], np.uint8))
    with pytest.raises(SystemExit) as status:
        edit(photos, model, monkeypatch, texture=photos / "red.png", blend="none", region="mouth")
    assert status.value.code == 1
    output = capsys.readouterr()
    assert "2 of 4 photos edited; 2 with a problem" in output.out
    problems = [line for line in output.err.splitlines() if ".jpg" in line]
    assert sorted(line.split(":")[0] for line in problems) == ["empty.jpg", "text.jpg"]
    before = cv2.imread(str(photos / "photos" / "größe 1.png")).astype(int)
    after = cv2.imread(str(photos / "out" / "größe 1.png"))
    touched = np.abs(after - before).max(axis=2) > 0
    assert (after[touched] == [0, 0, 255]).all()
    assert 20 < touched.sum() < 2000
    assert (photos / "out" / "b.jpg").is_file()


def test_a_reference(photos, model, monkeypatch):
    photo = photos / "photos" / "größe 1.png"
    edit(photos, model, monkeypatch, input=photo, reference=photo)
    before, after = (cv2.imread(str(path)) for path in (photo, photos / "out" / photo.name))
    assert np.abs(before.astype(int) - after).max() <= 2  # from itself


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either reference=PHOTO"),
        ({"reference": "photos/empty.jpg"}, "no face found"),
        ({"texture": "photos/b.jpg", "region": "ears"}, "There is no region 'ears'"),
    ],
)
def test_what_is_missing_is_said_in_one_line(photos, model, monkeypatch, capsys, options, words):
    files = {key: photos / value if "/" in value else value for key, value in options.items()}
    with pytest.raises(SystemExit):
        edit(photos, model, monkeypatch, **files)
    assert words in capsys.readouterr().err


def test_a_portable_folder_brings_its_regions(tmp_path):
    from lit_face.inference.loading import load_predictor

    save_portable(small_module().eval().predictor(), tmp_path / "m")
    assert set(load_predictor(tmp_path / "m").regions) == {"eyes", "nose", "mouth", "face"}
