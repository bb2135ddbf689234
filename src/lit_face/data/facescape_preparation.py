"""From the raw multi-view folder to the processed one: undistorted, resized photos and cameras."""

from __future__ import annotations

import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lit_face.data.facescape_cameras import lens_distortion, read_cameras, read_json
from lit_face.data.facescape_layout import (
    FaceScapeFolder,
)
from lit_face.data.facescape_raw import (
    Checked,
    RawSample,
    check_sample,
    find_samples,
)
from lit_face.data.facescape_tables import write_json, write_tables
from lit_face.data.facescape_views import scaled
from lit_face.io.files import atomic_folder, atomic_write
from lit_face.io.images import read_image, write_image

log = logging.getLogger("lit_face")

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]  # stage, done, total

VERSION = 1
LONG_SIDE = 1296
STAMP_FILE = "prepared.json"
_QUALITY = 95
_SHOWN = 20  # problems in one message


@dataclass(frozen=True)
class PreparationOptions:
    """How photos are prepared.

    Attributes:
        long_side: pixels, of the longer side after resizing.
        views: to take where select_dict.json names none.
        reference_pixels: intrinsics are scaled as the reference does, off by half a pixel times
            (1 - scale), and photos shrunk by plain bilinear interpolation.
    """

    long_side: int = LONG_SIDE
    views: int = 10
    reference_pixels: bool = False


@dataclass
class Summary:
    """What was done.

    Attributes:
        written: samples. unchanged: samples that were there already.
        dropped: views, and why. skipped: samples, and why.
        enlarged: number of photos that were smaller than asked for.
    """

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    enlarged: int = 0


def preprocess(
    raw: Path,
    out: Path,
    options: PreparationOptions | None = None,
    workers: int = 1,
    select: Path | None = None,
    progress: Progress | None = None,
    *,
    skip_broken: bool = False,
    samples: Sequence[RawSample] | None = None,
) -> Summary:
    """Write the processed folder of a raw one; what is there and unchanged stays.

    Everything is checked first. Photos, cameras and landmarks of a sample appear at once, or not
    at all; the JSON files of the whole are written last.

    Args:
        raw: FaceScape's raw folder, or one capture.
        out: processed folder.
        options: see `PreparationOptions`.
        workers: processes.
        select: select_dict.json other than the raw folder's.
        progress: is told of each finished sample.
        skip_broken: leave samples with problems out instead of refusing.
        samples: of `raw`; None for all.

    Raises:
        DatasetNotFoundError: no raw data there.
        ValueError: what is wrong with the inputs, all at once, by file and key.
    """
    chosen = options or PreparationOptions()
    folder, summary = FaceScapeFolder(out), Summary()
    samples = find_samples(raw, select) if samples is None else samples
    is_current = [_stamp_of(folder, s.name) == _fingerprint(s, chosen) for s in samples]
    summary.unchanged = [s.name for s, current in zip(samples, is_current, strict=True) if current]
    to_do = [s for s, current in zip(samples, is_current, strict=True) if not current]
    with _processes(workers, len(to_do)) as each:
        found = each(partial(check_sample, count=chosen.views), to_do)
        results = _told(found, len(to_do), "checked", progress)
        checks = dict(zip((s.name for s in to_do), results, strict=True))
        _report(checks, summary, skip_broken=skip_broken)
        good = [s for s in to_do if not checks[s.name].problems]
        jobs = [(s, checks[s.name].views) for s in good]
        enlarged = each(partial(_prepare, out=out, options=chosen), jobs)
        for sample, number in zip(
            good, _told(enlarged, len(good), "written", progress), strict=True
        ):
            summary.written.append(sample.name)
            summary.enlarged += number
    there = [s for s in samples if s not in to_do or s in good]
    views = {s.name: (_stamp_of(folder, s.name, whole=True) or {})["views"] for s in there}
    write_tables(raw, folder, there, views, summary.written)
    return summary


def undistorted(image: Array, K: Array, distortion: Array) -> Array:
    """Take the lens's distortion out of a photo; K stays."""
    return np.asarray(cv2.undistort(image, K, distortion))


