"""A small procedural dataset in the layout of CelebA's RGBA set, with the truth beside it."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.celeba_layout import (
    ALIGNED,
    IDENTITY_FILE,
    LANDMARKS,
    PARTITION_FILE,
    POINTS_FILE,
    SEGMENT,
)
from lit_face.data.miniature import write_marker
from lit_face.data.miniature_people import (
    FIRST_HELD_OUT,
    PeoplePlan,
    PicturesToWrite,
    draw_pictures,
    upright_cameras,
    write_in_order,
    write_truth,
)
from lit_face.data.random import sample_keys
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.five_points import DEEP3D_SIZE, five_point_box, five_points, standard_points
from lit_face.geometry.similarity2d import box_to_crop, similarity_matrix
from lit_face.io.files import atomic_folder, cache_root
from lit_face.io.images import write_image, write_rgba
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import ProceduralHead, procedural_head
from lit_face.rendering.rasterize import rasterize

log = logging.getLogger("lit_face")

VERSION = 1
SEED = 2020
SMALLEST = 12
EACH = 4  # pictures a person
_MOST_HELD_OUT = 16  # people, of each held-out split
_FIRST = (3_000_000, FIRST_HELD_OUT + 100_000, FIRST_HELD_OUT + 200_000)  # people and pictures
_CELEBA_SIZE = (218, 178)
_CELEBA_EYES = ((69.5, 111.5), (108.5, 111.5))  # where CelebA's alignment brings their middles
_MOST_JPEGS = 48
_EAR = 0.1  # weight of the ears' region that is no face any more


def miniature_celeba(count: int = 48, cache_folder: str | Path | None = None) -> Path:
    """Return the folder of the miniature, writing it on first use.

    Four pictures a person under other lights, poses and expressions. A sixth of the people
    validates and a sixth tests, at most 16 each, so that 48 pictures are 32, 8 and 8; those
    people are in no miniature of any size to train on. About a quarter of the pictures has a hand,
    a thing or glasses before the face, which alpha leaves out. Up to 48 pictures have CelebA's
    aligned jpg files too. `truth/<name>.npz` says what the crops show (`lit_face.data.ffhq_truth`);
    nothing but evaluation may read it.

    Args:
        count: number of pictures.
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        ValueError: fewer than 12 pictures.
    """
    plan, split = plan_pictures(count)
    head = procedural_head()
    name = f"celeba-v{VERSION}-{model_digest(head)}-{count}"
    folder = cache_root(cache_folder) / "miniatures" / name
    if not folder.is_dir():
        log.info("Writing the miniature of CelebA, %d pictures, to %s (once)", count, folder)
        with atomic_folder(folder) as temporary:
            write_celeba(temporary, head, plan, split)
    return folder


def plan_pictures(count: int) -> tuple[PeoplePlan, Tensor]:
    """Choose people and splits; see `miniature_celeba`.

    Returns:
        The plan, and the split (N,) of each picture: 0 train, 1 val, 2 test, in this order.
    """
    if count < SMALLEST:
        raise ValueError(
            f"data.miniature_images should be at least {SMALLEST}, found {count}: {EACH} pictures "
            "a person, and some people are held out twice over."
        )
    held_out = EACH * min(_MOST_HELD_OUT, max(1, round(count / EACH / 6)))
    sizes = torch.tensor([count - 2 * held_out, held_out, held_out])
    split = torch.arange(3).repeat_interleave(sizes)
    place = torch.cat([torch.arange(int(size)) for size in sizes])
    first = torch.tensor(_FIRST)[split]
    keys = sample_keys(SEED, 0, first + place)
    return PeoplePlan(first + place // EACH, split > 0, keys), split


def write_celeba(folder: Path, model: ProceduralHead, plan: PeoplePlan, split: Tensor) -> None:
    """Write the dataset into a folder; see `miniature_celeba`."""
    count = len(plan.person)
    names = [f"{number:06d}" for number in range(1, count + 1)]
    for name in (SEGMENT, LANDMARKS, "truth"):
        (folder / name).mkdir()
    for _ in write_in_order("CelebA", count, partial(_write_crops, folder, names, model, plan)):
        pass
    if count <= _MOST_JPEGS:
        write = partial(_write_jpegs, folder, names, model, plan)
        points = [
            five_points(pictures.landmarks[..., :2])
            for pictures in write_in_order("CelebA (aligned jpg)", count, write)
        ]
        _write_points(folder / POINTS_FILE, names, torch.cat(points).round().long())
    for file, numbers in ((IDENTITY_FILE, plan.person), (PARTITION_FILE, split)):
        lines = [f"{n}.jpg {value}\n" for n, value in zip(names, numbers.tolist(), strict=True)]
        (folder / file).write_text("".join(lines), encoding="utf-8")
    write_marker(folder, "CelebA", SEED, model=model.name, digest=model_digest(model))


def make_crops(model: ProceduralHead, plan: PeoplePlan, rows: Tensor) -> PicturesToWrite:
    """Render some rows of the plan as Deep3D's crops; each depends on its own keys alone."""
    standard = standard_points(five_points(model.landmarks(model.mean[None]))[0])

    def place(keys: Tensor, points: Tensor) -> AffineCamera:
        camera, roll = upright_cameras(keys, points)
        camera = camera.warped(_turn(roll, camera.project(points).mean(1)[:, :2]))
        box = five_point_box(five_points(camera.project(points)[..., :2]), standard)
        return camera.warped(box_to_crop(box, DEEP3D_SIZE))

    size = (DEEP3D_SIZE, DEEP3D_SIZE)
    shown = 1 - model.regions["mouth_interior"]
    return draw_pictures(model, plan, rows, place, size, shown)


