"""Small folders in the layout of CelebA's RGBA set, without a renderer."""

from pathlib import Path

import numpy as np

from lit_face.data.miniature_celeba import SMALLEST, miniature_celeba
from lit_face.io.images import write_rgba

SIDE = 32


def picture_of(number: int, side: int = SIDE) -> np.ndarray:
    """Noise whose mask is a disc."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 4)).astype(np.uint8)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    pixels[..., 3] = np.where(np.hypot(x, y) < 0.3 * side, 255, 0)
    return pixels


def points_of(number: int) -> np.ndarray:
    """68 whole pixels of 224, the mouth below the eyes."""
    points = np.random.default_rng(number).integers(60, 160, (68, 2)).astype(np.int32)
    points[36:48, 1] = 80
    points[48:, 1] = 150
    return points


def write_folder(root: Path, count=12, side=SIDE, landmarks=True, lists=True) -> Path:
    """Write pictures, landmarks and lists: four pictures a person, the last two held out."""
    names = [f"{number:06d}" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        write_rgba(root / "CelebA_Segment" / f"{name}.png", picture_of(number, side))
        if landmarks:
            (root / "CelebA_Landmarks").mkdir(exist_ok=True)
            points_of(number).astype("<i4").tofile(root / "CelebA_Landmarks" / f"{name}.npy")
    if lists:
        write_lists(root, names)
    return root


def write_lists(root: Path, names: list[str]) -> None:
    people = [100 + number // 4 for number in range(len(names))]
    last = people[-1]
    splits = [max(0, person - last + 2) for person in people]
    for file, values in (("identity_CelebA", people), ("list_eval_partition", splits)):
        lines = [f"{name}.jpg {value}\n" for name, value in zip(names, values, strict=True)]
        (root / f"{file}.txt").write_text("".join(lines))


def shared_miniature(factory) -> Path:
    """The smallest miniature, written once a session (`tmp_path_factory`)."""
    return miniature_celeba(SMALLEST, factory.getbasetemp() / "celeba-cache")
