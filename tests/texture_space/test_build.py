import csv
import json

import numpy as np
import pytest
import torch

from lit_face.data.texture_maps import TextureMap, write_texture_map
from lit_face.io.images import read_image
from lit_face.methods.texture_completion import GMCNNGenerator
from lit_face.methods.texture_completion.completion import TextureCompleter
from lit_face.morphable_models.texture_space_files import read_texture_space
from lit_face.texture_space import build as building
from lit_face.texture_space.__main__ import main
from lit_face.texture_space.completed import checks
from lit_face.texture_space.quality import Limits, row_of

SIZE, PHOTOS = 32, 12
BASE = ["--size", str(SIZE), "--components", "6", "--held-out", "0.25", "--batch", "5"]


class Counting(TextureCompleter):
    calls = 0

    def complete(self, image, known, seam=8.0):
        Counting.calls += 1
        return super().complete(image, known, seam)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Fits of plain-coloured people seen from one side, and a network that has learnt nothing."""
    random = np.random.default_rng(0)
    completer = Counting(
        GMCNNGenerator(width=4, kernels=(3, 3, 3), dilations=(2,), init_std=None), SIZE
    )
    for number in range(PHOTOS):
        color = np.zeros((SIZE, SIZE, 3), np.uint8)
        color[:] = random.integers(60, 220, 3)
        color[: SIZE // 4] //= 2
        visible = np.zeros((SIZE, SIZE), bool)
        visible[:, : 12 + number] = True
        texture = TextureMap(color, visible, np.full((SIZE, SIZE), 255, np.uint8))
        write_texture_map(tmp_path / "fits" / f"{number:02d}" / "uv.npz", texture)
        image = torch.from_numpy(color).permute(2, 0, 1)[None].float() / 255
        completer.mean_map.update(image, torch.from_numpy(visible)[None, None].float())
    checkpoint = tmp_path / "net.ckpt"
    checkpoint.write_bytes(b"first")
    monkeypatch.setattr(building, "load_completer", lambda path: (path, completer))
    Counting.calls = 0
    return tmp_path


def build(work, *more):
    arguments = [str(work / "fits"), "--ckpt", str(work / "net.ckpt"), "--out", str(work / "out")]
    return main([*arguments, *BASE, *more])


def test_the_space_is_read_back(work):
    assert build(work) == 0
    file = work / "out" / "texture_space.npz"
    space = read_texture_space(file, SIZE)
    assert (space.size, space.components) == (SIZE, 6)
    whole = np.stack([read_image(work / "out" / "completed" / f"{n:02d}.png") for n in range(12)])
    mean = torch.from_numpy(whole.astype(np.float64).mean(0) / 255).permute(2, 0, 1).float()
    torch.testing.assert_close(space(torch.zeros(1, 6))[0], mean, atol=1e-5, rtol=0)
    with np.load(file, allow_pickle=False) as stored:
        assert json.loads(str(stored["meta"]))["method"] == "incremental"
        assert stored["n_maps"] == PHOTOS
        assert (np.diff(stored["explained_variance"]) <= 0).all()


def test_codes_of_the_photos_have_unit_deviation(work):
    build(work, "--no-pad")
    space = read_texture_space(work / "out" / "texture_space.npz", SIZE)
    whole = [read_image(work / "out" / "completed" / f"{n:02d}.png") for n in range(PHOTOS)]
    maps = torch.from_numpy(np.stack(whole)).permute(0, 3, 1, 2).double() / 255
    centred = (maps - space.mean).flatten(1)
    basis = space.basis.flatten(1).double()
    codes = centred @ basis.T / basis.square().sum(1)
    torch.testing.assert_close(codes.std(0), torch.ones_like(codes[0]), atol=1e-3, rtol=0)


def test_exact_and_incremental_agree(work):
    spaces = []
    for method in ("exact", "incremental"):
        assert build(work, "--method", method) == 0
        spaces.append(read_texture_space(work / "out" / "texture_space.npz", SIZE))
    torch.testing.assert_close(spaces[0].mean, spaces[1].mean)
    torch.testing.assert_close(spaces[0].basis, spaces[1].basis, atol=1e-4, rtol=0)


def test_columns_are_padded_with_zeros(work):
    build(work, "--components", "40")
    space = read_texture_space(work / "out" / "texture_space.npz", SIZE)
    assert space.components == 40
    used = space.basis.flatten(1).abs().amax(1) > 0
    assert used[0]
    assert not used[PHOTOS - 1 :].any()
    build(work, "--components", "40", "--no-pad")
    assert read_texture_space(work / "out" / "texture_space.npz", SIZE).components == used.sum()


def test_finished_maps_are_not_made_again(work):
    build(work)
    assert Counting.calls == PHOTOS
    (work / "out" / "completed" / "03.png").unlink()
    (work / "out" / "completed" / "05.json").write_text("{cut")
    build(work)
    assert Counting.calls == PHOTOS + 2
    (work / "net.ckpt").write_bytes(b"another network")
    build(work)
    assert Counting.calls == 2 * PHOTOS + 2


def test_the_report(work):
    build(work)
    report = work / "out" / "report"
    sheet = read_image(report / "samples.png")
    space = read_texture_space(work / "out" / "texture_space.npz", SIZE)
    assert sheet.shape[0] == 2 * SIZE
    mean = (space.mean.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    np.testing.assert_allclose(sheet[:SIZE, :SIZE], mean, atol=1)
    plus = (space.mean + 2 * space.basis[0]).clamp(0, 1) * 255
    np.testing.assert_allclose(
        sheet[SIZE:, SIZE : 2 * SIZE], plus.round().permute(1, 2, 0).numpy(), atol=1
    )
    with (report / "held_out.csv").open() as stream:
        errors = [float(row["rmse_255"]) for row in csv.DictReader(stream)]
    assert errors == sorted(errors, reverse=True)
    assert (report / "curves.png").is_file()


def test_bad_fits_are_listed(work):
    rows = [("00", 5.0, 0.02), ("01", 75.0, 0.02), ("02", 0.0, 0.5)]
    lines = ["folder,yaw_deg,photo_l1_after,landmarks_px_after,left,top,right,bottom"]
    lines += [f"{name},{yaw},{photo},1.0,0,0,100,100" for name, yaw, photo in rows]
    (work / "fits" / "summary.csv").write_text("\n".join(lines) + "\n")
    (work / "fits" / "04" / "uv.npz").write_bytes(b"cut")
    assert build(work, "--min-visible", "0.5") == 0
    with (work / "out" / "dropped.csv").open() as stream:
        dropped = {row["map"]: row["reason"] for row in csv.DictReader(stream)}
    assert "38 %" in dropped.pop("00")
    assert "41 %" in dropped.pop("01")  # the first reason counts
    assert "44 %" in dropped.pop("02")
    assert "cannot be read" in dropped.pop("04")
    assert list(dropped) == ["03"]


def test_limits():
    row = {"yaw_deg": "-70", "photo_l1_after": "0.05", "landmarks_px_after": "5",
           "left": "0", "right": "100", "top": "0", "bottom": "100"}  # fmt: skip
    assert "yaw -70" in Limits().problem(row, 0.5)
    assert "landmarks off by 5.0 %" in Limits(yaw=90).problem(row, 0.5)
    assert "photometric" in Limits(yaw=90, photo=0.01).problem(row, 0.5)
    assert Limits(yaw=90, landmarks=0.1).problem(row, 0.5) is None
    assert Limits().problem({}, 0.5) is None
    summary = {"a": row, "a/b": {}, "": row}
    assert row_of("a/uv", summary) is row
    assert row_of("a/b/", summary) == {}
    assert row_of("abc/", summary) == {}


def test_seams_are_seen():
    coverage = np.ones((32, 32), bool)
    known = np.zeros((32, 32), bool)
    known[:, :16] = True
    smooth = np.tile(np.arange(0, 160, 5, dtype=np.uint8)[:, None, None], (1, 32, 3))
    step = smooth.copy()
    step[:, 16:] += 60
    assert checks(smooth, known, coverage)["smooth"]
    assert not checks(step, known, coverage)["smooth"]
    assert checks(step, known, coverage)["known"] == 0.5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "2"], "--size should be"),
        (["--components", "0"], "--components should be"),
        (["--held-out", "1.5"], "--held-out should be"),
        (["--min-visible", "0.95"], "0 fits are good enough"),
    ],
)
def test_what_cannot_work_is_said(work, capsys, more, message):
    assert build(work, *more) == 2
    assert message in capsys.readouterr().err


def test_absent_input_is_said(tmp_path, capsys):
    arguments = [str(tmp_path / "no"), "--ckpt", "x", "--out", str(tmp_path / "out")]
    assert main([*arguments, *BASE]) == 2
    assert "No folder of texture maps" in capsys.readouterr().err
