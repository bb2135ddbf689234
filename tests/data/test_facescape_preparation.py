import json
import shutil

import cv2
import numpy as np
import pytest

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape import describe, main
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.facescape_preparation import PreparationOptions, preprocess, undistorted
from lit_face.data.facescape_raw import check_sample, find_samples, spread_views
from lit_face.data.facescape_views import lying, scaled
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh, write_mesh
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.facescape import LONG_SIDE, edit_json, prepared, raw_copy, tiny_raw


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    prepared(tiny_raw(), out)
    return FaceScapeFolder(out)


def _blob(height, width, x, y):
    rows, columns = np.mgrid[:height, :width]
    return (255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 40.0))[..., None].repeat(3, 2)


def _centre(image):
    weights = image[..., 0].astype(np.float64)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.6])
def test_a_point_stays_on_its_pixel_when_a_photo_is_resized(scale):
    K = np.array([[300.0, 0, 60.25], [0, 310, 41.5], [0, 0, 1]])
    image = _blob(90, 120, K[0, 2], K[1, 2])  # what lies on the axis
    small, new = scaled(image, K, scale)
    np.testing.assert_allclose(_centre(small), new[:2, 2], atol=0.02)
    # the reference's intrinsics are off by half of what the pixel's side changes
    _, reference = scaled(image, K, scale, pixel_center=False)
    np.testing.assert_allclose(reference[:2, 2] - new[:2, 2], (1 - scale) / 2, atol=1e-9)


def test_a_point_stays_on_its_pixel_when_a_photo_is_turned():
    K = np.array([[300.0, 0, 35.0], [0, 310, 50.0], [0, 0, 1]])
    point = np.array([0.02, -0.03, 1.0])
    pixel = K @ point
    turned, new = lying(_blob(100, 70, pixel[0], pixel[1]), K)
    assert turned.shape[:2] == (70, 100)
    np.testing.assert_allclose(_centre(turned), (new @ point)[:2], atol=0.02)


def test_undistortion_agrees_with_the_lens_that_took_the_photo():
    K = np.array([[180.0, 0, 63.0], [0, 181, 47.0], [0, 0, 1]])
    lens = np.array([0.2, 0.05, 1e-3, -1e-3, 0.0])
    seen = np.array([[[0.18, 0.12, 1.0]]])
    at = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), K, lens)[0].reshape(2)
    photo = undistorted(_blob(96, 128, *at), K, lens)
    np.testing.assert_allclose(_centre(photo), (K @ seen[0, 0])[:2], atol=0.15)


def test_the_processed_folder_is_the_references(folder):
    assert folder.ids("train") == ["001_01", "002_01"]
    assert folder.ids("eval") == ["331_01"]
    selected = json.loads((tiny_raw() / "select_dict.json").read_text())
    for sample in folder.ids():
        person = str(int(sample[:3]))
        views = folder.views(sample)
        assert views == selected[person]["1"]
        folder.check_photos(sample)
        keys = set(json.loads(folder.params_file(sample).read_text()))
        assert keys == {f"{v}_{k}" for v in views for k in ("K", "Rt", "height", "width")}
        assert max(read_image(folder.image_file(sample, views[0])).shape) == LONG_SIDE
        assert len(read_mesh(folder.scan_file(sample)).vertices) > 10_000
    for file in ("1_neutral.obj", "facial_mask.png"):
        assert (folder.predefined / file).is_file()


@pytest.mark.parametrize("long_side", [48, 96])
def test_landmarks_move_with_the_photos(tmp_path, long_side):
    prepared_at = PreparationOptions(long_side=long_side)
    preprocess(tiny_raw(), tmp_path, prepared_at)
    folder = FaceScapeFolder(tmp_path)
    sample = "331_01"
    scale, rotation = json.loads((tiny_raw() / "Rt_scale_dict.json").read_text())["331"]["1"]
    with np.load(tiny_raw() / "truth" / f"{sample}.npz") as truth:
        mm = truth["vertices_mm"]
    canonical = np.array(rotation)
    units = (mm - canonical[:, 3]) @ canonical[:, :3] / scale
    marks = units[procedural_head().landmark_index.numpy()]
    views = folder.views(sample)
    cameras = folder.cameras(sample, views)
    found = json.loads(folder.landmarks_file(sample).read_text())
    for row, view in enumerate(views):
        seen = (marks @ cameras.Rt[row, :, :3].T + cameras.Rt[row, :, 3]) @ cameras.K[row].T
        error = seen[:, :2] / seen[:, 2:] - np.array(found[str(view)]["points"])
        # noise of 1/324 of the height (0.3 pixels of 96), and up to 2 mm of relief
        assert np.abs(error).max() < 1.6 * long_side / 96
        assert np.abs(error.mean(0)).max() < 0.25 * long_side / 96


def test_what_is_there_stays_and_what_changed_is_made_again(tmp_path):
    raw, out = raw_copy(tmp_path / "raw"), tmp_path / "out"
    first = prepared(raw, out)
    assert first.written == ["001_01", "002_01", "331_01"]
    again = prepared(raw, out)
    assert again.written == []
    assert again.unchanged == first.written
    edit_json(raw / "imgs/2/1_neutral/params.json", note="changed")
    assert prepared(raw, out).written == ["002_01"]
    other = preprocess(raw, out, PreparationOptions(long_side=48))
    assert len(other.written) == 3
    shutil.rmtree(out / "images/001")  # as an interrupted run leaves it
    assert preprocess(raw, out, PreparationOptions(long_side=48)).written == ["001_01"]


