"""A run over many photos: read ahead, batch the network, write behind, skip what is done."""

from __future__ import annotations

import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.inference.face import Face
from lit_face.inference.finders.base import Detection
from lit_face.inference.inputs import PhotoFile
from lit_face.inference.model import FaceModel
from lit_face.inference.outputs import Export, ExportSettings, write_photo
from lit_face.inference.records import (
    RECORD,
    Problem,
    digest,
    finished_rows,
    readable,
    remove_results,
    result_folder,
    rows_of,
    write_problems,
    write_record,
    write_summary,
)
from lit_face.io.photos import decode_photo

MOST_PIXELS = 96_000_000  # of the photos that wait for the network, together
_TEMPORARY = re.compile(r"^\..+\.\d+-[0-9a-f]{8}(\..*)?$", re.DOTALL)


@dataclass(frozen=True)
class RunSettings:
    """How a run goes.

    Attributes:
        outputs: names of `lit_face.inference.outputs`.
        export: how faces are written.
        settings: fingerprint of all that changes results; other values do a photo again.
        max_faces: of a photo, the largest ones; None for all.
        batch_size: crops a run of the network.
        workers: threads that read, search and write.
        together: all photos show one person and are one batch: a photo that is not done makes all
            of them be done again, and one that fails makes all of them fail.

    Raises:
        ValueError: a number that is none, or below 1.
    """

    outputs: Sequence[str]
    export: ExportSettings
    settings: str
    max_faces: int | None = None
    batch_size: int = 16
    workers: int = 2
    together: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "max_faces"):
            value = getattr(self, name)
            if value is None and name == "max_faces":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} should be a whole number, 1 or more; found {value!r}.")


@dataclass
class RunResult:
    """What a run did, by photo: a row a face, problems, and which were done before."""

    rows: dict[str, list[Any]] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    done_before: set[str] = field(default_factory=set)


@dataclass
class _Prepared:
    photo: PhotoFile
    fingerprint: str
    pixels: NDArray[np.uint8]
    found: list[Detection]


Report = Callable[[PhotoFile, "Problem | None"], None]