def _prepare(job: tuple[RawSample, tuple[int, ...]], out: Path, options: PreparationOptions) -> int:
    """Write photos, params.json, landmarks.json and the scan of a sample; count enlarged photos."""
    sample, views = job
    cv2.setNumThreads(1)
    folder = FaceScapeFolder(out)
    target = folder.params_file(sample.name).parent
    params, raw_path = read_json(sample.params_file), sample.params_file
    cameras = read_cameras(params, views, raw_path)
    points = read_json(sample.landmarks_file) if sample.landmarks_file.is_file() else None
    written: dict[str, Any] = {}
    found: dict[str, Any] = {}
    shutil.rmtree(target, ignore_errors=True)  # of other inputs or options
    with atomic_folder(target) as temporary:
        for row, view in enumerate(views):
            distortion = lens_distortion(params, view, raw_path)
            photo = undistorted(read_image(sample.photos[view]), cameras.K[row], distortion)
            factor = options.long_side / max(photo.shape[:2])
            small, K = scaled(
                photo, cameras.K[row], factor, pixel_center=not options.reference_pixels
            )
            write_image(temporary / f"{view}.jpg", small, _QUALITY)
            values = {
                "K": K,
                "Rt": cameras.Rt[row],
                "height": small.shape[0],
                "width": small.shape[1],
            }
            written |= {
                f"{view}_{key}": np.asarray(value).tolist() for key, value in values.items()
            }
            if points is not None:
                entry = points.get(str(view))
                found[str(view)] = _moved(entry, cameras.K[row], distortion, K, sample, view)
        write_json(temporary / "params.json", written)
        if points is not None:
            write_json(temporary / "landmarks.json", found)
        stamp = {**_fingerprint(sample, options), "views": views}
        write_json(temporary / STAMP_FILE, stamp)
        if sample.scan is not None:
            with atomic_write(folder.scan_file(sample.name)) as scan:
                shutil.copyfile(sample.scan, scan)
    sides = np.maximum(cameras.heights, cameras.widths)
    return int((sides < options.long_side).sum())


def _moved(
    entry: Any, K: Array, distortion: Array, new_K: Array, sample: RawSample, view: int
) -> dict[str, Any] | None:
    """Move landmarks from a raw photo's pixels to those of the undistorted, resized one."""
    if entry is None:
        return None
    points = np.asarray(entry.get("points"), dtype=np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise ValueError(
            f"{sample.landmarks_file}: '{view}' should have 68 points (x, y), found {points.shape}."
        )
    moved = cv2.undistortPoints(points[:, None], K, distortion, P=new_K)[:, 0]
    return {"points": moved.round(4).tolist(), "score": float(entry.get("score", 1.0))}


def _report(checks: dict[str, Checked], summary: Summary, *, skip_broken: bool) -> None:
    problems = []
    for name, check in checks.items():
        summary.dropped += check.dropped
        problems += [f"{name}: {problem}" for problem in check.problems]
    if problems and not skip_broken:
        shown = "\n  ".join(problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{len(problems)} problems with the inputs, nothing was written:\n  {shown}{more}\n"
            "Repair them, or leave those samples out with --skip-broken."
        )
    summary.skipped += problems


def _fingerprint(sample: RawSample, options: PreparationOptions) -> dict[str, Any]:
    """Tell whether a sample has to be written again."""
    files = [sample.params_file, sample.landmarks_file, *sample.photos.values()]
    files += [] if sample.scan is None else [sample.scan]
    stats = {path.name: path.stat() for path in files if path.is_file()}
    return {
        "version": VERSION,
        "options": [options.long_side, options.views, options.reference_pixels],
        "chosen": None if sample.chosen is None else list(sample.chosen),
        "files": {name: [s.st_size, s.st_mtime_ns] for name, s in sorted(stats.items())},
    }


def _stamp_of(folder: FaceScapeFolder, name: str, *, whole: bool = False) -> dict[str, Any] | None:
    path = folder.params_file(name).with_name(STAMP_FILE)
    if not path.is_file():
        return None
    stamp = json.loads(path.read_text(encoding="utf-8"))
    return stamp if whole else {key: value for key, value in stamp.items() if key != "views"}


@contextmanager
def _processes(workers: int, items: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Yield a `map` that runs in some processes."""
    count = min(workers, items)
    if count < 2:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield pool.map


def _told(
    results: Iterable[Any], total: int, stage: str, progress: Progress | None
) -> Iterator[Any]:
    for done, result in enumerate(results, 1):
        if progress is not None:
            progress(stage, done, total)
        yield result
