"""Five points of faces in files: CelebA's list, or five lines a photo.

The points are the eyes, the nose and the corners of the mouth, left before right as they lie in the
picture, in its pixels.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray


def read_points_file(file: Path) -> NDArray[np.float64]:
    """Read five lines 'x y' as (5,2), pixels: eyes, nose, corners of the mouth.

    Raises:
        ValueError: names the file and what was expected.
    """
    text = file.read_text(encoding="utf-8-sig").replace(",", " ")
    try:
        rows = [line.split() for line in text.splitlines() if line.strip()]
        points = np.array(rows, dtype=np.float64)
    except ValueError:
        points = np.zeros(0)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(
            f"{file}: expected five lines 'x y': left eye, right eye, nose, left and right corner "
            "of the mouth, as they lie in the picture."
        )
    if points[:2, 1].mean() >= points[3:, 1].mean() or points[0, 0] >= points[1, 0]:
        raise ValueError(
            f"{file}: the left eye should lie left of the right one in the picture, and both above "
            "the mouth; y points down."
        )
    return points


def read_points_list(file: Path) -> dict[str, NDArray[np.float64]]:
    """Read `list_landmarks_align_celeba.txt`: stem -> five points (5,2), pixels.

    The two lines of heading may be absent. CelebA's left is the viewer's.

    Raises:
        ValueError: names the line that has no ten numbers.
    """
    found = {}
    for place, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        name, *rest = line.split() or [""]
        if not rest or (place <= 2 and not _is_number(rest[0])):
            continue
        try:
            points = np.array([float(value) for value in rest], np.float64).reshape(5, 2)
        except ValueError as error:
            raise ValueError(
                f"{file}, line {place}: expected a name and ten numbers, found '{line[:80]}'."
            ) from error
        found[PurePosixPath(name).stem] = points
    if not found:
        raise ValueError(f"{file}: no line with a name and ten numbers.")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
