"""The folder of one subject: photos, cameras and what is known besides."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_cameras import read_json
from lit_face.data.facescape_fit import read_view_points
from lit_face.data.facescape_layout import (
    LANDMARKS_FILE,
    PARAMS_FILE,
    SCALE_FILE,
    SCALE_RANGE,
    SELECT_FILE,
    FaceScapeFolder,
    sample_id,
)
from lit_face.data.facescape_maps import read_scan
from lit_face.data.facescape_preparation import PreparationOptions, preprocess
from lit_face.data.facescape_raw import RawSample, check_sample, own_capture
from lit_face.inference.records import digest, digest_of_path
from lit_face.morphable_models.facescape import Bilinear
from lit_face.morphable_models.facescape.template import write_template


@dataclass(frozen=True)
class Subject:
    """What there is of a subject.

    Attributes:
        folder: photos and params.json.
        views: chosen ones in their order; None chooses.
        scale: mm of one unit of the cameras; None: what the base mesh's fit says.
        scan: mesh of the true surface in the cameras' frame.
    """

    folder: Path
    views: list[int] | None = None
    scale: float | None = None
    scan: Path | None = None

    @property
    def has_landmarks(self) -> bool:
        """Whether the 68 points of its views are there."""
        return (self.folder / LANDMARKS_FILE).is_file()

    def digest(self) -> str:
        """Return the fingerprint of all files and values."""
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        files += [] if self.scan is None else [self.scan]
        parts = [f"{path.name} {digest_of_path(path)}" for path in files]
        return digest("\n".join([*parts, repr(self.views), repr(self.scale)]).encode())


def find_subject(
    given: str | Path, scan: str | Path | None = None, scale: float | None = None
) -> Subject:
    """Find a subject's folder and, within FaceScape's folders, its scan, scale and views.

    Args:
        given: folder with photos and params.json.
        scan: the true surface; None takes FaceScape's, or the only .ply beside the photos.
        scale: mm of one unit of the cameras; None takes FaceScape's.

    Raises:
        DatasetNotFoundError: the folder or the scan is not there.
        ValueError: what is wrong with the scale, the scan, or FaceScape's entries for it.
    """
    folder = Path(given).expanduser()
    if not (folder / PARAMS_FILE).is_file():
        raise DatasetNotFoundError(
            f"input={given} should be a folder with the photos of one subject and their "
            f"{PARAMS_FILE} (docs/data/facescape.md)."
        )
    if scale is not None:
        scale = _given_scale(scale)
    person, expression, root = _place(folder)
    views = None
    if root is not None:
        sample = sample_id(person, expression)
        if _has_entry(root / SELECT_FILE, person, expression):
            views = FaceScapeFolder(root).views(sample)
        if scale is None and _has_entry(root / SCALE_FILE, person, expression):
            scale = FaceScapeFolder(root).scale(sample)
    found = _scan(folder, root, person, expression) if scan is None else Path(scan).expanduser()
    if found is not None:
        read_scan(found)  # says what is wrong with it before any work
    return Subject(folder, views, scale, found)


def _given_scale(scale: Any) -> float:
    low, high = SCALE_RANGE
    if not isinstance(scale, int | float) or not low <= scale <= high:  # NaN too
        raise ValueError(
            f"scale should be {low:g} to {high:g}, mm of one unit of the cameras; found {scale}."
        )
    return float(scale)


def _has_entry(path: Path, person: int, expression: int) -> bool:
    if not path.is_file():
        return False
    of_person = read_json(path).get(str(person))
    return isinstance(of_person, dict) and str(expression) in of_person


def check_subject(
    subject: Subject, options: PreparationOptions, views: int | None, out: Path
) -> None:
    """Find everything that is wrong with a subject's photos, cameras, landmarks and scan.

    Args:
        subject: from `find_subject`.
        options: how photos will be prepared.
        views: how many were asked for; None for as many as there are, up to `options.views`.
        out: folder of results.

    Raises:
        DatasetNotFoundError: a missing file.
        ValueError: one line a problem, by file and key.
    """
    if out.resolve() == subject.folder.resolve():
        raise ValueError(f"out={out} is the folder of the photos; name another one.")
    checked = check_sample(_sample(subject, options), options.views)
    if checked.problems:
        raise ValueError("\n  ".join(checked.problems))
    if views is not None and len(checked.views) < views:
        reasons = "; ".join(checked.dropped)
        raise ValueError(
            f"views={views}, but {subject.folder} has {len(checked.views)} that can be used"
            + (f" ({reasons})." if reasons else ".")
        )
    if subject.has_landmarks:
        read_view_points(subject.folder / LANDMARKS_FILE, checked.views)


def _sample(subject: Subject, options: PreparationOptions) -> RawSample:
    views = None if subject.views is None else tuple(subject.views[: options.views])
    return own_capture(subject.folder, views, subject.scan, subject.scale)


def _place(folder: Path) -> tuple[int, int, Path | None]:
    """Return person, expression and root of a folder in FaceScape's raw or processed layout."""
    whole = folder.resolve()
    person, expression = whole.parent.name, whole.name.split("_")[0]
    if whole.parent.parent.name not in ("imgs", "images"):
        return 0, 0, None
    if not (person.isdecimal() and expression.isdecimal()):
        return 0, 0, None
    return int(person), int(expression), whole.parent.parent.parent


def _scan(folder: Path, root: Path | None, person: int, expression: int) -> Path | None:
    candidates = sorted(folder.glob("*.ply"))
    if root is not None:
        candidates += [
            root / "mesh" / folder.resolve().parent.name / f"{folder.resolve().name}.ply",
            root / "scans" / f"scan_{sample_id(person, expression)}.ply",
        ]
    return next((path for path in candidates if path.is_file()), None)


def prepare_subject(
    subject: Subject,
    work: FaceScapeFolder,
    options: PreparationOptions,
    bilinear: Bilinear,
    tell: Callable[[int, int], None],
) -> None:
    """Write a processed folder of one subject, named `OWN_CAPTURE`.

    Args:
        subject: from `find_subject`.
        work: the folder.
        options: how photos are prepared; `views` of the subject's own, or of the best spread ones.
        bilinear: whose template and mask the UV maps take.
        tell: how many photos of how many are done.

    Raises:
        ValueError: what is wrong with the photos and cameras, by file and key.
    """
    write_template(bilinear, work.predefined)
    shutil.copyfile(work.predefined / work.mask_file.name, work.mask_file)
    sample = _sample(subject, options)
    shutil.rmtree(work.params_file(sample.name).parent, ignore_errors=True)
    preprocess(
        subject.folder,
        work.root,
        options,
        progress=lambda stage, done, total: tell(done, total),
        samples=[sample],
    )
