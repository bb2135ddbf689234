"""reconstruct.py with a video, or with a camera's folder."""

import sys

import cv2
import numpy as np
import pytest

from lit_face import cli
from lit_face.inference.finders.base import Detection
from lit_face.inference.model import FaceModel
from lit_face.io.images import write_image
from lit_face.morphable_models.procedural import procedural_head
from tests.inference.test_video import CentredFace, write_video

SIDE = 160


@pytest.fixture
def pictures():
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    picture = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return [np.roll(picture, shift, axis=1) for shift in range(6)]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run reconstruct.py in this process with a network that needs no file."""
    face = Detection((45.0, 40.0, 115.0, 125.0))
    model = FaceModel(CentredFace(procedural_head()), lambda image, path=None: [face], "cpu")
    monkeypatch.setattr("lit_face.cli.reconstruction._load", lambda config: model)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reconstruct.py", "ckpt=any", *arguments])
        status = 0
        try:
            cli.reconstruct()
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return call


def test_a_video_and_a_camera_s_folder(run, pictures, tmp_path):
    write_video(tmp_path / "clip.mp4", pictures, "mp4v")
    status, out, _ = run(f"input={tmp_path / 'clip.mp4'}", f"out={tmp_path / 'out'}")
    assert (status, out.split(":")[0]) == (0, "6 of 6 frames with a face, 1 followed")
    assert {"overlay.mp4", "frames.csv", "frames.npz"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    for number, picture in enumerate(pictures):
        write_image(tmp_path / "camera" / f"{number}.png", picture)
    (tmp_path / "camera" / "3.png").write_bytes(b"no picture")
    given = (f"input={tmp_path / 'camera'}", f"out={tmp_path / 'second'}", "fps=10")
    status, out, problems = run(*given, "smoothing=null")
    assert status == 1, "one frame could not be read"
    assert out.startswith("5 of 5 frames")
    assert problems.count("\n") == 1
    assert "3.png" in problems


def test_a_broken_video_is_one_line(run, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video at all")
    status, _, problems = run(f"input={tmp_path / 'clip.mp4'}", f"out={tmp_path / 'out'}")
    assert status not in (0, None)
    message = str(status) + problems
    assert "not a video that can be decoded" in message
    assert "Traceback" not in message


def test_smoothing_is_checked_before_anything_is_read(run, tmp_path):
    given = (f"input={tmp_path / 'clip.mp4'}", f"out={tmp_path / 'out'}")
    status, _, problems = run(*given, "smoothing.pose_cutof=2")
    assert status not in (0, None)
    assert "pose_cutoff" in str(status) + problems
