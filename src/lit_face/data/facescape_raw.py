"""FaceScape's raw multi-view folder, or one capture of your own: found, chosen from, checked.

    imgs/<id>/<k>_<name>/<view>.jpg, params.json, landmarks.json     mesh/<id>/<k>_<name>.ply
    select_dict.json  id.json  Rt_scale_dict.json  predefined/       (each optional)

A capture of one's own is a folder with photos and params.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_cameras import (
    check_photo_size,
    lens_distortion,
    read_cameras,
    read_json,
)
from lit_face.data.facescape_layout import (
    LANDMARKS_FILE,
    PARAMS_FILE,
    SCALE_FILE,
    SELECT_FILE,
    checked_scale,
    sample_id,
    split_id,
)
from lit_face.io.images import truncation
from lit_face.io.meshes import read_mesh
from lit_face.io.photos import SUFFIXES

Array = NDArray[Any]

OWN_CAPTURE = "001_01"  # the sample's name of a capture of one's own
LAST_TRAINING_PERSON = 330  # without id.json, the authors' split by person
_FOLDER = re.compile(r"(\d+)_\w+")
_WIDEST = 75.0  # degrees between a chosen view and the middle one
_INSIDE = 0.5  # share of the scan that each photo should show
_SCAN_POINTS = 4000  # of the scan, for that


@dataclass(frozen=True)
class RawSample:
    """One expression of one person as it was taken.

    Attributes:
        name: "073_15".
        folder: with the photos and params.json.
        photos: file of each view that has one.
        scan: the raw scan, where there is one.
        scale: mm a unit, where known.
        chosen: views of select_dict.json, None without an entry.
    """

    name: str
    folder: Path
    photos: Mapping[int, Path]
    scan: Path | None
    scale: float | None
    chosen: tuple[int, ...] | None

    @property
    def params_file(self) -> Path:
        """Cameras."""
        return self.folder / PARAMS_FILE

    @property
    def landmarks_file(self) -> Path:
        """68 points of the views, distorted pixels; may be missing."""
        return self.folder / LANDMARKS_FILE


@dataclass(frozen=True)
class Checked:
    """What the check of a sample found.

    Attributes:
        views: to be used, in order.
        dropped: views that are left out, and why.
        problems: what must be repaired; names files and keys.
    """

    views: tuple[int, ...]
    dropped: tuple[str, ...]
    problems: tuple[str, ...]


def find_samples(root: Path, select: Path | None = None) -> list[RawSample]:
    """List the samples of a raw folder.

    Args:
        root: with `imgs`, or a capture of one's own.
        select: select_dict.json; None takes the root's, where there is one.

    Raises:
        DatasetNotFoundError: nothing of that kind; says what was expected.
        ValueError: a broken JSON file.
    """
    if (root / PARAMS_FILE).is_file():
        return [own_capture(root)]
    if not (root / "imgs").is_dir():
        raise DatasetNotFoundError(
            f"{root} has neither a folder 'imgs' (FaceScape's raw data) nor a file 'params.json' "
            "(a capture of your own); see docs/data/facescape.md."
        )
    path = root / SELECT_FILE if select is None else select
    chosen = read_json(path) if select is not None or path.is_file() else {}
    scales = read_json(root / SCALE_FILE) if (root / SCALE_FILE).is_file() else {}
    samples = []
    people = (entry for entry in (root / "imgs").iterdir() if entry.name.isdecimal())
    for person in sorted(people, key=lambda entry: int(entry.name)):
        for folder in sorted(person.iterdir()):
            match = _FOLDER.fullmatch(folder.name)
            if match is None or not folder.is_dir():
                continue
            name = sample_id(int(person.name), int(match[1]))
            scan = root / "mesh" / person.name / f"{folder.name}.ply"
            scan_file = scan if scan.is_file() else None
            samples.append(_sample(folder, name, scan_file, chosen, scales, root))
    if not samples:
        raise DatasetNotFoundError(
            f"{root / 'imgs'} has no folder <id>/<k>_<name>, 1/1_neutral for example."
        )
    return sorted(samples, key=lambda sample: split_id(sample.name))


def own_capture(
    folder: Path,
    views: Sequence[int] | None = None,
    scan: Path | None = None,
    scale: float | None = None,
) -> RawSample:
    """Return a capture of one's own, named `OWN_CAPTURE`.

    Args:
        folder: with photos and params.json.
        views: to use, in order; None for those that are spread best.
        scan: the true surface; None for the only .ply in the folder.
        scale: mm a unit; None where it is not known.
    """
    found = _sample(folder, OWN_CAPTURE, scan or _single_scan(folder), {}, {}, folder)
    chosen = None if views is None else tuple(views)
    return replace(found, chosen=chosen, scale=scale)


def check_sample(sample: RawSample, count: int) -> Checked:
    """Choose the views of a sample and find everything that is wrong with its files.

    Args:
        sample: the sample.
        count: views to take where select_dict.json names none.
    """
    try:
        params = read_json(sample.params_file)
        valid, dropped = _valid_views(sample, params)
        cameras = {view: read_cameras(params, [view], sample.params_file) for view in valid}
        if sample.chosen is None:
            valid = spread_views({view: cameras[view].Rt[0] for view in valid}, count)
    except (ValueError, OSError) as error:
        return Checked((), (), (str(error),))
    problems: list[str] = []
    points = None
    try:
        points = None if sample.scan is None else _scan_points(sample.scan)
    except (ValueError, OSError) as error:
        problems.append(str(error))
    used = []
    for view in valid:
        camera = cameras[view]
        try:
            lens_distortion(params, view, sample.params_file)
            height, width = int(camera.heights[0]), int(camera.widths[0])
            check_photo_size(sample.photos[view], view, height, width)
            _check_photo(sample.photos[view])
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        if points is not None and _misses_scan(points, camera.K[0], camera.Rt[0], height, width):
            dropped.append(f"{sample.folder}: view {view} shows less than half of the scan")
        else:
            used.append(view)
    if len(used) < 2 and not problems:
        problems.append(
            f"{sample.folder}: {len(used)} views can be used, two are needed "
            f"({'; '.join(dropped) or 'params.json has no more'})."
        )
    return Checked(tuple(used), tuple(dropped), tuple(problems))


def spread_views(poses: Mapping[int, Array], count: int) -> list[int]:
    """Choose views that are far apart, ordered from the middle one outwards.

    The middle one looks along the mean direction of all cameras; views more than 75 degrees from
    it (the back of the head) are left out; then the one furthest from those chosen comes next.

    Args:
        poses: view -> Rt (3,4).
        count: how many, where there are as many.
    """
    if not poses:
        return []
    names = sorted(poses)
    stacked = np.stack([poses[view] for view in names])
    rotation = stacked[:, :, :3]
    centres = -np.einsum("nji,nj->ni", rotation, stacked[:, :, 3])
    across = np.eye(3) - rotation[:, 2, :, None] * rotation[:, 2, None]
    target = np.linalg.lstsq(across.sum(0), np.einsum("nij,nj->i", across, centres), rcond=None)[0]
    directions = centres - target
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    angle = np.degrees(np.arccos((directions @ directions.T).clip(-1, 1)))
    mean = directions.mean(0)
    middle = int(np.argmax(directions @ mean))
    rest = [i for i in range(len(names)) if angle[middle, i] <= _WIDEST and i != middle]
    taken = [middle]
    while rest and len(taken) < count:
        furthest = max(rest, key=lambda i: angle[i, taken].min())
        rest.remove(furthest)
        taken.append(furthest)
    return [names[i] for i in sorted(taken, key=lambda i: (angle[middle, i], i))]


def _sample(
    folder: Path,
    name: str,
    scan: Path | None,
    chosen: Mapping[str, Any],
    scales: Mapping[str, Any],
    root: Path,
) -> RawSample:
    person, expression = map(str, split_id(name))
    photos = {
        int(path.stem): path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.stem.isdecimal()
    }
    entry = chosen.get(person, {}).get(expression)
    scale = scales.get(person, {}).get(expression)
    return RawSample(
        name,
        folder,
        photos,
        scan,
        None if scale is None else checked_scale(scale, name, root / SCALE_FILE),
        None if entry is None else tuple(entry),
    )


def _single_scan(root: Path) -> Path | None:
    found = sorted(root.glob("*.ply"))
    return found[0] if len(found) == 1 else None


def _valid_views(sample: RawSample, params: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """Return the views to choose from, or those chosen, without the invalid ones."""
    views = sample.chosen
    if views is None:
        views = tuple(sorted(int(key[:-2]) for key in params if re.fullmatch(r"\d+_K", key)))
        views = tuple(view for view in views if view in sample.photos)
    valid, dropped = [], []
    for view in views:
        if not params.get(f"{view}_valid", True):
            dropped.append(f"{sample.params_file}: '{view}_valid' is false")
        elif view not in sample.photos:
            raise DatasetNotFoundError(f"{sample.folder / f'{view}.jpg'}: the view has no photo.")
        else:
            valid.append(view)
    unused = sorted(set(sample.photos) - set(views)) if sample.chosen is None else []
    if unused:
        raise ValueError(
            f"{sample.params_file}: no key '{unused[0]}_K', but there is a photo "
            f"{sample.photos[unused[0]].name}: view {unused[0]} has no camera."
        )
    return valid, dropped


def _check_photo(path: Path) -> None:
    data = path.read_bytes()
    problem = truncation(data)
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    if problem or small is None:
        raise ValueError(f"{path}: {problem or 'not a picture that can be decoded'}.")


def _scan_points(path: Path) -> NDArray[np.float64]:
    mesh = read_mesh(path)
    if not np.isfinite(mesh.vertices).all():
        row = int(np.flatnonzero(~np.isfinite(mesh.vertices).all(1))[0])
        raise ValueError(f"{path}: vertex {row} is not finite (element vertex, x y z).")
    step = max(1, len(mesh.vertices) // _SCAN_POINTS)
    return np.asarray(mesh.vertices[::step], np.float64)


def _misses_scan(points: Array, K: Array, Rt: Array, height: int, width: int) -> bool:
    """Whether a camera sees too little of the scan."""
    seen = points @ Rt[:, :3].T + Rt[:, 3]
    pixels = seen @ K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    inside = (seen[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return bool(inside.mean() < _INSIDE)
