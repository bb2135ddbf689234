"""Landmarks of all views by a face finder, where a subject's folder has none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lit_face.data.facescape_layout import LANDMARKS_FILE, FaceScapeFolder
from lit_face.inference.finders.base import FaceFinder
from lit_face.inference.finders.file import FileFinder
from lit_face.inference.finders.folder import FolderFinder
from lit_face.io.files import atomic_write
from lit_face.io.photos import read_photo


def landmark_finder(finder: FaceFinder) -> FaceFinder:
    """Return a finder that gives the 68 landmarks of prepared photos.

    Raises:
        ValueError: it gives boxes, or reads a table of the photos as they were.
    """
    reads = isinstance(finder, FileFinder | FolderFinder)
    if getattr(finder, "gives_landmarks", True) and not reads:
        return finder
    what = "reads points of other photos" if reads else "finds boxes"
    raise ValueError(
        f"finder: {type(finder).__name__} {what}, but base meshes are fitted to 68 landmarks: "
        f"put {LANDMARKS_FILE} beside params.json (docs/data/facescape.md), or choose "
        "finder=face_alignment or finder=mediapipe."
    )


def find_landmarks(
    folder: FaceScapeFolder,
    sample: str,
    views: Sequence[int],
    finder: FaceFinder,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write landmarks.json of a sample; a view that shows not exactly one face has null.

    Args:
        folder: processed.
        sample: its name.
        views: whose photos are searched.
        finder: of the 68 landmarks.
        progress: is called after each view.

    Raises:
        ValueError: the finder gave a box only.
    """
    content: dict[str, Any] = {}
    for done, view in enumerate(views, 1):
        path = folder.image_file(sample, view)
        faces = finder(read_photo(path), path)
        content[str(view)] = None
        if len(faces) == 1:
            if faces[0].landmarks is None:
                raise ValueError(f"{type(finder).__name__} gave no landmarks for view {view}.")
            points = faces[0].landmarks.tolist()
            content[str(view)] = {"points": points, "score": float(faces[0].confidence)}
        if progress is not None:
            progress(done, len(views))
    target = folder.landmarks_file(sample)
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
    return target
