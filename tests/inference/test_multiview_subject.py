"""What is wrong with a subject or an option is said before any stage starts."""

import json
import math
import shutil

import pytest

from lit_face.data.facescape_preparation import PreparationOptions
from lit_face.inference.finders.cascade import CascadeFinder
from lit_face.inference.finders.file import FileFinder
from lit_face.inference.multiview.chain import ChainOptions
from lit_face.inference.multiview.landmarks import landmark_finder
from lit_face.inference.multiview.subject import check_subject, find_subject
from tests.helpers.facescape import edit_json, raw_copy, tiny_raw
from tests.helpers.multiview_runs import SUBJECT, own_capture

OPTIONS = PreparationOptions(long_side=96, views=10)
PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
element face 1
property list uchar int vertex_indices
end_header
0 0 0
1 nan 0
0 1 0
3 0 1 2
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return own_capture(tmp_path_factory.mktemp("good") / "capture")


@pytest.fixture
def folder(capture, tmp_path):
    """A good capture, to be broken."""
    return shutil.copytree(capture, tmp_path / "capture")


def refused(folder, views=None, **known):
    options = PreparationOptions(96, views or 10)
    try:
        check_subject(find_subject(folder, **known), options, views, folder.parent / "out")
    except (ValueError, OSError) as error:
        return str(error)
    return pytest.fail("was not refused")


def test_a_good_capture_passes(capture, tmp_path):
    check_subject(find_subject(capture), OPTIONS, None, tmp_path)
    check_subject(find_subject(capture), OPTIONS, 3, tmp_path)


def test_cameras(folder):
    params = json.loads((folder / "params.json").read_text())
    broken = [
        ({"3_K": None}, "no key '3_K'"),
        ({"3_Rt": None}, "no key '3_Rt'"),
        (
            {"3_K": [[4 * x for x in row] for row in params["3_K"][:2]] + [[0, 0, 1]]},
            "'3_K' has its",
        ),
        ({"3_Rt": [[2 * x for x in row] for row in params["3_Rt"]]}, "'3_Rt' is no rotation"),
        ({"3_distortion": [0, math.nan, 0, 0, 0]}, "'3_distortion' has values"),
        ({"3_height": 95}, "'3_height'"),
    ]
    for changes, message in broken:
        (folder / "params.json").write_text(json.dumps(params))
        edit_json(folder / "params.json", **changes)
        text = refused(folder)
        assert message in text
        assert str(folder) in text
        assert len(text.splitlines()) == 1
    (folder / "params.json").write_text("{")
    assert "params.json: broken JSON" in refused(folder)
    (folder / "params.json").unlink()
    assert "should be a folder with the photos of one subject" in refused(folder)


def test_photos(folder):
    photo = folder / "3.jpg"
    content = photo.read_bytes()
    for broken in (content[: len(content) // 2], b"no picture", b""):
        photo.write_bytes(broken)
        text = refused(folder)
        assert str(photo) in text
        assert len(text.splitlines()) == 1
    photo.unlink()
    (folder / "4.jpg").unlink()
    assert "views=4, but" in refused(folder, views=4)


def test_all_problems_come_at_once(folder):
    for view in (1, 3):
        (folder / f"{view}.jpg").write_bytes(b"no picture")
    assert len(refused(folder).splitlines()) == 2


def test_scans(folder, tmp_path):
    scan = tmp_path / "scan.ply"
    scan.write_text(PLY)
    assert "scan.ply: 1 of 3 vertices are not finite" in refused(folder, scan=scan)
    shutil.copy(scan, folder / "1.ply")
    assert "1.ply: 1 of 3 vertices are not finite" in refused(folder)
    assert "nothing.ply" in refused(folder, scan="nothing.ply")


@pytest.mark.parametrize("scale", [-80.0, 0, math.nan, math.inf, "big"])
def test_scales(capture, scale):
    with pytest.raises(ValueError, match="scale should be 1 to 10000, mm of one unit"):
        find_subject(capture, scale=scale)


def test_landmarks(folder):
    path = folder / "landmarks.json"
    points = json.loads(path.read_text())
    for view, entry, message in (
        ("0", {"points": [[0, math.nan]] * 68, "score": 1}, "the points of '0'"),
        ("0", {"points": [[0, 1]] * 67, "score": 1}, "the points of '0'"),
        ("0", [1], "'0' should be"),
    ):
        path.write_text(json.dumps({**points, view: entry}))
        assert message in refused(folder)
    path.write_text(json.dumps(dict.fromkeys(points)))
    assert "two views with a face, found 0" in refused(folder)
    path.write_text(json.dumps({"0": points["0"]}))
    assert "no entry '" in refused(folder)


def test_views(capture, tmp_path):
    text = refused(capture, views=5)
    assert text.startswith("views=5, but")
    assert "_valid' is false" in text
    assert "is the folder of the photos" in _refused_out(capture)


def _refused_out(capture):
    with pytest.raises(ValueError, match="out=") as caught:
        check_subject(find_subject(capture), OPTIONS, None, capture)
    return str(caught.value)


def test_entries_of_facescape_count_where_there_are_any(tmp_path):
    root = raw_copy(tmp_path / "raw")
    known = find_subject(tiny_raw() / "imgs" / SUBJECT)
    assert known.views is not None
    assert known.scale > 1
    for name in ("select_dict.json", "Rt_scale_dict.json"):
        edit_json(root / name, **{"331": None})
    subject = find_subject(root / "imgs" / SUBJECT)
    assert (subject.views, subject.scale) == (None, None)
    assert subject.scan.name == "1_neutral.ply"
    edit_json(root / "select_dict.json", **{"331": {"1": [3]}})
    with pytest.raises(ValueError, match="331_01 needs two views"):
        find_subject(root / "imgs" / SUBJECT)
    edit_json(root / "select_dict.json", **{"331": {"1": [3, 77]}})
    assert "77.jpg: the view has no photo" in refused(root / "imgs" / SUBJECT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("views", 1),
        ("views", 2.5),
        ("long_side", 8),
        ("memory", 0),
        ("memory", -5.0),
        ("memory", math.nan),
        ("texture_size", 4),
        ("texture_size", "large"),
        ("subdivisions", -1),
        ("subdivisions", 9),
        ("disagreement", 0.5),
    ],
)
def test_options(name, value):
    with pytest.raises(ValueError, match=f"^{name} should be a .*number, .*; found {value}"):
        ChainOptions(**{name: value})


def test_finders_that_give_no_landmarks_of_prepared_photos(tmp_path):
    with pytest.raises(ValueError, match=r"finds boxes, but .*landmarks\.json"):
        landmark_finder(CascadeFinder())
    table = tmp_path / "points.csv"
    table.write_text("photo,left,top,right,bottom\n1.jpg,1,1,9,9\n")
    with pytest.raises(ValueError, match="reads points of other photos"):
        landmark_finder(FileFinder(str(table)))
