"""Faces from frame to frame: where a face was, it is looked for again."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.geometry.five_points import five_points
from lit_face.inference.crops import crop_matrices, cut_out
from lit_face.inference.face import Face
from lit_face.inference.finders.base import Detection, Picture, box_of_landmarks, overlap
from lit_face.inference.smoothing import FaceSmoother, Smoothing

State = Literal["found", "tracked"]

_ALIKE = 0.5  # correlation of a face's picture with the frame before; below, it is searched for
_SAME = 0.3  # share of the smaller box that two boxes of one face have in common
_GROWTH = 1.5  # of a face's size, since the frame before and since the finder confirmed it
_SMALLEST = 8.0  # pixels: what is smaller is no face
_THUMBNAIL = 32  # pixels
_MISSED_CHECKS = 2


class Reconstructor(Protocol):
    """What a tracker needs of `lit_face.inference.model.FaceModel`."""

    passes: int

    def finder(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Find faces."""
        ...

    def reconstruct_found(
        self, photos: list[Picture], found: list[list[Detection]], batch_size: int = 16
    ) -> list[list[Face]]:
        """Reconstruct faces that were found."""
        ...


@dataclass(eq=False)
class TrackedFace:
    """A face of a frame.

    Attributes:
        number: of the person in this video, from 1.
        state: 'found' in this frame by the finder, or 'tracked' from the frame before.
        face: smoothed. raw: as the network gave it.
    """

    number: int
    state: State
    face: Face
    raw: Face


@dataclass(eq=False)
class _Track:
    number: int
    smoother: FaceSmoother | None
    detection: Detection
    confirmed_size: float
    thumbnail: NDArray[np.float64] | None = None
    missed: int = 0


