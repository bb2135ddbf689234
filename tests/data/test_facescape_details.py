import json
import logging

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_detail_pairs import DetailOptions, scan_pair, smooth_surface
from lit_face.data.facescape_details import FaceScapeDetails
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.geometry.detailed_mesh import detailed_mesh
from lit_face.io.displacement_maps import encode_displacement
from lit_face.io.images import write_image
from tests.helpers.detail_folder import relief, undulation, write_detail_folder
from tests.helpers.view_sphere import RADIUS

OPTIONS = DetailOptions(map_size=128, sigma=2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_detail_folder(tmp_path_factory.mktemp("processed") / "facescape")


@pytest.fixture(scope="module")
def pair(folder):
    return scan_pair(FaceScapeFolder(folder), "002_01", OPTIONS)


def test_the_relief_is_that_of_the_scan(folder, pair):
    surface = smooth_surface(FaceScapeFolder(folder), "002_01", OPTIONS)
    inner = F.avg_pool2d(surface.mask[None].float(), 9, 1, 4)[0] == 1
    points = surface.position.movedim(0, -1)
    off = points.norm(dim=-1) - RADIUS
    assert 1.0 < off[inner].max() < 1.6  # the wide bump is part of the smooth surface
    assert pair.valid[inner.numpy()].mean() > 0.999
    known = inner.numpy() & pair.valid
    want = relief(points, 2.0).numpy()
    got = pair.displacement
    assert (
        np.corrcoef(got[known], want[known])[0, 1] > 0.94
    )  # base maps of 3 mm a texel leave some in the surface
    assert np.abs(got - want)[known].mean() < 0.35 * np.abs(want[known]).mean()


def test_the_texture_lies_on_the_relief(pair):
    inner = cv2.erode(pair.valid.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    grey = pair.texture.astype(np.float32).mean(-1)
    local = grey / cv2.GaussianBlur(grey, (0, 0), 6)
    best = {
        shift: np.corrcoef(local[inner], np.roll(pair.displacement, shift, (0, 1))[inner])[0, 1]
        for shift in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    }
    assert max(best, key=best.__getitem__) == (0, 0)
    assert best[0, 0] > 0.75


def test_pairs_are_made_once(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "lit_face")

    def read(split="val", options=OPTIONS):
        caplog.clear()
        data = FaceScapeDetails(folder, split, options=options, cache_folder=tmp_path)
        return data, [record.getMessage() for record in caplog.records]

    data, messages = read()
    assert messages == ["Making pair 1 of 1 to val on: 002_01 (once)"]
    sample = data[0]
    assert sample["image"].shape == (3, 128, 128)
    assert sample["scan"]["displacement"].abs().max() <= 0.914 + 1e-4
    assert not sample["scan"]["displacement"][sample["scan"]["valid"] == 0].any()
    assert read()[1] == []
    assert len(read(options=DetailOptions(128, 3.0))[1]) == 1
    scales = json.loads((folder / "Rt_scale_dict.json").read_text())
    changed = json.loads(json.dumps(scales))
    changed["2"]["1"][0] = 20.0001
    (folder / "Rt_scale_dict.json").write_text(json.dumps(changed))
    again = read()[1]
    (folder / "Rt_scale_dict.json").write_text(json.dumps(scales))
    assert len(again) == 1
    data.files[0].write_bytes(b"cut")
    with pytest.raises(ValueError, match="delete it, then it is made again"):
        data[0]


def test_missing_files_are_named(folder, tmp_path):
    scan = folder / "scans" / "scan_002_01.ply"
    scan.rename(scan.with_suffix(".away"))
    with pytest.raises(DatasetNotFoundError, match=r"scan_002_01\.ply.*data\.source=tu"):
        FaceScapeDetails(folder, "val", options=OPTIONS, cache_folder=tmp_path)
    scan.with_suffix(".away").rename(scan)
    maps = folder / "maps" / "train" / "mv_map"
    maps.rename(maps.with_name("away"))
    with pytest.raises(DatasetNotFoundError, match="mv_map_002_01"):
        FaceScapeDetails(folder, "val", options=OPTIONS, cache_folder=tmp_path)
    maps.with_name("away").rename(maps)
    with pytest.raises(ValueError, match="'scan' or 'tu'"):
        FaceScapeDetails(folder, "val", source="mesh", cache_folder=tmp_path)


def test_a_scan_elsewhere_is_refused(folder):
    elsewhere = DetailOptions(map_size=64, limit=1e-6)
    with pytest.raises(ValueError, match="nowhere within"):
        scan_pair(FaceScapeFolder(folder), "002_01", elsewhere)


def test_toolkit_models(tmp_path):
    for person in ("1", "2", "5"):
        canvas = np.zeros((1024, 1024), np.float32)
        canvas[150:625, 275:750] = 0.5
        (tmp_path / person / "dpmap").mkdir(parents=True)
        name = f"{person}/dpmap/1_neutral.png"
        cv2.imwrite(str(tmp_path / name), encode_displacement(canvas))
        color = np.zeros((1024, 1024, 3), np.uint8)
        color[150:625, 275:750] = (200, 100, 50)
        write_image(tmp_path / person / "models_reg" / "1_neutral.jpg", color, 98)
    options = DetailOptions(map_size=96)
    splits = [
        FaceScapeDetails(tmp_path, split, "tu", options, 0.3, tmp_path / "cache")
        for split in ("train", "val")
    ]
    names = [name for data in splits for name in data.sample_ids]
    assert sorted(names) == [f"{person}/1_neutral" for person in ("1", "2", "5")]
    assert all(len(data) for data in splits)
    sample = splits[0][0]
    assert sample["skin_mask"].all()
    torch.testing.assert_close(
        sample["scan"]["displacement"], torch.full((1, 96, 96), 0.5), atol=2e-5, rtol=0
    )
    assert sample["image"].flatten(1).median(dim=1).values.tolist() == [200, 100, 50]
    with pytest.raises(DatasetNotFoundError, match="TU models"):
        FaceScapeDetails(tmp_path / "cache", "val", "tu", options, cache_folder=tmp_path)


def test_relief_on_the_smooth_surface_is_the_scan(folder, pair):
    surface = smooth_surface(FaceScapeFolder(folder), "002_01", OPTIONS)
    valid = torch.from_numpy(pair.valid)
    mask = surface.mask & (F.avg_pool2d(valid[None].float(), 5, 1, 2)[0] == 1)

    def off(displacement):
        position = surface.position.movedim(0, -1)
        points = detailed_mesh(position, mask, displacement, levels=1).vertices
        direction = RADIUS * F.normalize(points, dim=-1)
        true = RADIUS + undulation(direction) + relief(direction, 2.0)
        return (points.norm(dim=-1) - true).abs().mean()

    assert off(torch.from_numpy(pair.displacement)) < 0.1 * off(None)
