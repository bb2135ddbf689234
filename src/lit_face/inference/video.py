"""A video in, the same video with its faces drawn on it and their numbers out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.geometry.cameras import AffineCamera
from lit_face.inference.face import Face
from lit_face.inference.frames import Frame, open_frames
from lit_face.inference.outputs.overlay import LARGEST, draw_overlay
from lit_face.inference.smoothing import FaceSmoother, Smoothing
from lit_face.inference.tracking import FaceTracker, Reconstructor, TrackedFace
from lit_face.io.files import atomic_write

OVERLAY, TABLE, ARRAYS = "overlay.mp4", "frames.csv", "frames.npz"
COLUMNS = (
    *("frame", "time_s", "face", "state", "left", "top", "right", "bottom", "confidence"),
    *("visibility_share", "pitch_deg", "yaw_deg", "roll_deg", "warnings"),
)


@dataclass(eq=False)
class VideoResult:
    """What was found in a video.

    Attributes:
        frames: read. with_face: of them, those with at least one.
        people: numbers given; somebody who was lost and found again has two.
        problems: one line each.
        files: written.
    """

    frames: int = 0
    with_face: int = 0
    people: int = 0
    problems: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def reconstruct_video(
    model: Reconstructor,
    path: str | Path,
    out: str | Path,
    smoothing: Smoothing | None = None,
    smooth: bool = True,
    rate: float | None = None,
    max_faces: int | None = None,
    check_every: int = 25,
    report: Callable[[int, int], None] = lambda done, expected: None,
) -> VideoResult:
    """Reconstruct the faces of a video and follow them over time.

    Writes into the folder `out`:

    - `overlay.mp4`: the frames with meshes, landmarks and boxes;
    - `frames.csv`: a line a face and frame (a line without a face where there is none);
    - `frames.npz`: `frame`, `time_s`, `face` (R,), `landmarks` (R,68,3) pixels, `camera` (R,3,4)
      head to pixels, `angles_deg` (R,3), for each line with a face; and, for each person, the mean
      shape without pose `identity_vertices` (P,V,3) with `identity_face` (P,) and
      `identity_frames` (P,), `triangles` (F,3) and `uv` (V,2).

    Args:
        model: a `FaceModel`.
        path: a video file, or a folder of numbered frames.
        out: folder; is created. Files appear when they are complete.
        smoothing: how much; none takes the default.
        smooth: False leaves every frame as it is.
        rate: frames a second; see `open_frames`.
        max_faces: followed at once; none for all.
        check_every: frames between two searches of the whole frame.
        report: called after each frame with how many are done and how many there should be.

    Raises:
        FileNotFoundError, ValueError: the video cannot be read at all, or written.
    """
    frames, out = open_frames(path, rate), Path(out)
    chosen = (smoothing or Smoothing()) if smooth else None
    tracker = FaceTracker(model, chosen, max_faces, check_every)
    result, rows, table = VideoResult(), _Arrays(), []
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_write(out / OVERLAY))
        writer: _Writer | None = None
        for frame in frames:
            if writer is None:
                writer = stack.enter_context(_Writer(temporary, frame, frames.rate))
            faces = tracker(frame.picture, frame.time)
            writer.write(draw_overlay(frame.picture, [one.face for one in faces], LARGEST))
            table += _lines(frame, faces)
            rows.add(frame, faces)
            result.frames += 1
            result.with_face += bool(faces)
            report(result.frames, frames.expected)
        if writer is None:
            raise ValueError(f"{path}: no frame can be read. " + " ".join(frames.problems[:1]))
        writer.close()
    _write_table(out / TABLE, table)
    rows.write(out / ARRAYS, tracker.people)
    result.people, result.problems = tracker.numbers, frames.problems
    if not result.with_face:
        result.problems.append(f"{Path(path).name}: no face found in {result.frames} frames")
    result.files = [out / OVERLAY, out / TABLE, out / ARRAYS]
    return result


class _Writer:
    """Writes frames of one size as MP4 (MPEG-4 Part 2, which every OpenCV can encode)."""

    def __init__(self, path: Path, first: Frame, rate: float) -> None:
        height, width = draw_overlay(first.picture, [], LARGEST).shape[:2]
        self.size = max(2, width // 2 * 2), max(2, height // 2 * 2)  # the codec wants even sides
        self.path = path
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), code, rate, self.size)
        if not self._writer.isOpened():
            raise ValueError(
                f"{path}: OpenCV cannot write MP4 video here ({self.size}, {rate} fps)."
            )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.release()

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Append a picture (H,W,3) RGB; grown to two pixels at least, cut to even sides."""
        width, height = self.size
        rows, columns = max(0, height - len(picture)), max(0, width - picture.shape[1])
        padded = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        self._writer.write(np.ascontiguousarray(padded[:height, :width, ::-1]))

    def close(self) -> None:
        """Finish the file.

        Raises:
            ValueError: nothing was written, though OpenCV did not complain.
        """
        self._writer.release()
        if not self.path.is_file() or not self.path.stat().st_size:
            raise ValueError(f"{self.path}: OpenCV wrote no video; is the disk full?")