@dataclass(eq=False)
class FaceTracker:
    """Follows the faces of a video.

    A face is cropped where its landmarks were in the frame before. The finder searches the whole
    frame only where nobody is followed, every `check_every` frames, and at once when a face jumps,
    changes its size or no longer looks like itself (a cut, an occlusion); a face that it does not
    confirm then is lost, and its filters with it. One that it sees elsewhere, or of another size,
    is reconstructed anew from there: small errors of a network must not add up.

    Attributes:
        model: finds and reconstructs faces.
        smoothing: of pose and points; None leaves every frame as it is.
        max_faces: followed at once, the largest ones; None for all.
        check_every: frames between two searches of the whole frame.
        people: the smoother of each person seen so far, by number.
        numbers: given so far.

    Raises:
        ValueError: a number below 1.
    """

    model: Reconstructor
    smoothing: Smoothing | None = field(default_factory=Smoothing)
    max_faces: int | None = None
    check_every: int = 25
    people: dict[int, FaceSmoother] = field(default_factory=dict)
    _tracks: list[_Track] = field(default_factory=list)
    _frame: int = -1
    numbers: int = 0

    def __post_init__(self) -> None:
        for name in ("max_faces", "check_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} should be 1 or more, found {value}.")
        self._follow = copy.copy(self.model)
        self._follow.passes = 1  # the box of the frame before is as good as a first pass

    def __call__(self, frame: Picture, time: float) -> list[TrackedFace]:
        """Return the faces of the next frame (H,W,3) RGB uint8 at a time in seconds."""
        self._frame += 1
        results = self._followed(frame)
        doubtful = [track for track, face in results if not self._plausible(track, face, frame)]
        state: dict[int, State] = {}
        if doubtful or self._frame % self.check_every == 0 or not self._tracks:
            again = self._search(frame, results, doubtful)
            state = {track.number: "found" for track, _ in again}
            kept = [pair for pair in results if pair[0] in self._tracks]
            results = [pair for pair in kept if pair[0].number not in state] + again
        faces = [
            self._update(track, face, state.get(track.number, "tracked"), frame, time)
            for track, face in results
        ]
        return sorted(faces, key=lambda one: one.number)

    def _followed(self, frame: Picture) -> list[tuple[_Track, Face]]:
        if not self._tracks:
            return []
        found = [track.detection for track in self._tracks]
        faces = self._follow.reconstruct_found([frame], [found])[0]
        return list(zip(self._tracks, faces, strict=True))

    def _plausible(self, track: _Track, face: Face, frame: Picture) -> bool:
        """Whether this is the face of the frame before, by box and by looks."""
        now = _detection_of(face)
        if now is None or overlap(now, track.detection) < _SAME:
            return False
        if not (_alike(now.size, track.detection.size) and _alike(now.size, track.confirmed_size)):
            return False
        picture = thumbnail(frame, now)
        return track.thumbnail is None or float((picture * track.thumbnail).mean()) > _ALIKE

    def _search(
        self, frame: Picture, results: list[tuple[_Track, Face]], doubtful: list[_Track]
    ) -> list[tuple[_Track, Face]]:
        """Confirm, correct or drop tracks and start new ones.

        Returns:
            Those to reconstruct from the finder's box, and their faces.
        """
        detections = self.model.finder(frame, None)
        again: list[_Track] = []
        for track, face in results:
            boxes = [box for box in (_detection_of(face), track.detection) if box is not None]
            near = [d for d in detections if any(overlap(d, box) >= _SAME for box in boxes)]
            track.missed = 0 if near else track.missed + 1
            if not near:
                if track in doubtful or track.missed >= _MISSED_CHECKS:
                    self._tracks.remove(track)
                continue
            best = max(near, key=lambda d: (overlap(d, boxes[0]), d.size))
            detections = [d for d in detections if not any(d is one for one in near)]
            size = boxes[0].size
            if len(boxes) == 2 and overlap(best, boxes[0]) >= _SAME and _alike(size, best.size):
                track.confirmed_size = size
            else:
                track.detection = best
                again.append(track)
        free = None if self.max_faces is None else max(0, self.max_faces - len(self._tracks))
        again += [self._start(detection) for detection in detections[:free]]
        if not again:
            return []
        faces = self.model.reconstruct_found([frame], [[track.detection for track in again]])[0]
        pairs = []
        for track, face in zip(again, faces, strict=True):
            now = _detection_of(face)
            if now is None:
                self._tracks.remove(track)
            else:
                track.confirmed_size = now.size
                pairs.append((track, face))
        return pairs

    def _start(self, detection: Detection) -> _Track:
        self.numbers += 1
        smoother = None if self.smoothing is None else FaceSmoother(self.smoothing)
        if smoother is not None:
            self.people[self.numbers] = smoother
        track = _Track(self.numbers, smoother, detection, detection.size)
        self._tracks.append(track)
        return track

    def _update(
        self, track: _Track, face: Face, state: State, frame: Picture, time: float
    ) -> TrackedFace:
        track.detection = _detection(face)
        track.thumbnail = thumbnail(frame, track.detection)
        smooth = face if track.smoother is None else track.smoother(face, time)
        return TrackedFace(track.number, state, smooth, face)


def _detection_of(face: Face) -> Detection | None:
    """Return the box of a face's landmarks; None where it is no box."""
    points = face.landmarks.astype(np.float64)
    if not np.isfinite(points).all():
        return None
    detection = _detection(face)
    return detection if detection.size >= _SMALLEST else None


def _detection(face: Face) -> Detection:
    """Return where a face is, for the crop of the next frame: no finder's landmarks to fit to."""
    points = face.landmarks.astype(np.float64)
    five = five_points(torch.from_numpy(points[:, :2])).numpy()
    return Detection(box_of_landmarks(points), face.confidence, five_points=five)


def _alike(size: float, other: float) -> bool:
    return other / _GROWTH < size < other * _GROWTH


def thumbnail(frame: Picture, detection: Detection) -> NDArray[np.float64]:
    """Return the grey picture in a box, (32,32), with mean 0 and mean square 1 (0 if flat)."""
    matrix = crop_matrices(torch.tensor([detection.box]), 1.0, _THUMBNAIL)[0]
    crop = cut_out(frame, matrix, _THUMBNAIL)[0]
    grey = crop.double().mean(0).numpy()
    grey -= grey.mean()
    spread = float(np.sqrt((grey**2).mean()))
    return np.asarray(grey / spread if spread > 0.01 else np.zeros_like(grey))
