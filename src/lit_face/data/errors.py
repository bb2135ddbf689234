"""Errors that datasets raise before training starts."""

from __future__ import annotations


class DatasetNotFoundError(FileNotFoundError):
    """A dataset's folder is absent, incomplete or of another layout; says what to do."""