def test_all_problems_are_found_before_anything_is_written(tmp_path, capsys):
    raw, out = raw_copy(tmp_path / "raw"), tmp_path / "out"
    views = json.loads((raw / "select_dict.json").read_text())
    photo = raw / f"imgs/1/1_neutral/{views['1']['1'][1]}.jpg"
    photo.write_bytes(photo.read_bytes()[:-700])
    first = views["2"]["1"][0]
    edit_json(raw / "imgs/2/1_neutral/params.json", **{f"view_{first}_K": None})
    scan = raw / "mesh/331/1_neutral.ply"
    mesh = read_mesh(scan)
    mesh.vertices[5, 1] = np.nan
    write_mesh(scan, mesh)
    with pytest.raises(ValueError, match="3 problems with the inputs, nothing was written") as info:
        prepared(raw, out)
    message = str(info.value)
    assert f"{photo}: truncated JPEG" in message
    assert f"imgs/2/1_neutral/params.json: no key '{first}_K'" in message
    assert f"{scan}: vertex 5 is not finite" in message
    assert not out.exists()
    arguments = ["preprocess", str(raw), str(out), "--long-side", "96", "--workers", "1"]
    assert main(arguments) == 2
    assert "lit_face cannot preprocess: 3 problems" in capsys.readouterr().err
    summary = prepared(raw, out, skip_broken=True)
    assert summary.written == []
    assert len(summary.skipped) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 100}, r"pixels \(height x width\), but '\d_height' and '\d_width'"),
        ({"distortion": [0.1, float("inf"), 0, 0, 0]}, r"'\d_distortion' has values that are not"),
        ({"Rt": np.eye(4)[::-1].tolist()}, r"'\d_Rt' is no rotation"),
    ],
)
def test_a_wrong_camera_is_a_problem(tmp_path, change, message):
    raw = raw_copy(tmp_path / "raw")
    sample = find_samples(raw)[0]
    view = sample.chosen[2]
    edit_json(sample.params_file, **{f"view_{view}_{key}": v for key, v in change.items()})
    (problem,) = check_sample(find_samples(raw)[0], 10).problems
    assert str(sample.params_file.parent) in problem
    with pytest.raises(ValueError, match=message):
        raise ValueError(problem)


def test_invalid_views_and_views_off_the_face_are_dropped(tmp_path):
    raw = raw_copy(tmp_path / "raw")
    sample = find_samples(raw)[0]
    off, bad = sample.chosen[1], sample.chosen[2]
    params = json.loads(sample.params_file.read_text())
    turned = np.array(params[f"{off}_Rt"])
    turned[:, 3] += [2.0, 0, 0]  # units; the face leaves the frame
    edit_json(sample.params_file, **{f"view_{off}_Rt": turned.tolist(), f"view_{bad}_valid": False})
    found = check_sample(find_samples(raw)[0], 10)
    assert found.views == (sample.chosen[0], sample.chosen[3])
    assert not found.problems
    assert f"'{bad}_valid' is false" in found.dropped[0]
    assert f"view {off} shows less than half of the scan" in found.dropped[1]
    summary = prepared(raw, tmp_path / "out")
    assert "2 views dropped" in describe(summary, tmp_path)
    assert FaceScapeFolder(tmp_path / "out").views("001_01") == list(found.views)


def test_without_a_list_views_are_spread_from_the_middle_outwards():
    poses = {}
    for view, yaw in enumerate([-120, -60, -40, -20, 0, 20, 40, 60, 120]):
        angle = np.radians(yaw)
        away = np.array([np.sin(angle), 0, np.cos(angle)])
        forward = -away
        right = np.cross([0, 1.0, 0], forward)
        rotation = np.stack([right, np.cross(forward, right), forward])
        poses[view] = np.column_stack([rotation, -rotation @ (7 * away + [1, 2, 3])])
    assert spread_views(poses, 3) == [4, 1, 7]
    assert sorted(spread_views(poses, 7)) == [1, 2, 3, 4, 5, 6, 7]
    assert spread_views(poses, 20)[0] == 4


def test_a_capture_of_ones_own_needs_photos_and_cameras_alone(tmp_path):
    source = tiny_raw() / "imgs/331/1_neutral"
    own = tmp_path / "own"
    shutil.copytree(source, own)
    summary = prepared(own, tmp_path / "out")
    assert summary.written == ["001_01"]
    assert len(summary.dropped) == 1
    folder = FaceScapeFolder(tmp_path / "out")
    assert folder.ids("eval") == ["001_01"]
    assert len(folder.views("001_01")) == 4
    assert not (folder.root / "Rt_scale_dict.json").exists()  # the base fit finds it
    scales = folder.root / "Rt_scale_dict.json"
    scales.write_text(json.dumps({"1": {"1": [99.0, None]}, "5": {"2": [70.0, None]}}))
    edit_json(own / "params.json", note="another calibration")
    prepared(own, tmp_path / "out")
    assert json.loads(scales.read_text()) == {"1": {}, "5": {"2": [70.0, None]}}
    (own / "99.jpg").write_bytes((own / "0.jpg").read_bytes())
    with pytest.raises(ValueError, match=r"no key '99_K', but there is a photo 99\.jpg"):
        prepared(own, tmp_path / "out")


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"neither a folder 'imgs'.*nor a file"):
        prepared(tmp_path, tmp_path / "out")
