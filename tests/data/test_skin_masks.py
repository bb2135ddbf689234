import os
import sys
import types

import cv2
import numpy as np
import pytest

from lit_face.data import ffhq_preparation
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_preparation import prepare, prepared_folders
from lit_face.data.skin_masks import LandmarkSkinMasks, SelfieSegmenter
from lit_face.io.images import read_image, write_image
from tests.helpers.ffhq import shared_miniature


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared_miniature(tmp_path_factory)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))


def face(folder, number):
    image = read_image(folder / f"images1024x1024/00000/{number:05d}.png")
    points = np.load(folder / f"landmarks/{number:05d}.npy")
    return image, points, np.load(folder / f"segmentation/{number:05d}.npy") > 0


def test_masks_from_landmarks_agree_with_the_true_ones(folder):
    precision, recall = [], []
    for number in range(16):
        image, points, true = face(folder, number)
        found = LandmarkSkinMasks()(image, points) > 0
        hull = np.zeros(true.shape, np.uint8)
        cv2.fillPoly(hull, [cv2.convexHull(points.round().astype(np.int32))], 1)
        precision.append((found & true).sum() / found.sum())
        recall.append((found & true & (hull > 0)).sum() / (true & (hull > 0)).sum())
    assert np.mean(precision) > 0.9
    assert np.mean(recall) > 0.9


def test_eyes_mouth_and_what_has_another_color_are_left_out(folder):
    image, points, _ = face(folder, 1)
    mask = LandmarkSkinMasks()(image, points)
    for part in (slice(36, 42), slice(42, 48)):
        x, y = points[part].mean(0).round().astype(int)
        assert mask[y, x] == 0
    painted = image.copy()
    x, y = points[[2, 31]].mean(0).round().astype(int)
    painted[y - 8 : y + 8, x - 8 : x + 8] = (20, 200, 40)
    again = LandmarkSkinMasks()(painted, points)
    assert mask[y, x] == 255
    assert again[y, x] == 0


@pytest.mark.parametrize("value", [0, 255])
def test_a_picture_of_one_color_gives_the_outline(folder, value):
    _, points, _ = face(folder, 1)
    mask = LandmarkSkinMasks()(np.full((256, 256, 3), value, np.uint8), points)
    assert 0.05 < (mask > 0).mean() < 0.6


def test_a_face_outside_of_the_picture_is_an_error(folder):
    image, points, _ = face(folder, 1)
    with pytest.raises(ValueError, match="cheeks lie outside of the picture"):
        LandmarkSkinMasks()(image, points + 1000)


