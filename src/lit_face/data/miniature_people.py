"""What the miniatures of FFHQ and CelebA share: people, poses, pictures and the truth's files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_face.data.ffhq_truth import face_skin
from lit_face.data.photographs.camera import pose_camera, white_balance
from lit_face.data.photographs.light import sample_lights
from lit_face.data.photographs.render import render_photographs
from lit_face.data.random import normal, sample_keys, uniform
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.precision import fp32_region
from lit_face.metrics.skin_tone import typology_angle_deg
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.procedural import ProceduralHead
from lit_face.rendering.color import srgb_to_linear

log = logging.getLogger("lit_face")

SEED = 1024
FIRST_HELD_OUT = 1_000_000  # people and pictures
_BATCH = 16
_LARGEST = 3.0  # standard deviations
_BANK_NOISE = 0.1
_SHOWN = 0.8  # share of the albedo population that training sees
_GOLDEN_RATIO = 0.6180339887498949  # its multiples fill [0,1) evenly, however many there are
_OCCLUSION = 0.25
_IDENTITY, _ALBEDO_ROW, _ALBEDO, _EXPRESSION_ROW, _EXPRESSION, _POSE = range(600, 606)
# Standard deviation and limit in degrees of pitch, yaw and the roll that alignment leaves.
_ANGLES = ((8.0, 20.0), (20.0, 45.0), (4.0, 10.0))

# (keys (B,), landmarks (B,68,3) head space in mm) -> cameras
Placement = Callable[[Tensor, Tensor], AffineCamera]


@dataclass(frozen=True, eq=False)
class PeoplePlan:
    """Who is on which picture.

    Attributes:
        person: (N,) int64 numbers.
        held_out: (N,) bool, people that are in no miniature of any size to train on.
        picture_keys: (N,) random keys of light, pose, expression, hair and background.
    """

    person: Tensor
    held_out: Tensor
    picture_keys: Tensor


@dataclass(frozen=True, eq=False)
class PicturesToWrite:
    """Pictures and the truth about them.

    Attributes:
        image: (B,3,H,W) sRGB in [0,1]. skin_mask: (B,1,H,W).
        landmarks: (B,68,3), image_vertices: (B,V,3), pixels.
        model: whose coefficients (B,K) by name these are, `specular` among them.
        camera: head space to pixels.
        light: (B,25,3) radiance, camera frame.
        person: (B,) int64.
        tone_deg: (B,) individual typology angle, degrees.
    """

    image: Tensor
    skin_mask: Tensor
    landmarks: Tensor
    image_vertices: Tensor
    model: MorphableModel
    coefficients: dict[str, Tensor]
    camera: AffineCamera
    light: Tensor
    person: Tensor
    tone_deg: Tensor


@torch.no_grad()
@fp32_region()
def draw_pictures(
    model: ProceduralHead,
    plan: PeoplePlan,
    rows: Tensor,
    place: Placement,
    size: tuple[int, int],
    shown: Tensor | None = None,
) -> PicturesToWrite:
    """Render some rows of a plan; each depends on its own keys alone.

    Args:
        model: head model.
        plan: of the miniature.
        rows: (B,) of the plan.
        place: draws the cameras, see `upright_cameras`.
        size: height and width, pixels.
        shown: see `render_photographs`.
    """
    keys = plan.picture_keys[rows]
    coefficients = people(model, plan.person[rows], plan.held_out[rows])
    bank = model.expression_bank
    row = (uniform(keys, _EXPRESSION_ROW) * len(bank)).long().clamp(max=len(bank) - 1)
    coefficients["expression"] = _with_noise(bank[row], keys, _EXPRESSION)
    vertices = model(coefficients["identity"], coefficients["expression"])
    camera = place(keys, model.landmarks(vertices))
    found = render_photographs(
        model, coefficients, camera, keys, size, occlusion=_OCCLUSION, shown=shown
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
    spread = (0.5 + (person - FIRST_HELD_OUT) * _GOLDEN_RATIO) % 1.0
    hidden = tones[(spread * len(tones)).long().clamp(0, len(tones) - 1)]
    shown = (uniform(keys, _ALBEDO_ROW) * first).long().clamp(max=first - 1)
    albedo = _with_noise(bank[torch.where(held_out, hidden, shown)], keys, _ALBEDO)
    result = {"identity": identity, "albedo": albedo}
    if model.specular_basis is not None:
        result["specular"] = albedo[:, : model.specular_basis.shape[2]]
    return result


def upright_cameras(keys: Tensor, points: Tensor) -> tuple[AffineCamera, Tensor]:
    """Draw poses of heads, a pixel a mm: cameras without roll, and the roll (B,), radians.

    Args:
        keys: (B,).
        points: (B,68,3) landmarks, head space, mm.
    """
    spread, limit = keys.new_tensor(_ANGLES, dtype=torch.float32).unbind(1)
    angles = torch.deg2rad((normal(keys, _POSE, 3) * spread).clamp(-limit, limit))
    roll = angles[:, 2].clone()
    angles[:, 2] = 0
    zero = torch.zeros_like(points[:, 0, :2])
    return pose_camera(angles, zero, points, scale=torch.ones_like(roll)), roll


def write_in_order(
    title: str, count: int, write: Callable[[Tensor], PicturesToWrite]
) -> Iterator[PicturesToWrite]:
    """Call `write` with the rows of every batch of pictures, in some threads; yield in order.

    Args:
        title: of the dataset, for messages.
        count: number of pictures.
        write: makes and writes the pictures of rows (B,).
    """
    done = 0
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        for pictures in pool.map(write, torch.arange(count).split(_BATCH)):
            done += len(pictures.person)
            if done % 256 < _BATCH:
                log.info("%s miniature: %d of %d pictures", title, done, count)
            yield pictures


def write_truth(file: Path, pictures: PicturesToWrite, row: int, **more: Any) -> None:
    """Write what one picture shows, see `lit_face.data.ffhq_truth`."""
    truth: dict[str, Any] = {
        **{name: value[row].numpy() for name, value in pictures.coefficients.items()},
        "camera": pictures.camera.matrix[row].numpy(),
        "light": pictures.light[row].numpy(),
        "person": pictures.person[row].numpy(),
        "tone_deg": pictures.tone_deg[row].numpy(),
        **more,
    }
    np.savez(file, **truth)


@lru_cache(maxsize=2)
def _by_tone(model: ProceduralHead, first: int) -> Tensor:
    """Return the rows of the population from `first` on, lightest skin first."""
    albedo = srgb_to_linear(model.albedo(model.albedo_bank[first:]).clamp(0.01, 1))
    return typology_angle_deg(albedo, model.regions["nose"]).argsort(descending=True)


def _with_noise(values: Tensor, keys: Tensor, stream: int) -> Tensor:
    noise = _BANK_NOISE * normal(keys, stream, values.shape[1])
    return (values + noise).clamp(-_LARGEST, _LARGEST)
