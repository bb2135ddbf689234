"""A small procedural dataset in the layout of 300W-LP, its traps included."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray

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
from lit_face.io.files import atomic_folder, cache_root
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bfm import write_bfm
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.procedural import procedural_head

log = logging.getLogger(__name__)

VERSION = 3
SEED = 300
Size = Literal["default", "test"]
# Subset -> name of its n-th photograph.
_NAMES = {
    "AFW": "AFW_{:06d}_1",
    "HELEN": "HELEN_{:09d}_1",
    "IBUG": "IBUG_image_{:03d}_1",
    "LFPW": "LFPW_image_train_{:04d}",
}
_FLIPPED = "IBUG"
_LARGEST_YAW = 80.0


def miniature_w300lp(
    cache_folder: str | Path | None = None, size: Size = "default", render: Renderer | None = None
) -> Path:
    """Return the folder of the miniature, writing it on first use.

    'default': 4 subsets x 10 photographs x 4 views, 450 x 450 pixels, mirrored copies for IBUG, the
    `landmarks` folder, and the model that made it in face3d's layout in `../BFM`. 'test': 2 subsets
    x 2 photographs x 2 views with two planted defects: a .mat with 40 shape coefficients and a
    truncated jpg.

    Args:
        cache_folder: see `lit_face.io.files.cache_root`.
        size: which of the two.
        render: makes the pictures; `render_pictures` unless a test brings its own.
    """
    head = procedural_head()
    name = f"300w_lp-{size}-v{VERSION}-{model_digest(head)}"
    folder = cache_root(cache_folder) / "miniatures" / name
    root = folder / "300W_LP"
    if not root.is_dir():
        log.info("Writing the miniature of 300W-LP to %s (once)", folder)
        with atomic_folder(folder) as temporary:
            write_w300lp(temporary, head, size, render)
    return root


def write_w300lp(
    folder: Path, model: MorphableModel, size: Size = "default", render: Renderer | None = None
) -> None:
    """Write `300W_LP` and `BFM` into a folder; see `miniature_w300lp`."""
    render = render or render_pictures
    root = folder / "300W_LP"
    subsets = list(_NAMES) if size == "default" else ["AFW", "IBUG"]
    photographs, views = (10, 4) if size == "default" else (2, 2)
    for number, subset in enumerate(subsets):
        _write_subset(root, subset, model, photographs, views, SEED + number, render)
    if size == "test":
        _plant_defects(root)
    write_bfm(model, folder / "BFM", truncate=True)
    write_marker(root, "300W-LP", SEED, subsets=subsets)


def plan_photographs(model: MorphableModel, photographs: int, views: int, seed: int) -> FacePlan:
    """Draw people, expressions and poses; views of one photograph turn it further in yaw."""
    generator = torch.Generator().manual_seed(seed)
    people = sample_people(model, photographs, generator)
    people["expression"][0] = 0.0  # neutral: its Exp_Para is stored as uint8
    random = np.random.default_rng(seed)
    first = random.uniform(-25, 25, photographs)
    step = np.linspace(0, 1, views)
    # Like face profiling: the first view is the photograph, the last one is nearly a profile.
    last = random.uniform(60, _LARGEST_YAW, (photographs, 1))
    yaw = np.sign(first)[:, None] * (np.abs(first)[:, None] * (1 - step) + last * step)
    # Unlike profiling, views nod and tilt too: two dozen photographs alone show too few poses.
    pitch = random.normal(0, 8, (photographs, 1)) + random.normal(0, 9, yaw.shape)
    roll = random.normal(0, 10, (photographs, 1)) + random.normal(0, 6, yaw.shape)
    pitch, roll = pitch.clip(-28, 28), roll.clip(-35, 35)
    angles = radians(np.stack([pitch, yaw, roll], axis=2).reshape(-1, 3))
    scale = np.repeat(random.uniform(*SCALE, photographs), views)
    centre = np.repeat(random.normal(CENTRE, CENTRE_STD, (photographs, 2)), views, axis=0)
    coefficients = {name: value.repeat_interleave(views, 0) for name, value in people.items()}
    keys = sample_keys(seed, 0, torch.arange(photographs)).repeat_interleave(views)
    return place_faces(model, coefficients, angles, scale, centre, keys)


def _write_subset(
    root: Path,
    subset: str,
    model: MorphableModel,
    photographs: int,
    views: int,
    seed: int,
    render: Renderer,
) -> None:
    plan = plan_photographs(model, photographs, views, seed)
    images = render_faces(model, plan, render)
    points = matlab_landmarks(model, plan)
    random = np.random.default_rng(seed)
    marked = points[0, :2]
    for item in range(len(plan)):
        name = _NAMES[subset].format(7 + 13 * (item // views)) + f"_{item % views}"
        fields = fit_fields(model, plan, item, seed)
        # People click within a pixel, and worse along the jaw.
        noise = random.normal(0, 1, (2, 68)) * np.where(np.arange(68) < 17, 2.0, 0.7)
        clicked = points[item, :2] + noise
        if item % views == 0:
            marked = clicked
        fields["pt2d"] = marked  # the real views keep the points of the photograph, unturned
        write_pair(_made(root / subset) / name, images[item], fields)
        landmarks = {"pts_2d": clicked.T, "pts_3d": points[item, :2].T}
        scipy.io.savemat(_made(root / "landmarks" / subset) / f"{name}_pts.mat", landmarks)
        if subset == _FLIPPED:
            flipped = _made(root / f"{subset}_Flip") / name
            write_pair(flipped, images[item][:, ::-1].copy(), _mirrored(fields))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mirrored(fields: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Return the mirrored copy's fields as the real ones are: own types, only nearly mirrored."""
    flipped = dict(fields)
    width = 450
    points = np.array(fields["pt2d"], dtype=np.float64)  # the real files keep the order
    flipped["pt2d"] = np.stack([width + 1 - points[0], points[1]])
    pose = np.array(fields["Pose_Para"], dtype=np.float32)
    pose[0, [1, 2]] *= -1
    pose[0, 3] = width + 1 - pose[0, 3]
    flipped["Pose_Para"] = pose
    for name in ("Shape_Para", "Exp_Para"):
        if fields[name].dtype != np.uint8:
            flipped[name] = (np.array(fields[name], dtype=np.float64) * 1.01).astype(np.float32)
    return flipped


def _plant_defects(root: Path) -> None:
    """Spoil two records: a .mat cut to 40 shape coefficients, and a truncated picture."""
    short = sorted((root / "AFW").glob("*.mat"))[1]
    fields = {k: v for k, v in scipy.io.loadmat(short).items() if not k.startswith("__")}
    fields["Shape_Para"] = fields["Shape_Para"][:40]
    scipy.io.savemat(short, fields)
    cut = sorted((root / "IBUG").glob("*.jpg"))[-1]
    cut.write_bytes(cut.read_bytes()[:4000])