def face_alpha(pictures: PicturesToWrite) -> Tensor:
    """Return what alpha shows (B,1,H,W), 0 or 1: face, brows, eyes, nose, lips.

    As `skin_mask` of `make_crops`, but only where the head's surface is none of ears, neck and
    mouth: hair that hangs beside the face lets no skin through.
    """
    model = pictures.model
    seen = rasterize(pictures.image_vertices, model.faces, (DEEP3D_SIZE, DEEP3D_SIZE))
    nearest = face_vertices(model)[model.faces[seen.clamp(min=0)]].all(-1)
    is_face = nearest & (seen >= 0) & (pictures.skin_mask[:, 0] > 0.5)
    return is_face[:, None].float()


def face_vertices(model: MorphableModel) -> Tensor:
    """Say which vertices (V,) are face, or head above the brows; no ears, not in the mouth."""
    regions = model.regions
    brows = model.landmarks(model.mean[None])[0, 17:27, 1].mean()
    is_head = (regions["face"] > 0.5) | (model.mean[:, 1] > brows)
    return is_head & (regions["ears"] < _EAR) & (regions["mouth_interior"] < 0.5)


def _celeba_cameras(keys: Tensor, points: Tensor) -> AffineCamera:
    """Bring the eyes where CelebA has them."""
    camera, _ = upright_cameras(keys, points)
    eyes = five_points(camera.project(points)[..., :2])[:, :2]
    wanted = eyes.new_tensor(_CELEBA_EYES)
    apart, target = eyes[:, 1] - eyes[:, 0], wanted[1] - wanted[0]
    angle = torch.atan2(target[1], target[0]) - torch.atan2(apart[:, 1], apart[:, 0])
    middle = eyes.mean(1)
    shift = wanted.mean(0) - middle
    return camera.warped(similarity_matrix(target.norm() / apart.norm(dim=1), angle, shift, middle))


def _turn(angle: Tensor, centre: Tensor) -> Tensor:
    return similarity_matrix(torch.ones_like(angle), angle, torch.zeros_like(centre), centre)


def _write_crops(
    folder: Path, names: list[str], model: ProceduralHead, plan: PeoplePlan, rows: Tensor
) -> PicturesToWrite:
    pictures = make_crops(model, plan, rows)
    pixels = _pixels(torch.cat([pictures.image, face_alpha(pictures)], dim=1))
    for place, row in enumerate(rows.tolist()):
        write_rgba(folder / SEGMENT / f"{names[row]}.png", pixels[place])
        points = pictures.landmarks[place, :, :2].double().numpy()
        np.rint(points).astype("<i4").tofile(folder / LANDMARKS / f"{names[row]}.npy")
        write_truth(folder / "truth" / f"{names[row]}.npz", pictures, place, landmarks=points)
    return pictures


def _write_jpegs(
    folder: Path, names: list[str], model: ProceduralHead, plan: PeoplePlan, rows: Tensor
) -> PicturesToWrite:
    pictures = draw_pictures(model, plan, rows, _celeba_cameras, _CELEBA_SIZE)
    pixels = _pixels(pictures.image)
    for place, row in enumerate(rows.tolist()):
        write_image(folder / ALIGNED / f"{names[row]}.jpg", pixels[place])
    return pictures


def _write_points(file: Path, names: list[str], points: Tensor) -> None:
    parts = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    lines = [str(len(names)), " ".join(f"{part}_{axis}" for part in parts for axis in "xy")]
    for name, row in zip(names, points.flatten(1).tolist(), strict=True):
        lines.append(" ".join([f"{name}.jpg", *map(str, row)]))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    levels = image.clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