def test_segmenter_picks_the_labels_of_skin(tmp_path, monkeypatch):
    labels = np.array([[0, 1, 2], [3, 3, 4]], np.uint8)
    seen = {}

    class Segmenter:
        @staticmethod
        def create_from_options(options):
            seen["options"] = options
            return Segmenter()

        def segment(self, image):
            seen["shape"] = image["data"].shape
            view = types.SimpleNamespace(numpy_view=lambda: labels)
            return types.SimpleNamespace(category_mask=view)

    vision = types.SimpleNamespace(ImageSegmenterOptions=lambda **k: k, ImageSegmenter=Segmenter)
    python = types.ModuleType("mediapipe.tasks.python")
    python.vision, python.BaseOptions = vision, lambda **k: k
    tasks = types.ModuleType("mediapipe.tasks")
    tasks.python = python
    package = types.ModuleType("mediapipe")
    package.Image, package.ImageFormat = lambda **k: k, types.SimpleNamespace(SRGB=1)
    for name, module in (
        ("mediapipe", package), ("mediapipe.tasks", tasks), ("mediapipe.tasks.python", python),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(FileNotFoundError, match="selfie_multiclass_256x256"):
        SelfieSegmenter(tmp_path / "none.tflite")
    model = tmp_path / "model.tflite"
    model.write_bytes(b"model")
    picture = np.zeros((2, 3, 3), np.uint8)
    face_only = SelfieSegmenter(model)(picture, np.zeros((68, 2)))
    assert (face_only == np.array([[0, 0, 0], [255, 255, 0]])).all()
    assert (SelfieSegmenter(model, body=True)(picture, np.zeros((68, 2)))[0] == [0, 0, 255]).all()
    assert seen["shape"] == (2, 3, 3)
    assert seen["options"]["base_options"] == {"model_asset_path": str(model)}


class Finder:
    """Knows the landmarks of the miniature's pictures by their content; none of black ones."""

    def __init__(self, folder, numbers):
        self.known = {face(folder, n)[0].tobytes(): face(folder, n)[1] for n in numbers}
        self.calls = 0

    def __call__(self, image, path):
        self.calls += 1
        points = self.known.get(image.tobytes())
        return [] if points is None else [types.SimpleNamespace(landmarks=points)]


@pytest.fixture
def photos(folder, tmp_path):
    root = tmp_path / "photos"
    for number in (1, 2, 4):
        write_image(root / f"{number}.png", face(folder, number)[0])
    write_image(root / "black.png", np.zeros((256, 256, 3), np.uint8))
    return root


def test_a_plain_folder_becomes_a_dataset_and_is_left_untouched(folder, photos, cache):
    before = sorted(photos.rglob("*"))
    finder, masker = Finder(folder, (1, 2, 4)), LandmarkSkinMasks()
    folders = prepared_folders(photos, finder, masker)
    prepare(photos, folders, finder, masker)
    assert sorted(photos.rglob("*")) == before
    options = {"landmarks": folders.landmarks, "masks": folders.masks}
    with pytest.raises(ValueError, match=r"1 of 4 records.*\n- black.png: .*no face was found"):
        FFHQDataset(photos, "all", **options)
    dataset = FFHQDataset(photos, "all", max_rejected=0.5, **options)
    assert dataset.sample_ids == ["1.png", "2.png", "4.png"]
    assert np.allclose(dataset[1]["landmarks"][:, :2], face(folder, 2)[1], atol=1e-3)
    assert dataset[1]["skin_mask"].float().mean() > 0.05


def test_preparation_goes_on_where_it_stopped_and_sees_changed_photos(folder, photos, cache):
    finder, masker = Finder(folder, (1, 2, 4)), LandmarkSkinMasks()
    folders = prepared_folders(photos, finder, masker)
    prepare(photos, folders, finder, masker)
    assert finder.calls == 4
    (folders.masks / "2.png").unlink()
    prepare(photos, folders, finder, masker)
    assert finder.calls == 4
    assert (folders.masks / "2.png").is_file()
    write_image(photos / "1.png", face(folder, 2)[0])
    later = (folders.masks / "1.png").stat().st_mtime_ns + 10**9
    os.utime(photos / "1.png", ns=(later, later))
    prepare(photos, folders, finder, masker)
    assert finder.calls == 5
    assert prepared_folders(photos, finder, LandmarkSkinMasks(tolerance=3)).masks != folders.masks


def test_a_finder_of_boxes_is_refused(photos, cache):
    finder = lambda image, path: [types.SimpleNamespace(landmarks=None)]  # noqa: E731
    folders = ffhq_preparation.Prepared(photos / "a", photos / "b")
    with pytest.raises(TypeError, match="finds boxes without landmarks"):
        prepare(photos, folders, finder, None)


def test_without_a_finder_plain_photos_are_refused(photos, cache):
    folders = prepared_folders(photos, None, LandmarkSkinMasks())
    prepare(photos, folders, None, LandmarkSkinMasks())
    assert not folders.masks.exists()
    assert not folders.landmarks.exists()
    with pytest.raises(DatasetNotFoundError, match="4 pictures but no landmarks"):
        FFHQDataset(photos, "all", masks=folders.masks)
