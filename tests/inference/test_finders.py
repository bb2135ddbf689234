"""Face finders: what the cascades find, what tables say, stand-ins for the optional packages."""

import json
import sys
import types

import numpy as np
import pytest

from lit_face.inference.finders import cascade
from lit_face.inference.finders.base import BoxRule, Detection, overlap, without_doubles
from lit_face.inference.finders.cascade import CascadeFinder
from lit_face.inference.finders.face_alignment import FaceAlignmentFinder
from lit_face.inference.finders.file import FileFinder
from lit_face.inference.finders.mediapipe import MediaPipeFinder
from tests.helpers.photos import portraits

ANGLES = [[0, 0, 0], [4, 15, 3], [-4, -20, -5], [0, 30, 0], [0, 60, 0], [0, -60, 0]]


@pytest.fixture(scope="module")
def scene():
    pictures, landmarks, *_ = portraits(ANGLES, 240, seed=5)
    return pictures, landmarks[..., :2].numpy()


def error(box, points):
    """Distance of centres and ratio of sizes, in sizes of the true box."""
    low, high = points.min(0), points.max(0)
    side = (high - low).mean()
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    size = (box[2] - box[0] + box[3] - box[1]) / 2
    return np.abs(centre - (low + high) / 2).max() / side, size / side


def test_cascades_find_rendered_faces_and_their_landmarks_box(scene):
    finder, right = CascadeFinder(), 0
    for picture, points in zip(*scene, strict=True):
        found = finder(picture)
        if found:
            shift, size = error(found[0].box, points)
            right += shift < 0.25 and 0.7 < size < 1.4
            assert 0.5 <= found[0].confidence <= 1
    assert right >= 5


def test_large_photos_are_searched_small_and_answered_large(scene):
    picture, points = scene[0][0], scene[1][0]
    large = picture.repeat(8, 0).repeat(8, 1)  # 1920 pixels
    (face, *_) = CascadeFinder()(large)
    shift, size = error(face.box, points * 8 + 3.5)
    assert shift < 0.25
    assert 0.7 < size < 1.4


def test_nothing_is_found_in_nothing():
    finder = CascadeFinder()
    assert finder(np.zeros((1, 1, 3), np.uint8)) == []
    assert finder(np.full((300, 300, 3), 128, np.uint8)) == []


def test_speckles_beside_a_large_face_are_dropped_unless_they_are_sure(monkeypatch):
    def squares(name, grey, least, neighbours):
        scores = {20.0: 8.0, 120.0: 1.0, 220.0: 9.0}  # left edge: score
        sides = {20.0: 90.0, 120.0: 25.0, 220.0: 26.0}
        found = [(left, 50.0, sides[left], score) for left, score in scores.items()]
        return found if name.startswith("frontal") else []

    monkeypatch.setattr(cascade, "raw_squares", squares)
    found = CascadeFinder()(np.full((240, 300, 3), 128, np.uint8))
    assert [round(face.size) for face in found] == [76, 22]
    assert found[1].box[0] > 200


def test_boxes_of_one_face_become_one():
    sure, doubtful = Detection((0, 0, 10, 10), 0.9), Detection((1, 1, 12, 12), 0.5)
    inside, beside = Detection((2, 2, 5, 5), 0.6), Detection((30, 0, 50, 20), 0.4)
    assert without_doubles([doubtful, inside, sure, beside]) == [beside, sure]
    assert overlap(sure, inside) == pytest.approx(1.0)
    assert BoxRule(0.1, 0.2, 0.5, 1.0).box(100, 200, 40) == (114, 208, 134, 248)
    scaled = Detection((0, 0, 9, 9)).scaled(2)  # pixels 0 to 9 become 0 to 19; centres 0.5 to 18.5
    assert scaled.box == (0.5, 0.5, 18.5, 18.5)


