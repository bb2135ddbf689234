"""Stages of work on a folder: done once, timed, and done again when what they depend on changes."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lit_face.io.files import atomic_write

Progress = Callable[[str, int, int, str], None]  # stage, done, of all, how it ended

_RECORDS = "stages.json"
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # what clear_refs takes, see proc(5)


@dataclass(frozen=True)
class StageRecord:
    """What one stage took.

    Attributes:
        name: of the stage.
        seconds: wall clock.
        peak_mib: largest memory of the process in that time, MiB (where the system does not tell
            stages apart, since its start).
        device_mib: largest memory of an accelerator, MiB; 0 without one.
        digest: of what the stage depends on.
    """

    name: str
    seconds: float
    peak_mib: float
    device_mib: float
    digest: str


class Stages:
    """Runs stages one after the other and remembers in the folder what is done.

    A stage is skipped if what it depends on, which is all that the stages before it depend on, is
    what it was, and its files are there.

    Args:
        folder: where files go.
        inputs: digest of what the first stage depends on.
        report: is told of progress.
    """

    def __init__(self, folder: Path, inputs: str, report: Progress) -> None:
        self.folder, self.report = folder, report
        self.records: list[StageRecord] = []
        self.skipped: list[str] = []
        self._digest = inputs
        self._before = _read_records(folder / _RECORDS)

    def run(
        self,
        name: str,
        settings: Sequence[Any],
        files: Sequence[Path],
        work: Callable[[Callable[[int, int], None]], Any],
    ) -> None:
        """Run a stage unless it is done.

        Args:
            name: of the stage, unique.
            settings: plain values that it depends on beside the stages before it.
            files: that it writes.
            work: writes them; takes a function to be told how many parts of how many are done.
        """
        text = json.dumps([self._digest, name, *settings], default=str)
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        before = self._before.get(name)
        if before is not None and before.digest == self._digest and _all_there(files):
            self.records.append(before)
            self.skipped.append(name)
            self.report(name, 1, 1, "done before")
            return
        if self._before.pop(name, None) is not None:
            self._write()  # from now on its files are of no known origin
        self.report(name, 0, 1, "")
        with metered() as meter:
            work(lambda done, total: self.report(name, done, total, ""))
        self.records.append(StageRecord(name, meter[0], meter[1], meter[2], self._digest))
        self._write()
        self.report(name, 1, 1, f"{self.records[-1].seconds:.1f} s")

    def _write(self) -> None:
        done = {record.name for record in self.records}
        later = [record for name, record in self._before.items() if name not in done]
        content = [asdict(record) for record in (*self.records, *later)]
        with atomic_write(self.folder / _RECORDS) as temporary:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


@contextmanager
def metered() -> Iterator[list[float]]:
    """Measure into the yielded list: seconds, peak MiB of the process and of an accelerator."""
    found: list[float] = []
    _reset_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    yield found
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    found += [time.perf_counter() - start, _peak_mib(), device]


def _reset_peak() -> None:
    if _CLEAR.exists():
        try:
            _CLEAR.write_text(_RESET_PEAK)
        except OSError:
            return


def _peak_mib() -> float:
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _all_there(files: Sequence[Path]) -> bool:
    return all(file.is_file() for file in files)


def _read_records(path: Path) -> dict[str, StageRecord]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {entry["name"]: StageRecord(**entry) for entry in content}
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # a first run, or a file of another version: all stages run
