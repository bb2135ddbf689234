"""A rendered clip of a head that turns; the 'network' knows the truth and adds noise to it."""

import csv

import cv2
import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.pose import head_angles
from lit_face.geometry.rotations import euler_to_matrix
from lit_face.inference.face import Face
from lit_face.inference.finders.base import Detection, box_of_landmarks
from lit_face.inference.frames import is_video, open_frames
from lit_face.inference.model import FaceModel
from lit_face.inference.smoothing import FaceSmoother, Smoothing
from lit_face.inference.tracking import FaceTracker
from lit_face.inference.video import reconstruct_video
from lit_face.io.images import write_image
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.renderer import RasterRenderer
from lit_face.types import Reconstruction

RATE, COUNT, SIZE, CELL = 25.0, 50, 160, 8
STILL = 15  # frames before the head turns by 45 degrees a second
ABSENT = (30, 31, 32)


def camera_of(number, noise=None):
    """Yaw 0 while it is still, then 1.8 degrees a frame; with a network's noise if asked for."""
    yaw = np.deg2rad(1.8 * max(0, number - STILL))
    angles, scale, shift = np.array([0.1, yaw, 0.05]), 0.5, np.array([SIZE / 2, SIZE / 2, 0.0])
    if noise is not None:
        angles = angles + noise.normal(0, np.deg2rad(1.0), 3)
        scale, shift = scale * np.exp(noise.normal(0, 0.01)), shift + noise.normal(0, 0.6, 3)
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ euler_to_matrix(
        torch.tensor(angles, dtype=torch.float32)[None]
    )
    return AffineCamera.orthographic(
        torch.tensor([scale], dtype=torch.float32), rotation,
        torch.tensor(shift, dtype=torch.float32)[None],
    )  # fmt: skip


