"""A small procedural dataset in FFHQ's layout, with the truth about every picture beside it."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lit_face.data.ffhq_alignment import ffhq_alignment
from lit_face.data.miniature import write_marker
from lit_face.data.miniature_ffhq_files import write_metadata, write_pictures
from lit_face.data.miniature_people import (
    FIRST_HELD_OUT,
    SEED,
    PeoplePlan,
    PicturesToWrite,
    draw_pictures,
    upright_cameras,
    write_in_order,
)
from lit_face.data.random import sample_keys
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.similarity2d import similarity_matrix
from lit_face.io.files import atomic_folder, cache_root
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import ProceduralHead, procedural_head

log = logging.getLogger("lit_face")

VERSION = 4
PICTURE_SIZE = 256
SMALLEST = 16
_HELD_OUT_SHARE = 0.1  # of large miniatures


def miniature_ffhq(count: int = 32, cache_folder: str | Path | None = None) -> Path:
    """Return the folder of the miniature, writing it on first use.

    32 pictures are 24 of 24 people to train on and 8 of 4 others to validate on; of more pictures
    a tenth is held out, four of each person under other lights, poses and expressions. About a
    quarter has a hand, a thing or glasses before the face, which the masks leave out.
    `truth/<number>.npz` says what the pictures show (`lit_face.data.ffhq_truth`); nothing but
    evaluation may read it.

    Args:
        count: number of pictures.
        cache_folder: see `lit_face.io.files.cache_root`.

    Raises:
        ValueError: fewer than 16 pictures.
    """
    plan = plan_pictures(count)
    head = procedural_head()
    name = f"ffhq-v{VERSION}-{model_digest(head)}-{count}"
    folder = cache_root(cache_folder) / "miniatures" / name
    if not folder.is_dir():
        log.info("Writing the miniature of FFHQ, %d pictures, to %s (once)", count, folder)
        with atomic_folder(folder) as temporary:
            write_ffhq(temporary, head, plan)
    return folder


def plan_pictures(count: int) -> PeoplePlan:
    """Choose people and the pictures to hold out: the last ones; see `miniature_ffhq`."""
    if count < SMALLEST:
        raise ValueError(
            f"data.miniature_images should be at least {SMALLEST}, found {count}: some people are "
            "held out."
        )
    number = torch.arange(count)
    wanted = max(8, round(count * _HELD_OUT_SHARE))
    each = 2 if wanted < 16 else 4
    training = count - wanted // each * each
    is_held_out = number >= training
    place = number - training
    person = torch.where(is_held_out, FIRST_HELD_OUT + place // each, number)
    keys = sample_keys(SEED, 0, torch.where(is_held_out, FIRST_HELD_OUT + place, number))
    return PeoplePlan(person, is_held_out, keys)


def write_ffhq(folder: Path, model: ProceduralHead, plan: PeoplePlan) -> None:
    """Write the dataset into a folder; see `miniature_ffhq`."""
    write = partial(_write, folder, model, plan)
    points = [pictures.landmarks for pictures in write_in_order("FFHQ", len(plan.person), write)]
    write_metadata(folder, torch.cat(points), plan.held_out, PICTURE_SIZE)
    write_marker(folder, "FFHQ", SEED, model=model.name, digest=model_digest(model))


def _write(folder: Path, model: ProceduralHead, plan: PeoplePlan, rows: Tensor) -> PicturesToWrite:
    pictures = make_pictures(model, plan, rows)
    write_pictures(folder, rows.tolist(), pictures)
    return pictures


def make_pictures(model: ProceduralHead, plan: PeoplePlan, rows: Tensor) -> PicturesToWrite:
    """Render some rows of the plan; each depends on its own keys alone."""
    return draw_pictures(model, plan, rows, aligned_cameras, (PICTURE_SIZE, PICTURE_SIZE))


def aligned_cameras(keys: Tensor, points: Tensor) -> AffineCamera:
    """Draw poses and place the faces as FFHQ does, but for some degrees of roll.

    Args:
        keys: (B,).
        points: (B,68,3) landmarks, head space, mm.
    """
    camera, roll = upright_cameras(keys, points)
    camera = camera.warped(ffhq_alignment(camera.project(points), PICTURE_SIZE))
    zero = torch.zeros_like(points[:, 0, :2])
    middle = torch.full_like(zero, (PICTURE_SIZE - 1) / 2)
    return camera.warped(similarity_matrix(torch.ones_like(roll), roll, zero, middle))
