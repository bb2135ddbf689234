import json

import numpy as np
import pytest

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_cameras import read_cameras
from lit_face.data.facescape_layout import FaceScapeFolder, sample_id, split_id
from lit_face.io.images import write_image

_RT = [[1.0, 0, 0, 0.1], [0, 1, 0, 0.2], [0, 0, 1, 9.0]]
_K = [[300.0, 0, 47.5], [0, 300, 31.5], [0, 0, 1]]


@pytest.fixture
def folder(tmp_path):
    """One sample with views 3 and 7, photos of 96 x 64 pixels."""
    images = tmp_path / "images/007/15"
    images.mkdir(parents=True)
    params = {}
    for view in (3, 7):
        params |= {f"{view}_K": _K, f"{view}_Rt": _RT, f"{view}_height": 64, f"{view}_width": 96}
        write_image(images / f"{view}.jpg", np.full((64, 96, 3), 90, np.uint8))
    for name, content in {
        "images/007/15/params.json": params,
        "select_dict.json": {"7": {"15": [7, 3]}},
        "id.json": {"train": [], "eval": ["007_15"]},
        "Rt_scale_dict.json": {"7": {"15": [120.5, _RT]}},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    return FaceScapeFolder(tmp_path)


def _change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_everything_is_where_the_reference_has_it(folder):
    root = folder.root
    assert folder.ids() == folder.ids("eval") == ["007_15"]
    assert folder.ids("train") == []
    assert folder.split_of("007_15") == "eval"
    assert folder.views("007_15") == [7, 3]  # the order counts
    assert folder.scale("007_15") == 120.5
    assert folder.image_file("007_15", 3) == root / "images/007/15/3.jpg"
    assert folder.base_mesh_file("007_15") == root / "fit_mesh/fit_mesh_007_15.obj"
    assert folder.map_file("mv_map", "007_15") == root / "maps/eval/mv_map/mv_map_007_15.npy"
    assert folder.volume_file("007_15") == root / "volume/eval/ori_volume_007_15.npy"
    folder.check_photos("007_15")


def test_cameras_come_in_the_order_asked_for(folder):
    _change(folder.params_file("007_15"), lambda p: p.update({"7_Rt": [*_RT[:2], [0, 0, 1, 11.0]]}))
    cameras = folder.cameras("007_15", [7, 3])
    assert cameras.K.shape == (2, 3, 3)
    assert cameras.K.dtype == np.float64
    assert cameras.Rt[:, 2, 3].tolist() == [11.0, 9.0]
    assert cameras.heights.tolist() == [64, 64]
    assert cameras.widths.tolist() == [96, 96]


def test_a_matrix_of_four_rows_is_its_leading_part(folder):
    four = np.eye(4)
    four[:3, :3] = _K
    params = json.loads(folder.params_file("007_15").read_text()) | {"3_K": four.tolist()}
    assert read_cameras(params, [3], folder.root).K[0].tolist() == _K


def test_names_are_padded():
    assert sample_id(7, 1) == "007_01"
    assert split_id("331_20") == (331, 20)
    with pytest.raises(ValueError, match="'073_15'"):
        split_id("neutral")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"3_K": None}, r"params\.json: no key '3_K': view 3 has no camera"),
        ({"7_Rt": None}, r"no key '7_Rt'"),
        ({"3_width": None}, r"no key '3_width'"),
        ({"3_K": [[300.0, 0, 47.5], [0, 300, float("nan")], [0, 0, 1]]}, r"'3_K'.*not finite"),
        ({"3_Rt": [[1, 0], [0, 1]]}, r"'3_Rt' should be \(3, 4\)"),
        ({"3_Rt": [[1.1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, r"'3_Rt' is no rotation.*det"),
        ({"3_Rt": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, r"'3_Rt' is no rotation.*-1\.0"),
        ({"3_K": [[600, 0, 95.5], [0, 600, 63.5], [0, 0, 1]]}, r"'3_K'.*another image size"),
        ({"3_K": [[-300, 0, 47.5], [0, 300, 31.5], [0, 0, 1]]}, r"'3_K' is no pinhole"),
        ({"3_height": 64.5}, r"'3_height' should be a number of pixels"),
    ],
)  # fmt: skip
def test_a_broken_camera_is_named_by_file_and_key(folder, change, message):
    def edit(params):
        for key, value in change.items():
            params.pop(key) if value is None else params.update({key: value})

    _change(folder.params_file("007_15"), edit)
    with pytest.raises(ValueError, match=message):
        folder.cameras("007_15", [7, 3])


def test_a_view_without_a_photo_or_with_one_of_another_size_is_refused(folder):
    write_image(folder.image_file("007_15", 3), np.zeros((96, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"3\.jpg: 96 x 64 pixels.*'3_height'.*transposed"):
        folder.check_photos("007_15")
    folder.image_file("007_15", 7).unlink()
    with pytest.raises(DatasetNotFoundError, match=r"7\.jpg: view 7 has no photo"):
        folder.check_photos("007_15")


@pytest.mark.parametrize("scale", [0.5, 2e4, float("nan"), "big", None])
def test_a_scale_out_of_range_is_refused(folder, scale):
    _change(folder.root / "Rt_scale_dict.json", lambda c: c.update({"7": {"15": [scale, _RT]}}))
    with pytest.raises(ValueError, match=r"Rt_scale_dict\.json.*007_15"):
        folder.scale("007_15")


def test_the_lists_are_checked(folder):
    _change(folder.root / "select_dict.json", lambda c: c.update({"7": {"15": [3]}}))
    with pytest.raises(ValueError, match=r"select_dict\.json: 007_15 needs two views"):
        folder.views("007_15")
    with pytest.raises(ValueError, match=r'no entry \["8"\]\["1"\]'):
        folder.views("008_01")
    with pytest.raises(ValueError, match=r"id\.json has no sample '008_01'"):
        folder.split_of("008_01")
    (folder.root / "id.json").write_text("{")
    with pytest.raises(ValueError, match=r"id\.json: broken JSON"):
        folder.ids()
    (folder.root / "id.json").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"id\.json is missing.*docs/data"):
        folder.ids()


def test_people_of_the_training_split_are_held_out(tmp_path):
    names = [f"{person:03d}_{k:02d}" for person in range(1, 11) for k in (1, 2)]
    (tmp_path / "id.json").write_text(json.dumps({"train": names, "eval": ["331_01"]}))
    folder = FaceScapeFolder(tmp_path)
    for fraction, people in ((0.0, 1), (0.1, 1), (0.3, 3)):
        trained, held_out = (folder.training_ids(part, fraction) for part in ("train", "val"))
        assert trained + held_out == names
        assert len(held_out) == 2 * people
    with pytest.raises(ValueError, match=r"10 people, of whom data\.val_fraction=0\.96"):
        folder.training_ids("val", 0.96)
