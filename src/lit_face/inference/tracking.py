"""Faces from frame to frame: where a face was, it is looked for again."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.inference.crops import crop_matrices, cut_out
from lit_face.inference.face import Face
from lit_face.inference.finders.base import Detection, Picture, box_of_landmarks, overlap
from lit_face.inference.smoothing import FaceSmoother, Smoothing

State = Literal["found", "tracked"]

_ALIKE = 0.5  # correlation of a face's picture with the frame before; below, it is searched for
_SAME = 0.3  # share of the smaller box that two boxes of one face have in common
_GROWTH = 1.6  # of a face's size within a frame
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
    thumbnail: NDArray[np.float64] | None = None
    missed: int = 0


@dataclass(eq=False)
class FaceTracker:
    """Follows the faces of a video.

    A face is cropped where its landmarks were in the frame before. The finder searches the whole
    frame only where nobody is followed, every `check_every` frames, and at once when a face jumps,
    changes its size or no longer looks like itself (a cut, an occlusion); a face that it does not
    confirm then is lost, and its filters with it.

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
        due = self._frame % self.check_every == 0
        found: list[tuple[_Track, Face]] = []
        if doubtful or due or not self._tracks:
            found = self._search(frame, results, doubtful)
        alive = {id(track) for track in self._tracks}
        kept = [(track, face) for track, face in results if id(track) in alive]
        faces = [self._update(track, face, "tracked", frame, time) for track, face in kept]
        faces += [self._update(track, face, "found", frame, time) for track, face in found]
        return sorted(faces, key=lambda one: one.number)

    def _followed(self, frame: Picture) -> list[tuple[_Track, Face]]:
        if not self._tracks:
            return []
        found = [track.detection for track in self._tracks]
        faces = self._follow.reconstruct_found([frame], [found])[0]
        return list(zip(self._tracks, faces, strict=True))

    def _plausible(self, track: _Track, face: Face, frame: Picture) -> bool:
        """Whether this is the face of the frame before, by box and by looks."""
        points = face.landmarks
        if not np.isfinite(points).all():
            return False
        now = Detection(box_of_landmarks(points.astype(np.float64)))
        growth = now.size / max(track.detection.size, 1e-6)
        if overlap(now, track.detection) < _SAME or not 1 / _GROWTH < growth < _GROWTH:
            return False
        picture = thumbnail(frame, now)
        return track.thumbnail is None or float((picture * track.thumbnail).mean()) > _ALIKE

    def _search(
        self, frame: Picture, results: list[tuple[_Track, Face]], doubtful: list[_Track]
    ) -> list[tuple[_Track, Face]]:
        """Confirm or drop tracks, and start new ones; returns the new ones with their faces."""
        detections = self.model.finder(frame, None)
        for track, face in results:
            points = face.landmarks.astype(np.float64)
            boxes = [track.detection]
            if np.isfinite(points).all():
                boxes.append(Detection(box_of_landmarks(points)))
            near = [d for d in detections if all(overlap(d, box) >= _SAME for box in boxes)]
            track.missed = 0 if near else track.missed + 1
            if not near and (track in doubtful or track.missed >= _MISSED_CHECKS):
                self._tracks.remove(track)
            detections = [d for d in detections if not any(d is one for one in near)]
        free = None if self.max_faces is None else self.max_faces - len(self._tracks)
        new = detections[:free] if free is None or free > 0 else []
        if not new:
            return []
        faces = self.model.reconstruct_found([frame], [new])[0]
        pairs = []
        for detection, face in zip(new, faces, strict=True):
            if np.isfinite(face.landmarks).all():
                pairs.append((self._start(detection), face))
        return pairs

    def _start(self, detection: Detection) -> _Track:
        self.numbers += 1
        smoother = None if self.smoothing is None else FaceSmoother(self.smoothing)
        if smoother is not None:
            self.people[self.numbers] = smoother
        track = _Track(self.numbers, smoother, detection)
        self._tracks.append(track)
        return track

    def _update(
        self, track: _Track, face: Face, state: State, frame: Picture, time: float
    ) -> TrackedFace:
        box = box_of_landmarks(face.landmarks.astype(np.float64))
        track.detection = Detection(box, track.detection.confidence)
        track.thumbnail = thumbnail(frame, track.detection)
        smooth = face if track.smoother is None else track.smoother(face, time)
        return TrackedFace(track.number, state, smooth, face)


def thumbnail(frame: Picture, detection: Detection) -> NDArray[np.float64]:
    """Return the grey picture in a box, (32,32), with mean 0 and mean square 1 (0 if flat)."""
    matrix = crop_matrices(torch.tensor([detection.box]), 1.0, _THUMBNAIL)[0]
    crop = cut_out(frame, matrix, _THUMBNAIL)[0]
    grey = crop.double().mean(0).numpy()
    grey -= grey.mean()
    spread = float(np.sqrt((grey**2).mean()))
    return np.asarray(grey / spread if spread > 0.01 else np.zeros_like(grey))
