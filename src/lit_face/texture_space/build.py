"""From a folder of fits and a trained completion network to a texture space in a file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import lit_face
from lit_face.config import instantiate
from lit_face.config.composition import compose_config
from lit_face.data.texture_maps import find_texture_maps, read_texture_map, texture_map_file
from lit_face.geometry.uv import centred_resampling
from lit_face.inference.loading import load_method
from lit_face.io.checkpoints import find_checkpoint
from lit_face.io.files import atomic_write
from lit_face.methods.texture_completion import TextureCompletionModule
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.texture_space_files import write_texture_space
from lit_face.texture_space.completed import CompletedMaps
from lit_face.texture_space.pca import Components, IncrementalComponents, exact_components
from lit_face.texture_space.quality import Limits, read_summary, row_of, write_dropped
from lit_face.texture_space.report import write_report

log = logging.getLogger("lit_face")

Method = Literal["incremental", "exact"]
FILE, COMPLETED, REPORT, DROPPED = "texture_space.npz", "completed", "report", "dropped.csv"
_EXTRA = 50  # components that are carried beside those that are wanted
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Options:
    """What a texture space is built with.

    Attributes:
        size: side of the maps, texels.
        components: at most; fewer maps give fewer.
        method: 'incremental', in memory that does not grow with the maps, or 'exact'.
        batch: maps that are added at once.
        pad: columns of zeros up to `components`, for programs that expect that many.
        held_out: share of the maps on which the report measures; they join the space afterwards.
        min_confidence: texels seen at a smaller cosine to their normal are completed.
    """

    size: int = 512
    components: int = 200
    method: Method = "incremental"
    batch: int = 50
    pad: bool = True
    held_out: float = 0.1
    min_confidence: float = 0.3


def build(
    fits: Path, ckpt: Path, out: Path, model: MorphableModel, options: Options, limits: Limits
) -> Path:
    """Complete all maps, find their components, write the space and its report.

    Args:
        fits: folder with maps at any depth, and perhaps summary.csv.
        ckpt: checkpoint or run of texture_completion.
        out: `texture_space.npz`, `completed/`, `report/` and `dropped.csv` go there.
        model: whose UV layout the maps have.
        options: of the space.
        limits: of the fits.

    Returns:
        The texture space's file.

    Raises:
        ValueError: fewer than three fits are left, or the checkpoint is another method's.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = chosen_maps(fits, out, limits)
    file, completer = load_completer(ckpt)
    maps = CompletedMaps(
        fits,
        out / COMPLETED,
        completer,
        options.size,
        coverage_of(model, options.size),
        options.min_confidence,
        hashlib.sha256(file.read_bytes()).hexdigest()[:20],
    )
    records = maps.make(names, lambda done: _progress("completed", done, len(names)))
    rough = [record["name"] for record in records if not record["smooth"]]
    if rough:
        log.warning(
            "%d of %d completed maps have a visible seam, %s for one (completed/*.json).",
            len(rough), len(names), rough[0],
        )  # fmt: skip
    found, errors = components_of(maps, names, options)
    meta = {"lit_face": lit_face.__version__, **asdict(options), "limits": asdict(limits)}
    meta["sources"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    path = write_space(out / FILE, found, model, options, meta)
    write_report(out / REPORT, found, options.size, errors)
    return path


def chosen_maps(fits: Path, out: Path, limits: Limits) -> list[str]:
    """Return the names of the fits that are good enough; the others go to `dropped.csv`.

    Raises:
        ValueError: fewer than three are left.
    """
    summary, kept, dropped = read_summary(fits), [], []
    for name in find_texture_maps(fits):
        try:
            visible = read_texture_map(texture_map_file(fits, name)).visible.mean()
            problem = limits.problem(row_of(name, summary), float(visible))
        except ValueError as error:
            problem = str(error)
        if problem is None:
            kept.append(name)
        else:
            dropped.append((name.rstrip("/"), problem))
    write_dropped(out / DROPPED, dropped)
    if dropped:
        log.warning("%d of %d fits left out, see %s", len(dropped), len(kept) + len(dropped),
                    out / DROPPED)  # fmt: skip
    if len(kept) < 3:
        raise ValueError(
            f"{fits}: {len(kept)} fits are good enough for a texture space, expected at least "
            f"three; {out / DROPPED} says why the others are not."
        )
    return kept


def load_completer(ckpt: Path) -> tuple[Path, Any]:
    """Return the checkpoint's file and its network in evaluation mode.

    Raises:
        ValueError: the checkpoint is another method's.
    """
    file = find_checkpoint(ckpt, prefer="best")
    method, _ = load_method(file)
    if not isinstance(method, TextureCompletionModule):
        raise ValueError(
            f"{file} holds a {type(method).__name__}; expected a run of python train.py "
            "method=texture_completion."
        )
    return file, method.completer.eval()


def coverage_of(model: MorphableModel, size: int) -> NDArray[np.bool_]:
    """Return the texels (S,S) that a model's faces cover; maps are texel-centred."""
    mask = centred_resampling(model.uv, model.map_faces, size).mask
    return np.asarray(mask.cpu().numpy(), bool)


def load_model(name: str | None, root: str | None, fits: Path) -> MorphableModel:
    """Return the head model of the fits' UV layout.

    Args:
        name: as `morphable_model=` takes it; None takes that of the fits' config.yaml, else the
            built-in head.
        root: the model's folder.
        fits: the run of reconstruct.py.
    """
    stored = fits / "config.yaml"
    if name is None and stored.is_file():
        import yaml

        node: Mapping[str, Any] | None = (
            yaml.safe_load(stored.read_text(encoding="utf-8")) or {}
        ).get("morphable_model")
        if node:
            return _instantiated(node)
    overrides = [f"morphable_model={name or 'procedural'}"]
    overrides += [f"morphable_model.root={root}"] * (root is not None)
    return _instantiated(dict(compose_config("reconstruct", overrides)["morphable_model"]))


def components_of(
    maps: CompletedMaps, names: list[str], options: Options
) -> tuple[Components, dict[int, float] | None]:
    """Return the components of all maps, and the errors on held-out ones by number of components.

    The errors are those of a space of the other maps.
    """
    rank = [hashlib.sha256(f"held out {name}".encode()).hexdigest() for name in names]
    order = [name for _, name in sorted(zip(rank, names, strict=True))]
    count = round(options.held_out * len(names)) if len(names) > 4 else 0
    last, first = order[:count], order[count:]
    if options.method == "exact":
        whole = _stacked(maps, first + last)
        errors = None
        if last:
            part = exact_components(whole[: len(first)], options.components)
            errors = part.rmse(whole[len(first) :], _counts(len(part.variance)))
        return exact_components(whole, options.components), errors
    kept = min(options.components + _EXTRA, len(names))
    running = IncrementalComponents(3 * options.size**2, kept)
    for batch in maps.read(first, options.batch):
        running.update(batch)
        _progress("components of", running.count, len(names))
    errors = None
    if last:
        part = running.components(options.components)
        errors = _rmse_of(part, maps, last, options.batch)
        for batch in maps.read(last, options.batch):
            running.update(batch)
            _progress("components of", running.count, len(names))
    return running.components(options.components), errors


def write_space(
    path: Path, found: Components, model: MorphableModel, options: Options, meta: dict[str, Any]
) -> Path:
    """Write the components of maps (blue, green, red, 0 to 255) as FLAME's file is."""
    size = options.size
    columns = options.components if options.pad else len(found.directions)
    tex_dir = np.zeros((size, size, 3, columns), np.float32)
    for column, direction in enumerate(found.directions):
        tex_dir[..., column] = direction.reshape(size, size, 3)
    extra = {
        "explained_variance": found.variance,
        "total_variance": found.total_variance,
        "n_maps": found.count,
        "n_components": len(found.directions),
        "meta": meta,
    }
    mean = found.mean.reshape(size, size, 3)
    uv, faces = model.uv.cpu().numpy(), model.map_faces.cpu().numpy()
    return write_texture_space(path, mean, tex_dir, uv, faces, extra)


def _rmse_of(
    part: Components, maps: CompletedMaps, names: list[str], batch: int
) -> dict[int, float]:
    counts = _counts(len(part.variance))
    total = dict.fromkeys(counts, 0.0)
    for rows in maps.read(names, batch):
        for k, value in part.rmse(rows, counts).items():
            total[k] += len(rows) * value**2
    return {k: float(np.sqrt(value / len(names))) for k, value in total.items()}


def _stacked(maps: CompletedMaps, names: list[str]) -> NDArray[np.float32]:
    """Return all maps (N,D) as an array on disk, so that only blocks of it are in memory."""
    path = maps.out.parent / "maps.npy"
    with atomic_write(path) as temporary:
        whole = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.float32, shape=(len(names), 3 * maps.size**2)
        )
        for row, values in enumerate(maps.read(names, 1)):
            whole[row] = values[0]
        whole.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _counts(found: int) -> list[int]:
    return [0, *(k for k in _COUNTS if k < found), found]


def _instantiated(node: Mapping[str, Any]) -> MorphableModel:
    model: MorphableModel = instantiate(dict(node))
    return model


def _progress(what: str, done: int, total: int) -> None:
    if done == total or done % max(1, total // 20) == 0:
        log.info("%s %d of %d maps", what, done, total)
