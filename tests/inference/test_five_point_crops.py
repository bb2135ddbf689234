"""Predictors with alignment='five_points' get Deep3D's crop, whatever the points come from."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lit_face.geometry.five_points import align_five_points, five_points, standard_points
from lit_face.geometry.similarity2d import apply_similarity
from lit_face.inference.crops import crop_matrices, five_point_matrices, to_photo
from lit_face.inference.finders.base import Detection, box_of_five_points, box_of_landmarks
from lit_face.inference.finders.file import FileFinder
from lit_face.inference.finders.folder import FolderFinder
from lit_face.inference.model import FaceModel
from lit_face.inference.tracking import FaceTracker
from lit_face.io.images import write_image
from lit_face.types import Reconstruction
from tests.helpers.tolerances import assert_close

SIZE = 224
POINTS = np.array([[120.0, 150], [190, 152], [150, 190], [125, 230], [183, 231]])
BOX = [70.0, 110, 240, 270]
ANY = torch.tensor([[-30.0, 30, 10], [30, 30, 10], [0, -5, 50], [-25, -40, 20], [25, -40, 20]])


def all_points() -> np.ndarray:
    """68 points with the five among them and the box around them."""
    left, top, right, bottom = BOX
    points = np.random.default_rng(0).uniform([left, top], [right, bottom], (68, 2))
    points[0], points[1] = (left, top), (right, bottom)
    for index, place in {36: 0, 39: 0, 42: 1, 45: 1, 30: 2, 48: 3, 54: 4}.items():
        points[index] = POINTS[place]
    return points


class Stub(nn.Module):
    """Answers with the 68 points of the photo, in pixels of the crop that it reads from it.

    Photos hold x and y in their first two channels.
    """

    image_size, margin, alignment = SIZE, 1.5, "five_points"

    def __init__(self):
        super().__init__()
        self.register_buffer("standard_points", standard_points(ANY))
        self.matrices = []

    def forward(self, images):
        low, high = images[:, :2, 80, 80] * 255, images[:, :2, 140, 140] * 255
        scale = 60 / (high - low).mean(1)
        matrix = torch.eye(3).repeat(len(images), 1, 1)
        matrix[:, 0, 0] = matrix[:, 1, 1] = scale
        matrix[:, :2, 2] = 80 - scale[:, None] * low
        self.matrices.append(matrix)
        points = torch.from_numpy(all_points()).float().expand(len(images), 68, 2)
        points = torch.cat([points, torch.zeros_like(points[..., :1])], dim=2)
        return to_photo(
            Reconstruction(points, points, torch.tensor([[0, 1, 2]]), torch.zeros(68, 2), points),
            torch.linalg.inv(matrix),
        )


def ramp() -> np.ndarray:
    photo = np.zeros((256, 256, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(256), np.arange(256)[:, None]
    return photo


def check_crop(matrix: torch.Tensor) -> None:
    """The five points lie where Deep3D's own alignment has them (it rounds, and is half off)."""
    standard = standard_points(ANY).numpy()
    crop = align_five_points(np.zeros((256, 256, 3), np.uint8), POINTS, standard)
    found = apply_similarity(matrix[None], torch.from_numpy(POINTS).float()[None])[0]
    assert np.abs(found.numpy() - crop.points).max() < 1.5  # 8 bits of the marker
    exact = five_point_matrices(torch.from_numpy(POINTS).float()[None], standard_points(ANY), SIZE)
    assert_close(matrix, exact[0], atol=1.0, rtol=0)


def found_by(kind: str) -> Detection:
    box = tuple(BOX)
    return {
        "68": Detection(box, landmarks=all_points()),
        "five": Detection(box, five_points=POINTS),
        "box": Detection(box),
    }[kind]


@pytest.mark.parametrize(("kind", "runs"), [("68", 1), ("five", 1), ("box", 2)])
def test_the_crop_is_deep3ds(kind, runs):
    stub = Stub()
    (faces,) = FaceModel(stub, device="cpu").reconstruct_found([ramp()], [[found_by(kind)]])
    assert len(stub.matrices) == runs
    check_crop(stub.matrices[-1][0])
    assert np.abs(faces[0].landmarks[:, :2] - all_points()).max() < 1
    if kind == "box":
        first = crop_matrices(torch.tensor([BOX]), 1.5, SIZE)
        assert_close(stub.matrices[0], first, atol=1.0, rtol=0)


def test_batches_may_mix_what_is_known():
    stub = Stub()
    kinds = ["box", "five", "68"]
    FaceModel(stub, device="cpu").reconstruct_found([ramp()] * 3, [[found_by(k)] for k in kinds])
    assert len(stub.matrices) == 2
    for matrix in [*stub.matrices[0][1:], *stub.matrices[1]]:
        check_crop(matrix)


def test_one_pass_trusts_the_box():
    stub = Stub()
    FaceModel(stub, device="cpu", passes=1).reconstruct([ramp()], boxes=[[BOX]])
    (matrix,) = stub.matrices
    assert_close(matrix, crop_matrices(torch.tensor([BOX]), 1.5, SIZE), atol=1.0, rtol=0)


