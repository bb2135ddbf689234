"""The RGBA set as a folder of PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.data.celeba_layout import SEGMENT, find_layout
from lit_face.data.celeba_records import DTYPE, RecordReader
from lit_face.data.index import Verify, packed_index
from lit_face.io.images import read_rgba


class Pictures:
    """Pictures and the records about them.

    Args:
        root: see `celeba_layout.find_layout`.
        max_rejected: accepted fraction of broken records.
        verify: see `CelebASkinDataset`.
        cache_folder: where the index goes.

    Attributes:
        name: for messages.
        has_landmarks: whether the records' `points` are known.
        has_person: likewise.
    """

    def __init__(
        self,
        root: Path,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
    ) -> None:
        layout = find_layout(root)
        self.folder = layout.root / SEGMENT
        self.name = f"celeba_skin at {layout.root}"
        self.has_landmarks, self.has_person = layout.has_landmarks, layout.person is not None
        self.index = packed_index(
            "celeba_skin", layout.root, layout.names, layout.stats, DTYPE, RecordReader(layout),
            max_rejected=max_rejected, verify=verify, cache_folder=cache_folder,
        )  # fmt: skip

    @property
    def rows(self) -> NDArray[Any]:
        """The records: `name`, `points` (224 pixels), `person`, `split`."""
        return self.index.rows

    def read(self, row: int) -> NDArray[np.uint8]:
        """Read picture and mask (H,H,4) of a record."""
        return read_rgba(self.folder / self.rows["name"][row].decode())