def number_of(picture):
    """Frames carry their number as black and white cells in the top row."""
    cells = picture[CELL // 2, CELL // 2 :: CELL, 1][:7] > 127
    return int((cells * 2 ** np.arange(7)).sum())


class KnowingModel:
    """Stands in for a FaceModel: the truth of each frame and noise; remembers what it was asked."""

    passes = 2

    def __init__(self, head, shape):
        self.head, self.shape, self.searched = head, shape, []

    def finder(self, image, path=None):
        number = number_of(image)
        self.searched.append(number)
        if number in ABSENT:
            return []
        marks = camera_of(number).project(self.shape[None])[0, self.head.landmark_index]
        return [Detection(box_of_landmarks(marks.double().numpy()), 0.9)]

    def reconstruct_found(self, photos, found, batch_size=16):
        return [[self.face(number_of(photo), d) for d in faces]
                for photo, faces in zip(photos, found, strict=True)]  # fmt: skip

    def face(self, number, detection):
        noise = np.random.default_rng(number)
        camera = camera_of(number, noise)
        jitter = torch.tensor(noise.normal(0, 0.4, self.shape.shape), dtype=torch.float32)
        points = camera.project(self.shape[None]) + jitter
        linear = camera.matrix[:, :, :3]
        vertices = (points - camera.matrix[:, None, :, 3]) @ torch.linalg.inv(linear).mT
        result = Reconstruction(
            points, vertices, self.head.faces, self.head.uv,
            points[:, self.head.landmark_index], "mm", torch.ones(1, points.shape[1]), camera,
        )  # fmt: skip
        angles = tuple(torch.rad2deg(head_angles(camera))[0].tolist())
        return Face(detection.box, detection.confidence, result, angles, (SIZE, SIZE))


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def shape(head):
    identity = torch.randn(1, 20, generator=torch.Generator().manual_seed(0))
    return head(identity, torch.zeros(1, 1))[0]


@pytest.fixture(scope="module")
def pictures(head, shape):
    renderer, colors = RasterRenderer(), head.albedo_mean[None]
    frames = []
    for number in range(COUNT):
        image = renderer(shape[None], head.faces, camera_of(number), (SIZE, SIZE), colors).image
        picture = (image[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()
        if number in ABSENT:
            picture = np.random.default_rng(number).integers(0, 255, picture.shape, np.uint8)
        picture[:CELL] = 0
        for bit in range(7):
            picture[:CELL, bit * CELL : (bit + 1) * CELL] = 255 * (number >> bit & 1)
        frames.append(picture)
    return frames


def write_video(path, pictures, code):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), RATE, (SIZE, SIZE))
    for picture in pictures:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(pictures, tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures, "mp4v")


def table_of(folder):
    with (folder / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def acceleration(points):
    """RMS of second differences over time, pixels a frame squared."""
    return float(np.sqrt((np.diff(points, n=2, axis=0) ** 2).mean()))


@pytest.fixture(scope="module")
def smoothed(head, shape):
    """Raw and smoothed faces, and true landmarks and yaw, without the frames between."""
    model, smoother = KnowingModel(head, shape), FaceSmoother(Smoothing())
    raw = [model.face(n, Detection((0, 0, 1, 1))) for n in range(COUNT)]
    smooth = [smoother(face, n / RATE) for n, face in enumerate(raw)]
    true = [camera_of(n).project(shape[None])[0, head.landmark_index].numpy() for n in range(COUNT)]
    return raw, smooth, np.array(true), smoother


def test_smoothing_takes_most_of_the_jitter(smoothed):
    raw, smooth, true, _ = smoothed
    before, after = (
        acceleration(np.array([f.landmarks[:, :2] for f in faces])) for faces in (raw, smooth)
    )
    assert after < 0.4 * before  # measured 0.29
    still = slice(5, STILL)
    error = [
        np.abs(np.array([face.landmarks for face in faces]) - true)[still, :, :2].mean()
        for faces in (raw, smooth)
    ]
    assert error[1] < 0.6 * error[0]  # measured 0.44


def test_a_turning_head_lags_less_than_fifty_milliseconds(smoothed):
    _, smooth, _, _ = smoothed
    turned = np.array([face.angles[1] for face in smooth])[30:]
    true = [float(torch.rad2deg(head_angles(camera_of(n)))[0, 1]) for n in range(30, COUNT)]
    lag = (np.array(true) - turned).mean() / (1.8 * RATE) * np.sign(true[-1] - true[0])
    assert 0 < lag < 0.05  # seconds


def test_the_identity_is_one_and_comes_close_to_the_truth(smoothed, shape):
    raw, smooth, _, smoother = smoothed
    assert smoother.frames == COUNT
    one = (raw[-1].reconstruction.vertices[0] - shape).norm(dim=1).mean()
    mean = (smoother.identity - shape).norm(dim=1).mean()
    assert mean < 0.3 * one
    last, before = (face.reconstruction.vertices[0] for face in smooth[-1:-3:-1])
    assert (last - before).norm(dim=1).mean() < 0.4 * one
    face = smooth[20].reconstruction
    assert torch.allclose(face.camera.project(face.vertices), face.image_vertices, atol=1e-3)


def test_a_clip_becomes_an_overlay_a_table_and_arrays(clip, head, shape, tmp_path):
    model, told = KnowingModel(head, shape), []
    result = reconstruct_video(
        model, clip, tmp_path / "out", report=lambda *numbers: told.append(numbers)
    )
    assert (result.frames, result.with_face) == (COUNT, COUNT - len(ABSENT))
    assert told[-1] == (COUNT, COUNT)
    assert not result.problems
    written = open_frames(tmp_path / "out" / "overlay.mp4")
    assert (written.rate, written.expected) == (RATE, COUNT)
    lines = table_of(tmp_path / "out")
    states = [line["state"] for line in lines]
    assert [int(line["frame"]) for line in lines] == list(range(COUNT))
    assert [n for n, state in enumerate(states) if state == "none"] == list(ABSENT)
    assert states[0] == states[ABSENT[-1] + 1] == "found"
    assert states[1] == states[29] == "tracked"
    # The finder is asked at the start, every 25 frames, and while nobody is there.
    assert model.searched == [0, 25, *ABSENT, ABSENT[-1] + 1]
    with np.load(tmp_path / "out" / "frames.npz", allow_pickle=False) as arrays:
        assert arrays["landmarks"].shape == (COUNT - len(ABSENT), 68, 3)
        assert arrays["identity_frames"].sum() == COUNT - len(ABSENT)
        assert set(arrays["face"]) == {1, 2}  # lost and found again
        linear = arrays["camera"][:, :, :3]
        marks = np.einsum("rij,vj->rvi", linear, shape[head.landmark_index].numpy())
        marks += arrays["camera"][:, None, :, 3]
        assert np.abs(marks - arrays["landmarks"])[..., :2].mean() < 1.0  # pixels
        assert arrays["time_s"][-1] == pytest.approx((COUNT - 1) / RATE)


def test_without_smoothing_frames_are_as_the_network_has_them(clip, head, shape, tmp_path):
    model = KnowingModel(head, shape)
    reconstruct_video(model, clip, tmp_path, smooth=False, max_faces=1)
    with np.load(tmp_path / "frames.npz") as arrays:
        wanted = model.face(7, Detection((0, 0, 1, 1))).landmarks
        np.testing.assert_allclose(arrays["landmarks"][7], wanted, atol=1e-4)


def test_a_cut_to_somebody_else_starts_a_new_person(head, shape, pictures):
    """The picture changes from one frame to the next, the box does not."""
    other = [np.ascontiguousarray(255 - picture) for picture in pictures[:3]]
    for picture, original in zip(other, pictures, strict=False):
        picture[:CELL] = original[:CELL]
    model = KnowingModel(head, shape)
    model.finder = lambda image, path=None: []
    tracker = FaceTracker(model)
    tracker.model = KnowingModel(head, shape)
    assert [one.number for one in tracker(pictures[1], 0.0)] == [1]
    tracker.model = model  # the finder sees nobody from here on
    assert [one.state for one in tracker(pictures[2], 0.04)] == ["tracked"]
    assert tracker(other[2], 0.08) == []


def test_a_folder_of_numbered_frames_is_read_in_order(pictures, head, shape, tmp_path):
    for number in (0, 1, 2, 9, 10):
        write_image(tmp_path / f"frame{number}.png", pictures[number])
    (tmp_path / "frame3.png").write_bytes((tmp_path / "frame2.png").read_bytes()[:300])
    write_image(tmp_path / "frame11.png", pictures[11][:100])
    frames = open_frames(tmp_path, 10.0)
    assert [number_of(frame.picture) for frame in frames] == [0, 1, 2, 9, 10]
    assert [frame.time for frame in frames] == [0.0, 0.1, 0.2, 0.4, 0.5]  # a gap stays a gap
    assert len(frames.problems) == 4  # two problems, read twice
    assert "frame3.png" in frames.problems[0]
    assert "160 x 100 pixels" in frames.problems[1]
    result = reconstruct_video(KnowingModel(head, shape), tmp_path, tmp_path / "out", rate=10.0)
    assert (result.frames, len(result.problems)) == (5, 2)


def test_truncated_and_foreign_files_are_named(clip, pictures, head, shape, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.mp4: not a video that can be decoded"):
        reconstruct_video(KnowingModel(head, shape), cut, tmp_path / "out")
    assert not (tmp_path / "out" / "overlay.mp4").exists()
    whole = write_video(tmp_path / "whole.avi", pictures[:20], "MJPG")
    short = tmp_path / "short.avi"
    short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = reconstruct_video(KnowingModel(head, shape), short, tmp_path / "out")
    assert 3 < result.frames < 18
    assert f"short.avi: ends after {result.frames} of 20 frames" in result.problems[0]
    with pytest.raises(FileNotFoundError, match="no such video"):
        open_frames(tmp_path / "absent.mp4")
    with pytest.raises(ValueError, match="fps should be"):
        open_frames(clip, 0.0)
    assert is_video("A/Clip.MOV")
    assert not is_video("a.jpg")


def test_a_video_without_faces_says_so(pictures, head, shape, tmp_path):
    clip = write_video(tmp_path / "empty.mp4", [pictures[n] for n in ABSENT], "mp4v")
    result = reconstruct_video(KnowingModel(head, shape), clip, tmp_path / "out")
    assert result.problems == ["empty.mp4: no face found in 3 frames"]
    assert [line["state"] for line in table_of(tmp_path / "out")] == ["none"] * 3


class CentredFace(torch.nn.Module):
    """A network that sees the same face in the middle of every crop."""

    image_size, margin = 64, 1.6

    def __init__(self, head, factor=1.0):
        super().__init__()
        self.head, self.factor = head, factor

    def forward(self, image):
        count, marks = len(image), self.head.mean[self.head.landmark_index]
        side = float((marks.amax(0) - marks.amin(0))[:2].mean())
        scale = self.factor * self.image_size / self.margin / side
        rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(count, 3, 3)
        middle = (marks.amax(0) + marks.amin(0)) / 2
        shift = torch.tensor([31.5, 31.5, 0.0]) - scale * middle * torch.tensor([1.0, -1.0, -1.0])
        camera = AffineCamera.orthographic(
            torch.full((count,), scale), rotation, shift.expand(count, 3)
        )
        points = camera.project(self.head.mean)
        return Reconstruction(
            points, self.head.mean.expand(count, -1, -1), self.head.faces, self.head.uv,
            points[:, self.head.landmark_index], "mm", None, camera,
        )  # fmt: skip


def test_a_face_model_follows_a_face_without_asking_again(clip, head, tmp_path):
    asked = []

    def finder(image, path=None):
        asked.append(number_of(image))
        return [Detection((45.0, 40.0, 115.0, 125.0), 0.8)]

    model = FaceModel(CentredFace(head), finder, device="cpu")
    frames = reconstruct_video(model, clip, tmp_path, check_every=100)
    assert model.passes == 2, "the tracker works with a copy"
    assert asked[0] == 0
    assert set(asked[1:]) <= {*ABSENT, ABSENT[-1] + 1}  # noise looks different
    assert frames.with_face == COUNT
    boxes = np.array([[float(line[side]) for side in ("left", "top", "right", "bottom")]
                      for line in table_of(tmp_path)])  # fmt: skip
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.abs(middle - [80.0, 82.5]).max() < 0.5  # a network that finds the middle stays put


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_errors_of_size_do_not_add_up(clip, head, factor, tmp_path):
    """A network that sees every face a quarter too small, or too large, must not run away."""
    given = Detection((45.0, 40.0, 115.0, 125.0), 0.8)
    model = FaceModel(CentredFace(head, factor), lambda image, path=None: [given], device="cpu")
    reconstruct_video(model, clip, tmp_path, smooth=False, max_faces=1)
    with np.load(tmp_path / "frames.npz") as arrays:
        sides = np.ptp(arrays["landmarks"][..., :2], axis=1).mean(axis=1)
    # Two passes where the finder saw it, and what the tracker bears until it asks again.
    assert sides.min() > given.size * 0.8**4
    assert sides.max() < given.size * 1.25**4
