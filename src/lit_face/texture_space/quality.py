"""Which fits are good enough for a texture space."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUMMARY = "summary.csv"


@dataclass(frozen=True)
class Limits:
    """What a fit may be at most; limits on numbers that a run did not note are not applied.

    Attributes:
        landmarks: mean distance of the landmarks, share of the face's box (0.035 is about 6 % of
            the distance of the eyes' outer corners).
        photo: mean absolute difference of photo and render on the mask.
        yaw: degrees to either side.
        visible: share of the map, at least.
    """

    landmarks: float = 0.035
    photo: float = 0.12
    yaw: float = 60.0
    visible: float = 0.1

    def problem(self, row: Mapping[str, str], visible: float) -> str | None:
        """Say why a fit is left out, by its row of summary.csv and the visible share of its map."""
        if visible < self.visible:
            return f"{100 * visible:.0f} % of the map visible, less than {100 * self.visible:.0f} %"
        yaw = _number(row, "yaw_deg")
        if yaw is not None and abs(yaw) > self.yaw:
            return f"yaw {yaw:.0f} degrees, more than {self.yaw:.0f}"
        photo = _number(row, "photo_l1_after")
        if photo is not None and not photo <= self.photo:
            return f"photometric error {photo:.3f}, more than {self.photo:.3f}"
        points, side = _number(row, "landmarks_px_after"), _side(row)
        if points is not None and side and not points / side <= self.landmarks:
            return (
                f"landmarks off by {100 * points / side:.1f} % of the face, more than "
                f"{100 * self.landmarks:.1f} %"
            )
        return None


def read_summary(root: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a run's summary.csv by the folder of the fit; empty without the file."""
    file = root / SUMMARY
    if not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        return {row.get("folder", ""): row for row in csv.DictReader(stream)}


def row_of(name: str, summary: Mapping[str, dict[str, str]]) -> Mapping[str, str]:
    """Return the row of a map's fit, by the longest folder that its name begins with."""
    place = name.rstrip("/")
    fitting = [folder for folder in summary if folder and _begins(place, folder)]
    return summary[max(fitting, key=len)] if fitting else {}


def write_dropped(path: Path, dropped: Sequence[tuple[str, str]]) -> None:
    """Write the list of fits that were left out, and why."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("map", "reason"))
        writer.writerows(dropped)


def _begins(name: str, folder: str) -> bool:
    return name == folder or name.startswith((f"{folder}/", f"{folder}-", f"{folder}_"))


def _number(row: Mapping[str, str], key: str) -> float | None:
    try:
        return float(row.get(key, ""))
    except ValueError:
        return None


def _side(row: Mapping[str, str]) -> float | None:
    edges = [_number(row, key) for key in ("left", "top", "right", "bottom")]
    if any(edge is None for edge in edges):
        return None
    left, top, right, bottom = (edge or 0.0 for edge in edges)
    return math.sqrt(max(0.0, (right - left) * (bottom - top)))
