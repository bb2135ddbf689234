"""The RGBA set in one memory-mapped file: a quarter of the reference's packed floats."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.data.celeba_records import DTYPE
from lit_face.io.files import atomic_folder

log = logging.getLogger("lit_face")

IMAGES_FILE, RECORDS_FILE, FACTS_FILE = "images.npy", "records.npy", "celeba_skin.json"
FORMAT = 1
_REPORT_EVERY = 5000


class PackedPictures:
    """Pictures (N,S,S,4) uint8 and the records about them, mapped when first used.

    Args:
        folder: that `pack` or `import_packed` has written.

    Raises:
        ValueError: files of another format, or that do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, f"celeba_skin at {folder}"
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
            self.has_landmarks, self.has_person = bool(facts["landmarks"]), bool(facts["person"])
            version = facts["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / FACTS_FILE} is absent or broken ({error}); write the folder again by "
                "'python -m lit_face.data.celeba_skin pack'."
            ) from error
        if version != FORMAT:
            raise ValueError(f"{folder}: format {version}, this version reads {FORMAT}.")
        self._rows: NDArray[Any] | None = None
        self._images: NDArray[np.uint8] | None = None
        shape, count = self.images.shape, len(self.rows)
        if len(shape) != 4 or shape[0] != count or shape[1] != shape[2] or shape[3] != 4:
            raise ValueError(f"{folder}: pictures {shape} for {count} records; write it again.")

    @property
    def rows(self) -> NDArray[Any]:
        """The records: `name`, `points` (224 pixels), `person`, `split`."""
        if self._rows is None:
            self._rows = np.load(self.folder / RECORDS_FILE, mmap_mode="r", allow_pickle=False)
        return self._rows

    @property
    def images(self) -> NDArray[np.uint8]:
        """The pictures, RGB and the mask."""
        if self._images is None:
            self._images = np.load(self.folder / IMAGES_FILE, mmap_mode="r", allow_pickle=False)
        return self._images

    def read(self, row: int) -> NDArray[np.uint8]:
        """Read picture and mask (S,S,4) of a record."""
        return np.array(self.images[row])

    def __getstate__(self) -> dict[str, Any]:
        # A data loader's worker gets the path and maps the files itself.
        return {**self.__dict__, "_rows": None, "_images": None}


@contextmanager
def packed_folder(
    out: Path, rows: NDArray[Any], size: int, *, landmarks: bool, person: bool
) -> Iterator[NDArray[np.uint8]]:
    """Yield the empty pictures (N,S,S,4) of a folder that is there when the block succeeds.

    Args:
        out: folder to write.
        rows: records.
        size: S.
        landmarks: whether the records' points are known.
        person: likewise.

    Raises:
        FileExistsError: `out` is there.
    """
    check_absent(out)
    with atomic_folder(out) as temporary:
        images = np.lib.format.open_memmap(
            temporary / IMAGES_FILE, mode="w+", dtype=np.uint8, shape=(len(rows), size, size, 4)
        )
        yield images
        images.flush()
        np.save(temporary / RECORDS_FILE, rows, allow_pickle=False)
        facts = {"format": FORMAT, "landmarks": landmarks, "person": person, "size": size}
        (temporary / FACTS_FILE).write_text(json.dumps(facts) + "\n", encoding="utf-8")


def check_absent(out: Path) -> None:
    """Refuse to write where something is.

    Raises:
        FileExistsError: says so.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already; choose another folder or remove it.")


def record_table(names: list[str]) -> NDArray[Any]:
    """Return records (N,) that only have names."""
    length = max((len(name.encode()) for name in names), default=1)
    rows = np.zeros(len(names), np.dtype([("name", f"S{length}"), *DTYPE.descr]))
    rows["name"] = [name.encode() for name in names]
    rows["person"] = rows["split"] = -1
    return rows


def report(done: int, total: int, step: int) -> None:
    """Tell the progress now and then."""
    if done == total or done % _REPORT_EVERY < step:
        log.info("%d of %d pictures written", done, total)
