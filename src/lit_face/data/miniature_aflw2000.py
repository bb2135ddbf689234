"""A small procedural dataset in the layout of AFLW2000-3D, its traps included."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.aflw2000 import EXTRA_FILES
from lit_face.data.fit_parameters import IMAGE_SIZE, pose_cameras
from lit_face.data.miniature import (
    CENTRE,
    CENTRE_STD,
    SCALE,
    FacePlan,
    Renderer,
    fit_fields,
    matlab_landmarks,
    place_faces,
    radians,
    render_faces,
    render_pictures,
    sample_people,
    write_marker,
    write_pair,
)
from lit_face.data.random import sample_keys
from lit_face.geometry.meshes import vertex_normals
from lit_face.io.files import atomic_folder, cache_root
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bfm import write_bfm
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import procedural_head

log = logging.getLogger(__name__)

VERSION = 1
SEED = 2000
COUNT = 24
# |yaw| in degrees: 12 up to 30, 6 up to 60, then 4 up to 90 and the two that make it 6.
_YAW = (
    2, -4, 7, 11, -13, 16, -19, 22, -24, 26, -28, 29.5, 33, -38, 44, -49, 53, -58, 63, -68, 74, -82,
)  # fmt: skip
_WRAPPED_YAW = 9.0  # stored as 9 - 360, which the protocol counts as far
_BACKWARD_YAW = 110.0
# AFLW's 21 points as means of iBUG points: brows, eyes, ear and nose, mouth, chin.
_AFLW_POINTS: tuple[tuple[int, ...], ...] = (
    (17,), (19,), (21,), (22,), (24,), (26,), (36,), (37, 38, 40, 41), (39,), (42,),
    (43, 44, 46, 47), (45,), (1,), (31,), (30,), (35,), (15,), (48,), (62, 66), (54,), (8,),
)  # fmt: skip


def miniature_aflw2000(
    cache_folder: str | Path | None = None, render: Renderer | None = None
) -> Path:
    """Return the folder of the miniature, writing it on first use.

    24 pairs with gaps in their numbers, 12 with |yaw| up to 30 degrees, 6 up to 60 and 6 beyond by
    the stored angles, one of which is 9 degrees stored as -351 and one 110; the six npy files of
    3DDFA's test.configs; the model that made it in face3d's layout in `../BFM`. Its people are not
    those of the miniature of 300W-LP.

    Args:
        cache_folder: see `lit_face.io.files.cache_root`.
        render: makes the pictures; `render_pictures` unless a test brings its own.
    """
    head = procedural_head()
    name = f"aflw2000-3d-v{VERSION}-{model_digest(head)}"
    folder = cache_root(cache_folder) / "miniatures" / name
    root = folder / "AFLW2000"
    if not root.is_dir():
        log.info("Writing the miniature of AFLW2000-3D to %s (once)", folder)
        with atomic_folder(folder) as temporary:
            write_aflw2000(temporary, head, render)
    return root


def write_aflw2000(folder: Path, model: MorphableModel, render: Renderer | None = None) -> None:
    """Write `AFLW2000` and `BFM` into a folder; see `miniature_aflw2000`."""
    render = render or render_pictures
    root = folder / "AFLW2000"
    root.mkdir(parents=True)
    plan, true_yaw = plan_people(model)
    images = render_faces(model, plan, render)
    points = matlab_landmarks(model, plan)
    points21 = _aflw_points(model, plan, points)
    random = np.random.default_rng(SEED)
    plan.pose[true_yaw == _WRAPPED_YAW, 1] -= 2 * np.pi
    numbers = 2 + 2 * np.cumsum(random.integers(1, 90, COUNT))
    for item, number in enumerate(numbers):
        fields = fit_fields(model, plan, item, SEED)
        hidden = points21[item, :1] == -1
        # In the real .mat files y was flipped after the marking: -1 became height + 2.
        fields["pt2d"] = np.where(hidden, [[-1], [IMAGE_SIZE + 2]], points21[item])
        fields["pt3d_68"] = points[item].astype(np.float32)
        write_pair(root / f"image{number:05d}", images[item], fields)
    noise = random.normal(0, 0.02, (COUNT, 2, 68)) * _box_size(points)[:, None, None]
    extras = {
        "landmarks": points,
        "reannotated": np.round(points[:, :2] - 1 + noise),
        "points21": points21,
        "yaw_fitted": np.degrees(plan.pose[:, 1]),
        "yaw_aflw": -true_yaw + random.normal(0, 3, COUNT),  # AFLW turns the other way
        "crop_box": _crop_boxes(points),
    }
    for key, (name, _) in EXTRA_FILES.items():
        np.save(root / name, extras[key].astype(np.float32), allow_pickle=False)
    write_bfm(model, folder / "BFM", truncate=True)
    write_marker(root, "AFLW2000-3D", SEED)


def plan_people(model: MorphableModel) -> tuple[FacePlan, NDArray[np.float64]]:
    """Draw 24 different people; returns their faces and the true yaw in degrees (24,)."""
    generator = torch.Generator().manual_seed(SEED)
    people = sample_people(model, COUNT, generator)
    random = np.random.default_rng(SEED)
    yaw = np.array([*_YAW, _WRAPPED_YAW, _BACKWARD_YAW])[random.permutation(COUNT)]
    pitch = random.normal(0, 11, COUNT).clip(-28, 28)
    roll = random.normal(0, 12, COUNT).clip(-35, 35)
    angles = radians(np.stack([pitch, yaw, roll], axis=1))
    scale = random.uniform(*SCALE, COUNT)
    centre = random.normal(CENTRE, CENTRE_STD, (COUNT, 2))
    keys = sample_keys(SEED, 0, torch.arange(COUNT))
    return place_faces(model, people, angles, scale, centre, keys), yaw


def _aflw_points(
    model: MorphableModel, plan: FacePlan, points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (N,2,21) with -1 where the surface turns away from the camera."""
    vertices = model(plan.coefficients["identity"], plan.coefficients["expression"])
    normals = vertex_normals(vertices, model.faces)[:, model.landmark_index]
    away = normals @ pose_cameras(plan.pose).matrix[:, 2, :3, None]  # (N,68,1)
    facing = -away[..., 0].numpy()
    found = np.full((len(plan), 2, len(_AFLW_POINTS)), -1.0)
    for column, members in enumerate(_AFLW_POINTS):
        visible = facing[:, members].mean(axis=1) > 0
        found[visible, :, column] = points[visible][:, :2, members].mean(axis=2)
    return found


def _box_size(points: NDArray[np.float64]) -> NDArray[np.float64]:
    extent = points[:, :2].max(axis=2) - points[:, :2].min(axis=2)
    return np.asarray(np.sqrt(extent.prod(axis=1)))


def _crop_boxes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """3DDFA's crop: a square of sqrt(2) times the larger side, rounded, clipped to the image."""
    low, high = points[:, :2].min(axis=2), points[:, :2].max(axis=2)
    half = np.sqrt(2) * (high - low).max(axis=1, keepdims=True) / 2
    centre = (low + high) / 2
    return np.concatenate([centre - half, centre + half], axis=1).round().clip(1, IMAGE_SIZE)