class _Arrays:
    """Collects what `frames.npz` holds."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {
            name: [] for name in ("frame", "time_s", "face", "landmarks", "camera", "angles_deg")
        }
        self._topology: dict[str, NDArray[Any]] = {}

    def add(self, frame: Frame, faces: Sequence[TrackedFace]) -> None:
        """Add the faces of a frame."""
        for one in faces:
            result = one.face.reconstruction
            values = (frame.number, frame.time, one.number, one.face.landmarks, _camera(one.face))
            for name, value in zip(self._rows, (*values, one.face.angles), strict=True):
                self._rows[name].append(value)
            if not self._topology:
                self._topology = {"triangles": result.faces.numpy(), "uv": result.uv.numpy()}

    def write(self, path: Path, people: dict[int, FaceSmoother]) -> None:
        """Write the file."""
        empty = {"landmarks": (0, 68, 3), "camera": (0, 3, 4), "angles_deg": (0, 3)}
        arrays: dict[str, NDArray[Any]] = {}
        for name, values in self._rows.items():
            kind = np.int64 if name in ("frame", "face") else np.float32
            arrays[name] = np.array(values, kind).reshape(len(values), *empty.get(name, (0,))[1:])
        arrays["time_s"] = np.array(self._rows["time_s"], np.float64)
        known = {number: person for number, person in people.items() if person.frames}
        if known:
            arrays["identity_vertices"] = np.stack([p.identity.numpy() for p in known.values()])
            arrays["identity_face"] = np.array(list(known))
            arrays["identity_frames"] = np.array([p.frames for p in known.values()])
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, **arrays, **self._topology)  # type: ignore[arg-type]


def _camera(face: Face) -> NDArray[np.float32]:
    camera = face.reconstruction.camera
    if isinstance(camera, AffineCamera):
        return np.asarray(camera.matrix[0].numpy(), np.float32)
    return np.full((3, 4), np.nan, np.float32)


def _lines(frame: Frame, faces: Sequence[TrackedFace]) -> list[dict[str, Any]]:
    place = {"frame": frame.number, "time_s": round(frame.time, 4)}
    if not faces:
        return [{**place, "state": "none"}]
    lines = []
    for one in faces:
        face = one.face
        numbers = [round(float(edge), 2) for edge in face.box]
        values: list[Any] = [one.number, one.state, *numbers, round(face.confidence, 4)]
        values += [round(face.visibility_share, 4), *(round(float(a), 2) for a in face.angles)]
        values.append("; ".join(face.warnings))
        lines.append({**place, **dict(zip(COLUMNS[2:], values, strict=True))})
    return lines


def _write_table(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(lines)
