"""A small procedural multi-view dataset in FaceScape's raw layout, with the exact truth."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.miniature import write_marker
from lit_face.data.miniature_facescape_files import (
    Similarity,
    Tuple,
    write_photos,
    write_scan,
    write_toolkit_model,
)
from lit_face.data.miniature_facescape_pictures import VIEWS, photographed
from lit_face.data.miniature_facescape_surface import (
    DenseTopology,
    dense_topology,
    displaced,
    sample_skin,
)
from lit_face.io.files import atomic_folder, cache_root
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.digest import model_digest
from lit_face.morphable_models.facescape.writer import (
    EXPRESSIONS,
    IDENTITIES,
    FaceTemplate,
    face_template,
    write_bilinear,
)
from lit_face.morphable_models.procedural import procedural_head
from lit_face.rendering.color import srgb_to_linear

log = logging.getLogger("lit_face")

VERSION = 1
SEED = 2022
FIRST_HELD_OUT = 331  # as in FaceScape's split by person
_IDENTITY_STD, _LARGEST = 0.9, 2.5
# FaceScape's expressions (number, name) and the built-in head's names for them.
_ACTED = (
    (2, "smile", "smile"), (14, "sadness", "sad"), (16, "grin", "teeth"),
    (19, "brow_raiser", "brows_up"), (12, "lip_puckerer", "pucker"), (4, "anger", "angry"),
    (17, "cheek_blowing", "cheeks_puffed"), (20, "brow_lower", "brows_down"),
    (5, "jaw_left", "jaw_left"), (3, "mouth_stretch", "mouth_open"),
)  # fmt: skip


@dataclass(frozen=True)
class MiniatureSize:
    """How much is made.

    Attributes:
        people: of whom the last `held_out` are for evaluation.
        held_out: people.
        expressions: of each person; the first one is neutral.
        views: valid ones; one invalid view comes on top.
        photo: height and width of a portrait photo, pixels.
        splits: how often triangles are split into 4 for the scan: 0.8 mm edges at 2.
        map_size: texels of the skin's maps and of the toolkit's.
        identities: of the bilinear model.
        expression_shapes: likewise.
    """

    people: int = 9
    held_out: int = 2
    expressions: int = 2
    views: int = 10
    photo: tuple[int, int] = (648, 432)
    splits: int = 2
    map_size: int = 1024
    identities: int = IDENTITIES
    expression_shapes: int = EXPRESSIONS

    def __post_init__(self) -> None:
        if not 0 < self.held_out < self.people or self.people - self.held_out >= FIRST_HELD_OUT:
            raise ValueError(
                f"The miniature of FaceScape needs people to train and people to evaluate, found "
                f"people={self.people}, held_out={self.held_out}."
            )
        if not 1 <= self.expressions <= 1 + len(_ACTED) or not 2 <= self.views <= len(VIEWS):
            raise ValueError(
                f"The miniature of FaceScape has 1 to {1 + len(_ACTED)} expressions and 2 to "
                f"{len(VIEWS)} views, found {self.expressions} and {self.views}."
            )

    @property
    def samples(self) -> int:
        """Number of (person, expression) tuples."""
        return self.people * self.expressions


SIZES: Mapping[str, MiniatureSize] = {
    "default": MiniatureSize(),
    "tiny": MiniatureSize(3, 1, 1, 4, (96, 64), 1, 256, 12, 8),
}


def miniature_facescape(
    size: str | MiniatureSize = "default",
    cache_folder: str | Path | None = None,
    model: MorphableModel | None = None,
) -> Path:
    """Return the miniature's raw folder; the first call writes it.

    The folder has FaceScape's `imgs`, `mesh`, `tu` and `predefined` (bilinear model), the three
    JSON files, landmarks.json beside each params.json, and `truth/<ID>.npz`, which nothing but
    evaluation may read.

    Args:
        size: 'default' (18 samples, 3 to 5 minutes), 'tiny' (3, seconds), or one of your own.
        cache_folder: see `lit_face.io.files.cache_root`.
        model: head model with a region 'face'; default the built-in head.

    Raises:
        ValueError: sizes that make no dataset.
    """
    chosen = size if isinstance(size, MiniatureSize) else _named(size)
    head = procedural_head() if model is None else model
    key = json.dumps([VERSION, model_digest(head), asdict(chosen)]).encode()
    folder = cache_root(cache_folder) / "miniatures"
    folder /= f"facescape-v{VERSION}-{chosen.samples}-{hashlib.sha256(key).hexdigest()[:10]}"
    if not folder.is_dir():
        log.info("Writing the miniature of FaceScape, %d samples, to %s", chosen.samples, folder)
        with atomic_folder(folder) as temporary:
            write_facescape(temporary, head, chosen)
    return folder


def write_facescape(folder: Path, model: MorphableModel, size: MiniatureSize) -> None:
    """Write the dataset into a folder; see `miniature_facescape`."""
    write_bilinear(model, folder / "predefined", size.identities, size.expression_shapes)
    dense, template = dense_topology(model, size.splits), face_template(model)
    tuples = plan_tuples(size)

    def write(item: Tuple) -> Similarity:
        return write_tuple(folder, model, template, dense, size, item)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        frames = []
        for item, frame in zip(tuples, pool.map(write, tuples), strict=True):
            frames.append(frame)
            log.info(
                "FaceScape miniature: %d of %d samples (%s)", len(frames), len(tuples), item.name
            )
    selected: dict[str, dict[str, list[int]]] = {}
    scales: dict[str, dict[str, list[Any]]] = {}
    for item, frame in zip(tuples, frames, strict=True):
        person, expression = str(item.person), str(item.expression)
        selected.setdefault(person, {})[expression] = item.view_numbers[: size.views].tolist()
        entry = [frame.scale, np.column_stack([frame.rotation, frame.translation]).tolist()]
        scales.setdefault(person, {})[expression] = entry
    split = {
        name: [t.name for t in tuples if (t.person >= FIRST_HELD_OUT) == (name == "eval")]
        for name in ("train", "eval")
    }
    contents = {"select_dict": selected, "Rt_scale_dict": scales, "id": split}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    write_marker(folder, "FaceScape", SEED, model=model.name, digest=model_digest(model))


def plan_tuples(size: MiniatureSize) -> list[Tuple]:
    """Choose persons, expressions, view numbers and orientation of all samples."""
    training = size.people - size.held_out
    people = [*range(1, training + 1), *range(FIRST_HELD_OUT, FIRST_HELD_OUT + size.held_out)]
    tuples = []
    for place, person in enumerate(people):
        for number in range(size.expressions):
            acted = _ACTED[(place + (number - 1) * len(people)) % len(_ACTED)]
            expression, name, named = acted if number else (1, "neutral", "neutral")
            rng = np.random.default_rng([SEED, person, expression])
            # Every third person lies down before the cameras, so to speak: landscape photos.
            views = rng.permutation(size.views + 1)
            is_rolled = place % 3 == 2
            tuples.append(
                Tuple(person, expression, f"{expression}_{name}", named, views, is_rolled)
            )
    return tuples


def write_tuple(
    folder: Path,
    model: MorphableModel,
    template: FaceTemplate,
    dense: DenseTopology,
    size: MiniatureSize,
    item: Tuple,
) -> Similarity:
    """Make one sample: photos with cameras and landmarks, scan, toolkit's model, truth."""
    rng = np.random.default_rng([SEED, item.person, item.expression, 1])
    coefficients = _sample_face(model, item, rng)
    skin = sample_skin(
        np.random.default_rng([SEED, item.person, item.expression, 2]), size.map_size
    )
    vertices = model(coefficients["identity"], coefficients["expression"])[0].numpy()
    points = displaced(model, dense, vertices, skin.low + skin.meso)
    smooth = displaced(model, dense, vertices, skin.low)[: len(vertices)]
    albedo = srgb_to_linear(model.albedo(coefficients["albedo"])[0].clamp(0.01, 1)).numpy()
    frame = Similarity.sample(rng)
    surface = photographed(model, dense, points, albedo, skin)
    landmarks = points[model.landmark_index.numpy()]
    write_photos(folder, item, surface, landmarks, frame, size.views, size.photo, rng)
    write_scan(folder, item, points, dense, frame, landmarks)
    write_toolkit_model(folder, item, model, template, smooth, albedo, skin)
    truth: dict[str, NDArray[Any]] = {
        **{name: value[0].numpy() for name, value in coefficients.items()},
        "vertices_mm": vertices,
        "low_mm": skin.low[::4, ::4].astype(np.float16),
    }
    (folder / "truth").mkdir(exist_ok=True)
    np.savez(folder / "truth" / f"{item.name}.npz", **truth)  # type: ignore[arg-type]
    return frame


def _sample_face(
    model: MorphableModel, item: Tuple, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Draw the coefficients (1,K) of a sample; identity and albedo are the person's."""
    person = torch.Generator().manual_seed(SEED * 1000 + item.person)
    drawn = model.sample(1, person)
    identity = torch.randn(1, model.identity_size, generator=person) * _IDENTITY_STD
    named = getattr(model, "named_expression", None)
    if named is not None:
        code = 0.15 * model.sample(1, person)["expression"][0]
        if item.expression != 1:
            code = code + float(rng.uniform(0.6, 0.85)) * named(item.named)
    else:
        code = torch.zeros(model.expression_size)
        some = rng.choice(model.expression_size, 4, replace=False)
        weights = rng.uniform(0.1, 0.6, 4) * (0.2 if item.expression == 1 else 1.0)
        code[torch.from_numpy(some)] = torch.from_numpy(weights).float()
        code = code / model.expression_std
    return {
        "identity": identity.clamp(-_LARGEST, _LARGEST),
        "expression": code[None],
        "albedo": drawn["albedo"],
    }


def _named(size: str) -> MiniatureSize:
    if size not in SIZES:
        raise ValueError(f"The miniature's size should be one of {', '.join(SIZES)}, found {size}.")
    return SIZES[size]
