"""Small folders in the layouts of FFHQ, with a bright pixel at the first landmark."""

import json
from pathlib import Path

import numpy as np

from lit_face.data.miniature_ffhq import SMALLEST, miniature_ffhq
from lit_face.io.images import write_image

SIDE = 64


def shared_miniature(factory) -> Path:
    """The smallest miniature, written once a session (`tmp_path_factory`)."""
    return miniature_ffhq(SMALLEST, factory.getbasetemp() / "ffhq-cache")


def points_of(number: int, side: int = SIDE) -> np.ndarray:
    """68 whole pixels around the middle; the first one is alone in its row."""
    random = np.random.default_rng(number)
    points = random.integers(side // 4 + 4, 3 * side // 4, (68, 2)).astype(float)
    points[0] = (side // 4 + number % 3, side // 4)
    points[8] = (side // 2, int(0.85 * side))
    return points


def picture_of(number: int, side: int = SIDE) -> np.ndarray:
    picture = np.full((side, side, 3), 60, np.uint8)
    x, y = points_of(number, side)[0].astype(int)
    picture[y, x] = 255
    return picture


def disc(side: int = SIDE, radius: float = 0.3) -> np.ndarray:
    """Labels of a segmentation: 3 inside of a circle, 0 outside."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(x, y) < radius * side, 3, 0).astype(np.float64)


def write_tree(root: Path, numbers=range(6), side=SIDE, tree="images1024x1024") -> Path:
    """Write pictures, landmarks/ and segmentation/ as files."""
    for number in numbers:
        name = f"{number - number % 1000:05d}/{number:05d}"
        write_image(root / tree / f"{name}.png", picture_of(number, side))
        for folder, array in (("landmarks", points_of(number, side)), ("segmentation", disc(side))):
            (root / folder).mkdir(exist_ok=True)
            np.save(root / folder / f"{number:05d}.npy", array)
    return root


def write_json(root: Path, numbers=range(6), side=SIDE, stored_side=1024, held_out=(4, 5)) -> None:
    """Write the metadata with landmarks in pixels of pictures of `stored_side`."""
    content = {}
    for number in numbers:
        points = (points_of(number, side) + 0.5) * (stored_side / side) - 0.5
        content[str(number)] = {
            "category": "validation" if number in held_out else "training",
            "image": {"pixel_size": [stored_side] * 2, "face_landmarks": points.tolist()},
        }
    (root / "ffhq-dataset-v2.json").write_text(json.dumps(content))
