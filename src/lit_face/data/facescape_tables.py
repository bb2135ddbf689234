"""The JSON files of a processed FaceScape folder, and what else belongs to all its samples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_face.data.facescape_cameras import read_json
from lit_face.data.facescape_layout import (
    SCALE_FILE,
    SELECT_FILE,
    SPLIT_FILE,
    FaceScapeFolder,
    sample_id,
    split_id,
)
from lit_face.data.facescape_raw import LAST_TRAINING_PERSON, OWN_CAPTURE, RawSample
from lit_face.io.files import atomic_folder, atomic_write

_FRAME = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]  # of no other known


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file at once."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def write_tables(
    raw: Path,
    folder: FaceScapeFolder,
    samples: Sequence[RawSample],
    views: Mapping[str, Sequence[int]],
    written: Sequence[str],
) -> None:
    """Write select_dict.json, id.json, Rt_scale_dict.json, the mask and the model's files.

    Args:
        raw: raw folder.
        folder: processed one; what it knows of other samples stays.
        samples: that are in both.
        views: of each, in order.
        written: samples that were written just now.
    """
    tables: dict[str, dict[str, Any]] = {
        name: read_json(folder.root / name) if (folder.root / name).is_file() else {}
        for name in (SELECT_FILE, SCALE_FILE)
    }
    for sample in samples:
        person, expression = map(str, split_id(sample.name))
        chosen = list(views[sample.name])
        tables[SELECT_FILE] = _with(tables[SELECT_FILE], person, expression, chosen)
        if sample.scale is not None:
            known = read_json(raw / SCALE_FILE) if (raw / SCALE_FILE).is_file() else {}
            entry = known.get(person, {}).get(expression, [sample.scale, _FRAME])
            tables[SCALE_FILE] = _with(tables[SCALE_FILE], person, expression, entry)
        elif sample.name in written:  # what an earlier base fit said is no longer true
            others = dict(tables[SCALE_FILE].get(person, {}))
            others.pop(expression, None)
            tables[SCALE_FILE] = {**tables[SCALE_FILE], person: others}
    names = sorted(
        sample_id(int(p), int(k)) for p, found in tables[SELECT_FILE].items() for k in found
    )
    tables[SPLIT_FILE] = _split(raw, names)
    for name, content in tables.items():
        if any(content.values()):
            write_json(folder.root / name, content)
    model = raw / "predefined"
    if model.is_dir() and not folder.predefined.is_dir():
        with atomic_folder(folder.predefined) as temporary:
            shutil.copytree(model, temporary, dirs_exist_ok=True)
    mask = folder.predefined / "facial_mask.png"
    for source in (raw / "facial_mask.png", mask):
        if source.is_file() and not folder.mask_file.is_file():
            with atomic_write(folder.mask_file) as path:
                shutil.copyfile(source, path)


def _split(raw: Path, names: list[str]) -> dict[str, list[str]]:
    """Return id.json's content: the raw folder's, else by person."""
    if (raw / SPLIT_FILE).is_file():
        known = read_json(raw / SPLIT_FILE)
        return {
            split: [n for n in known.get(split, []) if n in names] for split in ("train", "eval")
        }
    is_own = names == [OWN_CAPTURE]
    split: dict[str, list[str]] = {"train": [], "eval": []}
    for name in names:
        trains = split_id(name)[0] <= LAST_TRAINING_PERSON and not is_own
        split["train" if trains else "eval"].append(name)
    return split


def _with(table: dict[str, Any], person: str, expression: str, value: Any) -> dict[str, Any]:
    return {**table, person: {**table.get(person, {}), expression: value}}