def test_tables_of_boxes_and_landmarks(tmp_path):
    blank = np.zeros((4, 4, 3), np.uint8)
    points = np.column_stack([np.arange(68), 2 * np.arange(68)]).astype(float)
    (tmp_path / "boxes.csv").write_text(
        "photo,left,top,right,bottom,confidence\na.jpg,1,2,30,40,0.5\nsub/a.jpg,0,0,9,9,\n"
        "a.jpg,1,2,300,400,0.7\n"
    )
    finder = FileFinder(str(tmp_path / "boxes.csv"))
    assert [face.box for face in finder(blank, tmp_path / "a.jpg")] == [
        (1, 2, 300, 400),
        (1, 2, 30, 40),
    ]
    assert finder(blank, tmp_path / "sub" / "a.jpg")[0].box == (0, 0, 9, 9)
    assert finder(blank, tmp_path / "b.jpg") == []
    header = ",".join(f"x{n},y{n}" for n in range(68))
    row = ",".join(str(value) for value in points.flatten())
    (tmp_path / "points.csv").write_text(f"photo,{header}\na.jpg,{row}\n")
    content = {"a.jpg": [{"landmarks": points.tolist()}], "b.jpg": [{"box": [1, 2, 3, 4]}]}
    (tmp_path / "faces.json").write_text(json.dumps(content))
    for name in ("points.csv", "faces.json"):
        (face,) = FileFinder(str(tmp_path / name))(blank, tmp_path / "a.jpg")
        assert face.box == (0, 0, 67, 134)
        assert np.array_equal(face.landmarks, points)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "photo,left,top\na,1,2\n", "the columns should be photo, left"),
        ("a.csv", "photo,left,top,right,bottom\na,1,2,x,4\n", "line 2: a number is missing"),
        ("a.csv", "photo,left,top,right,bottom\na,9,2,3,4\n", "line 2: a box should have right"),
        ("a.json", "{", "no JSON"),
        ("a.json", '{"a": [{"landmarks": [[1, 2]]}]}', "a, face 1: landmarks should be 68"),
        ("a.json", '{"a": [{"bax": 1}]}', "should have 'box' or 'landmarks'"),
        ("a.txt", "", "should be a .csv or .json"),
    ],
)
def test_what_a_table_is_refused_for(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        FileFinder(str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match=r"finder\.path"):
        FileFinder(str(tmp_path / "none.csv"))


def test_a_missing_package_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ImportError, match=r"pip install 'lit_face\[face-alignment\]'"):
        FaceAlignmentFinder()
    with pytest.raises(ImportError, match=r"pip install 'lit_face\[mediapipe\]'"):
        MediaPipeFinder()
    monkeypatch.setitem(sys.modules, "mediapipe", types.SimpleNamespace(__version__="0.10.35"))
    with pytest.raises(ImportError, match="comes without its face models"):
        MediaPipeFinder()


def test_face_alignment_up_to_its_weights(monkeypatch):
    """The package's interface (1.3 to 1.5), without its networks."""
    points = np.column_stack([np.linspace(100, 200, 68), np.linspace(120, 260, 68)])
    calls = {}

    class FaceAlignment:
        def __init__(self, landmarks_type, device, face_detector):
            calls["init"] = (landmarks_type, device, face_detector)

        def get_landmarks_from_image(self, image, return_bboxes):
            calls["size"] = image.shape
            if not image.any():
                return None
            weak = [0, 0, 1, 1, 0.2]
            return [points, points / 4], None, [np.array([90, 90, 210, 270, 0.97]), weak]

    package = types.SimpleNamespace(
        FaceAlignment=FaceAlignment, LandmarksType=types.SimpleNamespace(TWO_D="2D")
    )
    monkeypatch.setitem(sys.modules, "face_alignment", package)
    finder = FaceAlignmentFinder(max_side=512)
    assert calls["init"] == ("2D", "cpu", "sfd")
    (face,) = finder(np.ones((512, 1024, 3), np.uint8))
    assert calls["size"] == (256, 512, 3)
    assert face.confidence == pytest.approx(0.97)
    assert np.allclose(face.landmarks, 2 * points + 0.5)
    assert np.allclose(face.box, (200.5, 240.5, 400.5, 520.5))
    assert finder(np.zeros((64, 64, 3), np.uint8)) == []


def test_mediapipe_up_to_its_model(monkeypatch):
    """The package's interface (0.10), without its graph."""

    class FaceDetection:
        def __init__(self, model_selection, min_detection_confidence):
            assert (model_selection, min_detection_confidence) == (0, 0.5)

        def process(self, image):
            box = types.SimpleNamespace(xmin=0.25, ymin=0.5, width=0.25, height=0.5)
            data = types.SimpleNamespace(relative_bounding_box=box)
            face = types.SimpleNamespace(location_data=data, score=[0.8])
            return types.SimpleNamespace(detections=[face] if image.any() else None)

    solutions = types.SimpleNamespace(
        face_detection=types.SimpleNamespace(FaceDetection=FaceDetection)
    )
    monkeypatch.setitem(sys.modules, "mediapipe", types.SimpleNamespace(solutions=solutions))
    finder = MediaPipeFinder()
    (face,) = finder(np.ones((100, 200, 3), np.uint8))
    assert face.confidence == pytest.approx(0.8)
    left, top, right, bottom = face.box
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((74.5, 75.75))
    assert (right - left, bottom - top) == pytest.approx((45, 49.75))
    assert finder(np.zeros((100, 200, 3), np.uint8)) == []
