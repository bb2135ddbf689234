"""Golden files: text that only changes on purpose. LIT_FACE_REFRESH=1 writes them anew."""

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def compare(file, text):
    """Compare a text with its golden file, or write the file when refreshing."""
    if os.environ.get("LIT_FACE_REFRESH") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.is_file(), f"{file} is absent; see the docstring of the test"
    assert text == file.read_text(), f"{file.name} changed; see the docstring of the test"
