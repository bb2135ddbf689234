"""Whether files of weights are to be read while a network is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COME_LATER = ContextVar("weights_come_later", default=False)


def weights_come_later() -> bool:
    """Whether a checkpoint fills what is being built: a file that it started from is not needed."""
    return _COME_LATER.get()


@contextmanager
def filled_by_checkpoint() -> Iterator[None]:
    """Build networks empty, whatever their options say of files of weights."""
    token = _COME_LATER.set(True)
    try:
        yield
    finally:
        _COME_LATER.reset(token)