def test_others_are_cropped_by_the_box_as_before():
    stub = Stub()
    stub.alignment = "box"
    model = FaceModel(stub, device="cpu", passes=1)
    model.reconstruct_found([ramp()], [[found_by("68")]])
    matrix = stub.matrices[0]
    assert_close(matrix, crop_matrices(torch.tensor([BOX]), 1.5, SIZE), atol=1.0, rtol=0)


def test_a_face_that_is_followed_is_cropped_by_its_points():
    stub = Stub()

    def finder(image, path=None):
        return [found_by("box")]

    tracker = FaceTracker(FaceModel(stub, finder, device="cpu"), smoothing=None)
    tracker(ramp(), 0.0)
    stub.matrices.clear()
    tracker(ramp(), 0.04)
    (matrices,) = stub.matrices
    check_crop(matrices[0])


def test_unknown_alignments_are_refused():
    stub = Stub()
    stub.alignment = "eyes"
    with pytest.raises(ValueError, match="Stub: alignment should be 'box', or 'five_points'"):
        FaceModel(stub, device="cpu")


def test_a_folder_of_five_points(tmp_path):
    write_image(tmp_path / "photos/a.png", ramp())
    (tmp_path / "points").mkdir()
    lines = [f"{x} {y}" for x, y in POINTS]
    (tmp_path / "points/a.txt").write_text("\n".join(lines) + "\n")
    finder = FolderFinder(str(tmp_path / "points"))
    stub = Stub()
    model = FaceModel(stub, finder, device="cpu")
    ((face,),) = model.reconstruct([tmp_path / "photos/a.png"])
    check_crop(stub.matrices[0][0])
    assert face.box == box_of_five_points(POINTS)
    np.save(tmp_path / "points/a.npy", all_points())  # 68 points count more
    (detection,) = finder(ramp(), tmp_path / "photos/a.png")
    assert detection.five_points is None
    assert detection.box == box_of_landmarks(all_points())


@pytest.mark.parametrize(
    "lines", [["1 2"] * 4, ["1 2 3"] * 5, ["a b"] * 5, ["nan 1"] * 5, ["9 9", *["1 2"] * 4]]
)
def test_files_that_are_no_five_points(tmp_path, lines):
    (tmp_path / "a.txt").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"a\.txt: (expected five lines|the left eye)"):
        FolderFinder(str(tmp_path))(ramp(), tmp_path / "a.png")


def test_a_table_of_five_points(tmp_path):
    entries = [{"five_points": POINTS.tolist()}, {"five_points": POINTS.tolist(), "box": BOX}]
    (tmp_path / "faces.json").write_text(json.dumps({"a.png": entries}))
    found = FileFinder(str(tmp_path / "faces.json"))(ramp(), tmp_path / "a.png")
    assert {face.box for face in found} == {box_of_five_points(POINTS), tuple(BOX)}
    assert all(np.array_equal(face.five_points, POINTS) for face in found)
    (tmp_path / "faces.json").write_text(json.dumps({"a.png": [{"five_points": [[1, 2]]}]}))
    with pytest.raises(ValueError, match="five_points should be 5 finite points"):
        FileFinder(str(tmp_path / "faces.json"))


def test_detections_follow_an_enlargement():
    assert_close(Detection(tuple(BOX), five_points=POINTS).scaled(3).five_points, 3 * POINTS + 1)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_the_box_of_five_points_turns_with_the_face(angle):
    """Frontal, upright: below the middle; the centre turns with the face, the size stays."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    face = np.array([[-32.0, -35], [32, -35], [0, 5], [-25, 35], [25, 35]])
    left, top, right, bottom = box_of_five_points(face @ turn.T + 100)
    side = 1.61 * np.hypot(64, 70)
    assert [right - left, bottom - top] == pytest.approx([side, side])
    centre = turn @ [0, 0.089 * np.hypot(64, 70)]
    assert [(left + right) / 2 - 100, (top + bottom) / 2 - 100] == pytest.approx(centre.tolist())


def test_the_box_of_five_points_fits_the_heads():
    """Boxes of the built-in head in poses of a photo overlap those of all its landmarks."""
    from lit_face.data.miniature_ffhq import aligned_cameras
    from lit_face.data.random import sample_keys
    from lit_face.morphable_models.procedural import procedural_head

    head = procedural_head()
    keys = sample_keys(3, 0, torch.arange(32))
    points = head.landmarks(head.mean[None]).expand(32, 68, 3)
    for row in aligned_cameras(keys, points).project(points)[..., :2]:
        true = np.array(box_of_landmarks(row.double().numpy()))
        found = np.array(box_of_five_points(five_points(row).double().numpy()))
        width, height = np.minimum(true[2:], found[2:]) - np.maximum(true[:2], found[:2])
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (true, found)]
        assert width * height / (sum(areas) - width * height) > 0.75