class FolderRun:
    """Reconstructs photos into folders.

    Args:
        model: finds and reconstructs faces.
        photos: what to do.
        out: output folder; made where absent.
        settings: how.
        report: called once a photo, with its problem or None.
    """

    def __init__(
        self,
        model: FaceModel,
        photos: Sequence[PhotoFile],
        out: Path,
        settings: RunSettings,
        report: Report = lambda photo, problem: None,
    ) -> None:
        self.model, self.photos, self.out = model, photos, out
        self.settings, self.report = settings, report
        self.result = RunResult()
        self._all_again = False

    def run(self) -> RunResult:
        """Do it; the tables are written in any case, also when interrupted."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._sweep_up()
        self._all_again = self.settings.together and not self._are_all_done()
        try:
            with ThreadPoolExecutor(max(1, self.settings.workers)) as pool:
                try:
                    self._run(pool)
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finally:
            order = [photo.name for photo in self.photos]
            rows = [row for name in order for row in self.result.rows.get(name, [])]
            write_summary(self.out / "summary.csv", rows)
            problems = [self.result.problems[n] for n in order if n in self.result.problems]
            write_problems(self.out / "problems.csv", problems)
        return self.result

    def _run(self, pool: ThreadPoolExecutor) -> None:
        writing: deque[Future[None]] = deque()
        for group in self._groups(pool):
            for prepared, faces in self._reconstruct(group):
                writing.append(pool.submit(self._finish, prepared, faces))
                while len(writing) > 2 * self.settings.workers:
                    writing.popleft().result()
        for future in writing:
            future.result()

    def _groups(self, pool: ThreadPoolExecutor) -> Iterator[list[_Prepared]]:
        """Yield photos with faces, enough for a batch at a time, read ahead by the pool."""
        waiting, group, faces, pixels = iter(self.photos), [], 0, 0
        ahead: deque[Future[_Prepared | None]] = deque()
        while True:
            while len(ahead) <= 2 * self.settings.workers:
                photo = next(waiting, None)
                if photo is None:
                    break
                ahead.append(pool.submit(self._prepare, photo))
            if not ahead:
                break
            prepared = ahead.popleft().result()
            if prepared is None:
                continue
            group.append(prepared)
            faces += len(prepared.found)
            pixels += prepared.pixels.size // 3
            is_full = faces >= self.settings.batch_size or pixels >= MOST_PIXELS
            if is_full and not self.settings.together:
                yield group
                group, faces, pixels = [], 0, 0
        if group and not self._fails_together(group):
            yield group

    def _fails_together(self, group: list[_Prepared]) -> bool:
        """Whether photos of one person cannot be done, because one of them has a problem."""
        if not self.settings.together or not self.result.problems:
            return False
        bad = next(iter(self.result.problems.values())).photo
        for one in group:
            folder = self.out / one.photo.folder
            if finished_rows(folder, one.fingerprint, self.settings.settings) is None:
                self._remove_old(one.photo)
            error = ValueError(
                "not done: all photos of a person are fitted together, and there is a problem with "
                f"{bad}. Mend it, or take it away."
            )
            self._fail(one.photo, error)
        return True

    def _prepare(self, photo: PhotoFile) -> _Prepared | None:
        """Read a photo and find its faces; None where it is done already or has a problem."""
        try:
            data = photo.path.read_bytes()
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            self._fail(photo, ValueError("the file has disappeared") if gone else error)
            return None
        try:
            fingerprint, rows = self._finished(photo, data)
            if rows is not None and not self._all_again:
                self.result.rows[photo.name] = rows
                self.result.done_before.add(photo.name)
                self.report(photo, None)
                return None
            pixels = decode_photo(data, photo.path.name)
            found = self.model.finder(pixels, photo.path)[: self.settings.max_faces]
            if not found:
                raise ValueError("no face found")
            return _Prepared(photo, fingerprint, pixels, found)
        except Exception as error:  # one photo must not stop the others
            self._remove_old(photo)
            self._fail(photo, error)
            return None

    def _finished(self, photo: PhotoFile, data: bytes) -> tuple[str, list[Any] | None]:
        """Return the fingerprint of a photo, and its rows where it is done."""
        fingerprint = digest(os.fsencode(photo.name) + b"\0" + data)
        folder = self.out / photo.folder
        return fingerprint, finished_rows(folder, fingerprint, self.settings.settings)

    def _are_all_done(self) -> bool:
        try:
            return all(self._finished(p, p.path.read_bytes())[1] is not None for p in self.photos)
        except OSError:
            return False

    def _reconstruct(self, group: list[_Prepared]) -> list[tuple[_Prepared, list[Face]]]:
        """Run the network; where a batch fails, photo by photo, so that the others are done."""
        try:
            found = [one.found for one in group]
            batch = len(group) if self.settings.together else self.settings.batch_size
            return list(
                zip(
                    group,
                    self.model.reconstruct_found([one.pixels for one in group], found, batch),
                    strict=True,
                )
            )
        except Exception as error:
            if len(group) == 1 or self.settings.together:
                for one in group:
                    self._remove_old(one.photo)
                    self._fail(one.photo, error)
                return []
            return [pair for one in group for pair in self._reconstruct([one])]

    def _finish(self, prepared: _Prepared, faces: list[Face]) -> None:
        """Write the results of one photo; its folder appears when they are complete."""
        photo, settings = prepared.photo, self.settings
        try:
            exports = [Export(face, prepared.pixels, settings.export) for face in faces]
            with result_folder(self.out / photo.folder) as folder:
                places = write_photo(exports, settings.outputs, folder)
                rows = rows_of(photo.name, photo.folder, faces, places)
                write_record(folder, prepared.fingerprint, settings.settings, rows)
            self.result.rows[photo.name] = rows
            self.report(photo, None)
        except Exception as error:
            self._fail(photo, error)

    def _fail(self, photo: PhotoFile, error: Exception) -> None:
        if os.environ.get("LIT_FACE_TRACEBACK") == "1":
            raise error
        text = str(error) or type(error).__name__
        if not isinstance(error, OSError | ValueError):
            text = f"{type(error).__name__}: {text}"
        problem = Problem(readable(photo.name), readable(" ".join(text.split())))
        self.result.problems[photo.name] = problem
        self.report(photo, problem)

    def _remove_old(self, photo: PhotoFile) -> None:
        """Remove results of other settings or of another picture, which would look like these."""
        target = self.out / photo.folder
        if (target / RECORD).is_file():
            remove_results(target)

    def _sweep_up(self) -> None:
        """Remove what a killed run left half-written."""
        for parent in {(self.out / photo.folder).parent for photo in self.photos} | {self.out}:
            if parent.is_dir():
                for left in parent.iterdir():
                    if _TEMPORARY.match(left.name):
                        shutil.rmtree(left, ignore_errors=True)
                        if left.is_file():
                            left.unlink()
