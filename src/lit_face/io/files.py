"""Write files and folders so that a reader never meets half of one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _temporary_name(path: Path) -> Path:
    """Return a name beside `path` that no other process uses, hidden, with the same suffix."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there replaces `path` when the block succeeds.

    The temporary file lies beside the target and keeps its suffix (writers choose formats by it).
    It is removed when the block fails. Two processes may write the same target: each reader sees
    one of the two complete files. Missing parent folders are created.

    Raises:
        FileNotFoundError: the block ended without writing the temporary file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(target)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(
                f"Nothing was written for {target}: write to the path that atomic_write yields."
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path` when the block succeeds.

    If another process finished the same folder first, that one stays and ours is dropped: use it
    for folders whose content does not depend on who writes them.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_root(folder: str | Path | None = None) -> Path:
    """Return the folder for files that can be made again: indexes, miniatures, model caches.

    In this order: `folder`, the environment variable LIT_FACE_CACHE, ~/.cache/lit_face.
    """
    chosen = folder or os.environ.get("LIT_FACE_CACHE") or Path.home() / ".cache" / "lit_face"
    return Path(chosen).expanduser()
