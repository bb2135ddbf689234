"""A small procedural dataset in FFHQ's layout, with the truth about every picture beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from lit_face.data.ffhq_alignment import ffhq_alignment
from lit_face.data.ffhq_truth import face_skin
from lit_face.data.miniature import write_marker
from lit_face.data.miniature_ffhq_files import PicturesToWrite, write_metadata, write_pictures
from lit_face.data.photographs.camera import pose_camera, white_balance
from lit_face.data.photographs.light import sample_lights
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import normal, sample_keys, uniform
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.geometry.similarity2d import similarity_matrix
from lit_face.io.files import atomic_folder, cache_root
from lit_face.metrics.skin_tone import typology_angle_deg
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import ProceduralHead, procedural_head
from lit_face.rendering.color import srgb_to_linear

log = logging.getLogger("lit_face")

VERSION = 4
SEED = 1024
PICTURE_SIZE = 256
SMALLEST = 16
_BATCH = 16
_HELD_OUT_SHARE = 0.1  # of large miniatures
_FIRST_HELD_OUT = 1_000_000  # people and pictures
_LARGEST = 3.0  # standard deviations
_BANK_NOISE = 0.1
_SHOWN = 0.8  # share of the albedo population that training sees
_GOLDEN_RATIO = 0.6180339887498949  # its multiples fill [0,1) evenly, however many there are
_OCCLUSION = 0.25
_IDENTITY, _ALBEDO_ROW, _ALBEDO, _EXPRESSION_ROW, _EXPRESSION, _POSE = range(600, 606)
# Standard deviation and limit in degrees of pitch, yaw and the roll that alignment leaves.
_ANGLES = ((8.0, 20.0), (20.0, 45.0), (4.0, 10.0))


@dataclass(frozen=True, eq=False)
class FFHQPlan:
    """Who is on which picture.

    Attributes:
        person: (N,) int64; the training pictures show one person each, and the people of
            validation are in no miniature of any size to train on.
        held_out: (N,) bool, the validation pictures: the last ones.
        picture_keys: (N,) random keys of light, pose, expression, hair and background.
    """

    person: Tensor
    held_out: Tensor
    picture_keys: Tensor


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


def plan_pictures(count: int) -> FFHQPlan:
    """Choose people and the pictures to hold out; see `miniature_ffhq`."""
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
    person = torch.where(is_held_out, _FIRST_HELD_OUT + place // each, number)
    keys = sample_keys(SEED, 0, torch.where(is_held_out, _FIRST_HELD_OUT + place, number))
    return FFHQPlan(person, is_held_out, keys)


def write_ffhq(folder: Path, model: ProceduralHead, plan: FFHQPlan) -> None:
    """Write the dataset into a folder; see `miniature_ffhq`."""
    rows = torch.arange(len(plan.person)).split(_BATCH)
    done = 0
    points = []
    workers = min(os.cpu_count() or 1, 4)
    with ThreadPoolExecutor(workers) as pool:
        for part in _in_order(pool, folder, model, plan, rows):
            points.append(part)
            done += len(part)
            if done % 256 < _BATCH:
                log.info("FFHQ miniature: %d of %d pictures", done, len(plan.person))
    write_metadata(folder, torch.cat(points), plan.held_out, PICTURE_SIZE)
    write_marker(folder, "FFHQ", SEED, model=model.name, digest=model_digest(model))


def _in_order(
    pool: ThreadPoolExecutor,
    folder: Path,
    model: ProceduralHead,
    plan: FFHQPlan,
    rows: tuple[Tensor, ...],
) -> Iterator[Tensor]:
    def write(part: Tensor) -> Tensor:
        pictures = make_pictures(model, plan, part)
        write_pictures(folder, part.tolist(), pictures)
        return pictures.landmarks

    yield from pool.map(write, rows)


@torch.no_grad()
@fp32_region()
def make_pictures(model: ProceduralHead, plan: FFHQPlan, rows: Tensor) -> PicturesToWrite:
    """Render some rows of the plan; each depends on its own keys alone."""
    keys = plan.picture_keys[rows]
    coefficients = people(model, plan.person[rows], plan.held_out[rows])
    bank = model.expression_bank
    row = (uniform(keys, _EXPRESSION_ROW) * len(bank)).long().clamp(max=len(bank) - 1)
    coefficients["expression"] = _with_noise(bank[row], keys, _EXPRESSION)
    vertices = model(coefficients["identity"], coefficients["expression"])
    camera = aligned_cameras(keys, model.landmarks(vertices))
    found = render_photographs(
        model, coefficients, camera, keys, (PICTURE_SIZE, PICTURE_SIZE), occlusion=_OCCLUSION
    )
    return PicturesToWrite(
        image=found.image,
        skin_mask=found.skin_mask,
        landmarks=camera.project(model.landmarks(vertices)),
        image_vertices=camera.project(vertices),
        model=model,
        coefficients=coefficients,
        camera=camera,
        light=sample_lights(keys).coefficients() * white_balance(keys)[:, None],
        person=plan.person[rows],
        tone_deg=typology_angle_deg(
            srgb_to_linear(model.albedo(coefficients["albedo"]).clamp(0.01, 1)), face_skin(model)
        ),
    )


def people(model: ProceduralHead, person: Tensor, held_out: Tensor) -> dict[str, Tensor]:
    """Draw identity and albedo (B,K) of people; one albedo drives diffuse and specular.

    Held-out people take their albedo from a fifth of the model's population that no training
    person comes from, spread evenly from the lightest to the darkest skin.
    """
    keys = sample_keys(SEED + 1, 0, person)
    identity = normal(keys, _IDENTITY, model.identity_size).clamp(-_LARGEST, _LARGEST)
    bank = model.albedo_bank
    first = round(_SHOWN * len(bank))
    tones = first + _by_tone(model, first)
    spread = (0.5 + (person - _FIRST_HELD_OUT) * _GOLDEN_RATIO) % 1.0
    hidden = tones[(spread * len(tones)).long().clamp(0, len(tones) - 1)]
    shown = (uniform(keys, _ALBEDO_ROW) * first).long().clamp(max=first - 1)
    albedo = _with_noise(bank[torch.where(held_out, hidden, shown)], keys, _ALBEDO)
    result = {"identity": identity, "albedo": albedo}
    if model.specular_basis is not None:
        result["specular"] = albedo[:, : model.specular_basis.shape[2]]
    return result


@lru_cache(maxsize=2)
def _by_tone(model: ProceduralHead, first: int) -> Tensor:
    """Return the rows of the population from `first` on, lightest skin first."""
    albedo = srgb_to_linear(model.albedo(model.albedo_bank[first:]).clamp(0.01, 1))
    return typology_angle_deg(albedo, model.regions["nose"]).argsort(descending=True)


def aligned_cameras(keys: Tensor, points: Tensor) -> AffineCamera:
    """Draw poses and place the faces as FFHQ does, but for some degrees of roll.

    Args:
        keys: (B,).
        points: (B,68,3) landmarks, head space, mm.
    """
    spread, limit = keys.new_tensor(_ANGLES, dtype=torch.float32).unbind(1)
    angles = torch.deg2rad((normal(keys, _POSE, 3) * spread).clamp(-limit, limit))
    roll = angles[:, 2].clone()
    angles[:, 2] = 0
    zero = torch.zeros_like(points[:, 0, :2])
    camera = pose_camera(angles, zero, points, scale=torch.ones_like(roll))
    camera = camera.warped(ffhq_alignment(camera.project(points), PICTURE_SIZE))
    middle = torch.full_like(zero, (PICTURE_SIZE - 1) / 2)
    turn = similarity_matrix(torch.ones_like(roll), roll, torch.zeros_like(zero), middle)
    return camera.warped(turn)


def _with_noise(values: Tensor, keys: Tensor, stream: int) -> Tensor:
    noise = _BANK_NOISE * normal(keys, stream, values.shape[1])
    return (values + noise).clamp(-_LARGEST, _LARGEST)
