"""The tiny miniature of FaceScape, made once a session, and copies of it to break."""

import json
import shutil
from pathlib import Path

from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.facescape_preparation import PreparationOptions, preprocess
from lit_face.data.miniature_facescape import miniature_facescape
from lit_face.data.miniature_facescape_processed import processed_miniature

LONG_SIDE = 96


def tiny_raw() -> Path:
    """The raw folder: people 1, 2 (train) and 331 (eval, landscape), four views and a bad one."""
    return miniature_facescape("tiny")


def tiny_processed() -> FaceScapeFolder:
    """The processed folder with base meshes and maps of 32 texels."""
    return processed_miniature("tiny")


def raw_copy(target: Path) -> Path:
    """Copy the raw folder, to be broken."""
    shutil.copytree(tiny_raw(), target, ignore=shutil.ignore_patterns("truth", "tu"))
    return target


def edit_json(path: Path, **changes) -> None:
    """Set keys of a JSON file; None takes a key out."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        name = key.removeprefix("view_")
        if value is None:
            content.pop(name)
        else:
            content[name] = value
    path.write_text(json.dumps(content))


def prepared(raw: Path, out: Path, **options):
    """Preprocess at the photos' own size."""
    return preprocess(raw, out, PreparationOptions(long_side=LONG_SIDE), **options)
