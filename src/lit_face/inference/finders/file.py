"""Boxes or landmarks that somebody else has found, from a table."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from lit_face.inference.finders.base import (
    Detection,
    Picture,
    Points,
    box_of_five_points,
    box_of_landmarks,
)

_FACE = {"box", "landmarks", "five_points"}
_EDGES = ("left", "top", "right", "bottom")


class FileFinder:
    """Looks faces up in a .csv or .json file.

    CSV, a line a face: the columns photo, left, top, right, bottom and, if you like, confidence;
    `summary.csv` of a run is such a file. Or photo, x0, y0, ..., x67, y67: the 68 landmarks.

    JSON: {"a.jpg": [{"box": [left, top, right, bottom], "confidence": 0.9},
    {"landmarks": [[x, y], ...]}], ...}, landmarks in iBUG order, 68 of them; or "five_points":
    eyes, nose and corners of the mouth, left before right as they lie in the picture, from which
    the box is estimated unless it is there too.

    `photo` is the name of the file, or as much of the path before it as makes it unique. Pixels;
    the first pixel's centre is (0, 0). Boxes are the tight ones of the 68 landmarks.

    Args:
        path: of the table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file's name, the line or photo, and what is wrong there.
    """

    def __init__(self, path: str) -> None:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"finder.path={path}: there is no such file.")
        if file.suffix.lower() not in (".csv", ".json"):
            raise ValueError(f"finder.path={path}: should be a .csv or .json file.")
        read = _read_json if file.suffix.lower() == ".json" else _read_csv
        self.sources = [file]
        self._faces: dict[str, list[Detection]] = {}
        for photo, detection in read(file):
            self._faces.setdefault(_key(photo), []).append(detection)

    def __call__(self, image: Picture, path: Path | None = None) -> list[Detection]:
        """Return the faces of a photo, the largest first; none where the table has none.

        Raises:
            ValueError: no path is given.
        """
        if path is None:
            raise ValueError("finder=file needs photos that are files, to look up their names.")
        parts = path.absolute().parts
        for start in range(len(parts)):  # the longest name that the table has
            found = self._faces.get(_key("/".join(parts[start:])))
            if found is not None:
                return sorted(found, key=lambda detection: -detection.size)
        return []


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./").lstrip("/"))


def _read_csv(file: Path) -> list[tuple[str, Detection]]:
    faces = []
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = set(reader.fieldnames or ())
        with_points = {"x0", "y0", "x67", "y67"} <= columns
        if "photo" not in columns or not (with_points or set(_EDGES) <= columns):
            raise ValueError(
                f"{file}: the columns should be photo, {', '.join(_EDGES)}, or photo, x0, y0, ..., "
                f"x67, y67; found {', '.join(sorted(columns)) or 'none'}."
            )
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            try:
                confidence = float(row.get("confidence") or 1.0)
                if with_points:
                    points = [[float(row[f"x{n}"]), float(row[f"y{n}"])] for n in range(68)]
                    entry: dict[str, Any] = {"landmarks": points}
                else:
                    entry = {"box": [float(row[edge]) for edge in _EDGES]}
            except (TypeError, ValueError, KeyError) as error:
                raise ValueError(f"{where}: a number is missing or none ({error}).") from error
            faces.append((row["photo"], _detection({**entry, "confidence": confidence}, where)))
    return faces


def _read_json(file: Path) -> list[tuple[str, Detection]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file}: no JSON ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise ValueError(f'{file}: should be {{"a.jpg": [{{"box": [...]}}, ...], ...}}.')
    return [
        (photo, _detection(entry, f"{file}, {photo}, face {number}"))
        for photo, entries in content.items()
        for number, entry in enumerate(entries, 1)
    ]


def _detection(entry: Any, where: str) -> Detection:
    if not isinstance(entry, dict) or not (_FACE & set(entry)):
        raise ValueError(f"{where}: a face should have 'box' or 'landmarks', or 'five_points'.")
    try:
        confidence = float(entry.get("confidence", 1.0))
        points = five = None
        values = entry.get("box")
        if "landmarks" in entry:
            points = _points(entry, "landmarks", 68)
            values = box_of_landmarks(points)
        elif "five_points" in entry:
            five = _points(entry, "five_points", 5)
            values = box_of_five_points(five) if values is None else values
        left, top, right, bottom = (float(value) for value in values or ())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}.") from error
    if not (right > left and bottom > top) or not np.isfinite([left, top, right, bottom]).all():
        raise ValueError(f"{where}: a box should have right > left and bottom > top.")
    sure = min(max(confidence, 0.0), 1.0)
    return Detection((left, top, right, bottom), sure, points, five_points=five)


def _points(entry: dict[str, Any], name: str, count: int) -> Points:
    points = np.asarray(entry[name], dtype=np.float64)
    if points.shape not in ((count, 2), (count, 3)) or not np.isfinite(points).all():
        raise ValueError(f"{name} should be {count} finite points, found {points.shape}")
    return points[:, :2]
