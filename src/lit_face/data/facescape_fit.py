"""Base meshes of a processed FaceScape folder, fitted to the landmarks of all views."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.facescape_cameras import read_json
from lit_face.data.facescape_layout import (
    SCALE_FILE,
    FaceScapeFolder,
    ViewCameras,
    per_sample,
    split_id,
)
from lit_face.geometry.triangulation import disagreeing_views, triangulate, view_residuals
from lit_face.io.files import atomic_write
from lit_face.io.obj import obj_text
from lit_face.morphable_models.base import MorphableModel
from lit_face.morphable_models.bilinear_fit import BilinearFit, fit_bilinear, fit_linear
from lit_face.morphable_models.facescape.model import FaceScape

Array = NDArray[Any]
Progress = Callable[[int, int, str], None]  # done, of all, sample

log = logging.getLogger("lit_face")

LEAST_SCORE = 0.75  # of a view's landmarks, as in the reference
_DISAGREEMENT_MM = 1.5  # a view whose rays miss by less is not named
_POINTS = 68


class BilinearShape(Protocol):
    """What `fit_bilinear` takes of a bilinear model; `faces` (F,3) those of its vertices."""

    @property
    def core(self) -> Tensor: ...  # noqa: D102
    @property
    def id_mean(self) -> Tensor: ...  # noqa: D102
    @property
    def id_var(self) -> Tensor: ...  # noqa: D102
    @property
    def start(self) -> Tensor: ...  # noqa: D102
    @property
    def landmark_index(self) -> Tensor: ...  # noqa: D102
    @property
    def faces(self) -> Tensor: ...  # noqa: D102


HeadModel = BilinearShape | MorphableModel


class ViewPoints(NamedTuple):
    """Landmarks of the views of one sample.

    Attributes:
        points: (N,68,2) pixels; NaN for a view without a face.
        without_face: numbers of those views, and of views with an unsure face.
    """

    points: Array
    without_face: list[int]


@dataclass(frozen=True, eq=False)
class BaseFit:
    """The base mesh of one sample and what there is to say about it.

    Attributes:
        vertices: (V,3) float64, world frame of the cameras, their units.
        scale_mm: mm of a unit, by the size of the model.
        canonical: (3,4) to the model's frame: x_mm = R (scale x) + t.
        view_residual_mm: view -> median distance of its rays from the points found.
        disagreeing: views whose camera or landmarks contradict the others.
        without_face: views that were left out.
        landmark_residual_mm: root mean square of the fit to the points.
    """

    vertices: Array
    scale_mm: float
    canonical: Array
    view_residual_mm: dict[int, float]
    disagreeing: list[int]
    without_face: list[int]
    landmark_residual_mm: float

    def report(self) -> dict[str, Any]:
        """Return all but the mesh, for JSON."""
        content = asdict(self)
        content.pop("vertices")
        residual = {str(view): value for view, value in self.view_residual_mm.items()}
        return content | {"canonical": self.canonical.tolist(), "view_residual_mm": residual}

    def warning(self) -> str:
        """Say what is wrong with the views; empty if nothing is."""
        parts = []
        if self.without_face:
            parts.append(f"no (sure) face in views {_listed(self.without_face)}")
        parts += [
            f"view {view} disagrees with the others: its rays miss the landmarks by "
            f"{self.view_residual_mm[view]:.1f} mm"
            for view in self.disagreeing
        ]
        return "; ".join(parts)


def read_view_points(
    path: Path, views: Sequence[int], least_score: float = LEAST_SCORE
) -> ViewPoints:
    """Read landmarks.json; a view without a face, or with an unsure one, is left out.

    Raises:
        ValueError: a view without an entry, broken points, or fewer than two views with a face.
    """
    content = read_json(path)
    points = np.full((len(views), _POINTS, 2), np.nan)
    without: list[int] = []
    for row, view in enumerate(views):
        if str(view) not in content:
            raise ValueError(
                f"{path}: no entry '{view}'. A view in which no face was found has null."
            )
        entry = content[str(view)]
        if entry is None or _score(entry, view, path) < least_score:
            without.append(view)
            continue
        points[row] = _points(entry, view, path)
    if len(views) - len(without) < 2:
        raise ValueError(
            f"{path}: a base mesh needs two views with a face, found "
            f"{len(views) - len(without)} of views {_listed(views)} (least score {least_score})."
        )
    return ViewPoints(points, without)


def fit_bases(
    model: HeadModel,
    cameras: Sequence[ViewCameras],
    points: Sequence[ViewPoints],
    views: Sequence[Sequence[int]],
    robust: bool = True,
) -> list[BaseFit]:
    """Fit the base meshes of several samples at once.

    Args:
        model: bilinear, or any linear morphable model.
        cameras: of each sample.
        points: of the same views.
        views: their numbers.
        robust: a wrong landmark, or a view that is off, loses its influence.

    Returns:
        One fit a sample.
    """
    most = max(len(each) for each in views)
    K = np.stack([_padded(each.K, most) for each in cameras])
    Rt = np.stack([_padded(each.Rt, most) for each in cameras])
    pixels = np.full((len(views), most, _POINTS, 2), np.nan)
    for row, each in enumerate(points):
        pixels[row, : len(each.points)] = each.points
    as_tensor = torch.from_numpy
    found = triangulate(as_tensor(K), as_tensor(Rt), as_tensor(pixels), robust=robust)
    fit = _fit(model, found.points, robust)
    scale_mm = 1 / fit.scale
    residual = found.residual * scale_mm[:, None, None]
    of_views, off = view_residuals(residual), disagreeing_views(residual, _DISAGREEMENT_MM)
    fits = []
    for row, numbers in enumerate(views):
        turned = fit.rotation[row].mT
        shift = -(turned @ fit.translation[row]) * scale_mm[row]
        fits.append(
            BaseFit(
                vertices=fit.vertices[row].numpy(),
                scale_mm=float(scale_mm[row]),
                canonical=torch.cat([turned, shift[:, None]], dim=1).numpy(),
                view_residual_mm={
                    view: float(value)
                    for view, value in zip(numbers, of_views[row], strict=False)
                    if math.isfinite(value)
                },
                disagreeing=[
                    view for view, is_off in zip(numbers, off[row], strict=False) if is_off
                ],
                without_face=list(points[row].without_face),
                landmark_residual_mm=float(fit.residual[row].square().nanmean().sqrt()),
            )
        )
    return fits


def fit_base_meshes(
    folder: FaceScapeFolder,
    model: HeadModel,
    samples: Sequence[str] | None = None,
    robust: bool = True,
    least_score: float = LEAST_SCORE,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Fit the base meshes of a folder in one batch and write them.

    Writes `fit_mesh/fit_mesh_<ID>.obj` (6 decimals, units of the cameras), a report beside it
    (.json), and the scale of samples that Rt_scale_dict.json lacks. What was made from the same
    landmarks, cameras, model and options stays.

    Args:
        folder: processed.
        model: bilinear, or any linear morphable model with the template's vertices.
        samples: names; None for all.
        robust: see `fit_bases`.
        least_score: of a view's landmarks.
        overwrite: fit what is there, too.
        progress: is called after each sample.

    Returns:
        The report of each sample.

    Raises:
        ValueError: names the sample's file.
    """
    model = _own_topology(model)
    names = folder.ids() if samples is None else list(samples)
    options = {"robust": robust, "least_score": least_score, "model": _model_digest(model)}
    digests = {name: _digest(folder, name, options) for name in names}
    reports = {} if overwrite else _finished(folder, digests)
    todo = [name for name in names if name not in reports]
    views = [folder.views(name) for name in todo]
    cameras = [folder.cameras(name, of) for name, of in zip(todo, views, strict=True)]
    points = [
        read_view_points(folder.landmarks_file(name), of, least_score)
        for name, of in zip(todo, views, strict=True)
    ]
    fits = fit_bases(model, cameras, points, views, robust) if todo else []
    faces = model.faces.cpu().numpy()
    for done, (name, fit) in enumerate(zip(todo, fits, strict=True), start=1):
        reports[name] = write_base_fit(folder.base_mesh_file(name), fit, faces, digests[name])
        if fit.warning():
            log.warning("%s: %s", name, fit.warning())
        if progress is not None:
            progress(done, len(todo), name)
    _add_scales(folder, dict(zip(todo, fits, strict=True)))
    return {name: reports[name] for name in names}


def write_base_fit(path: Path, fit: BaseFit, faces: Array, digest: str = "") -> dict[str, Any]:
    """Write a base mesh, and beside it the report (.json), which is returned."""
    report = fit.report() | {"digest": digest}
    with atomic_write(path) as temporary:
        temporary.write_text(obj_text(fit.vertices, faces), encoding="utf-8")
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return report


def _own_topology(model: HeadModel) -> HeadModel:
    """Return the bilinear model inside of its house form, which doubles vertices at seams."""
    return model.bilinear if isinstance(model, FaceScape) else model


def _fit(model: HeadModel, targets: Tensor, robust: bool) -> BilinearFit:
    model = _own_topology(model)
    if isinstance(model, MorphableModel):
        return fit_linear(model, targets, robust=robust)
    return fit_bilinear(
        model.core,
        model.id_mean,
        model.id_var,
        model.start,
        model.landmark_index,
        targets,
        robust=robust,
    )


def _add_scales(folder: FaceScapeFolder, fits: dict[str, BaseFit]) -> None:
    """Write the scales of samples that have none; those that are there stay."""
    path = folder.root / SCALE_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    added = False
    for name, fit in fits.items():
        try:
            per_sample(content, name, path)
        except ValueError:
            person, expression = (str(part) for part in split_id(name))
            entry = [fit.scale_mm, fit.canonical.tolist()]
            content.setdefault(person, {})[expression] = entry
            added = True
    if added:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _finished(folder: FaceScapeFolder, digests: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the reports of meshes that were made from the same files and options."""
    reports = {}
    for name, digest in digests.items():
        mesh = folder.base_mesh_file(name)
        report = mesh.with_suffix(".json")
        if mesh.is_file() and report.is_file():
            content = json.loads(report.read_text(encoding="utf-8"))
            if content.get("digest") == digest:
                reports[name] = content
    return reports


def _digest(folder: FaceScapeFolder, name: str, options: dict[str, Any]) -> str:
    found = hashlib.sha256(json.dumps([options, folder.views(name)]).encode())
    for path in (folder.landmarks_file(name), folder.params_file(name)):
        read_json(path)  # says so if it is missing
        found.update(path.read_bytes())
    return found.hexdigest()


def _model_digest(model: HeadModel) -> str:
    """Tell models apart by their landmarks and a few of their numbers."""
    tensors: list[Tensor]
    if isinstance(model, MorphableModel):
        tensors = [model.mean, model.identity_basis, model.expression_basis, model.landmark_index]
    else:
        tensors = [model.core, model.id_mean, model.id_var, model.start, model.landmark_index]
    found = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().flatten()
        found.update(f"{tuple(tensor.shape)} {float(flat.double().sum())!r}".encode())
        found.update(flat[:: max(1, len(flat) // 4096)].contiguous().numpy().tobytes())
    return found.hexdigest()


def _padded(array: Array, count: int) -> Array:
    """Repeat the first row until there are `count`."""
    return np.concatenate([array, np.repeat(array[:1], count - len(array), axis=0)])


def _score(entry: Any, view: int, path: Path) -> float:
    score = entry.get("score", 1.0) if isinstance(entry, dict) else None
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise ValueError(
            f'{path}: \'{view}\' should be {{"points": 68 x 2, "score": number}} or null.'
        )
    return float(score)


def _points(entry: dict[str, Any], view: int, path: Path) -> Array:
    try:
        points = np.asarray(entry.get("points"), dtype=np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.shape != (_POINTS, 2) or not np.isfinite(points).all():
        raise ValueError(
            f"{path}: the points of '{view}' should be 68 x 2 finite numbers, found {points.shape}."
        )
    return points


def _listed(views: Sequence[int]) -> str:
    return ", ".join(map(str, views))
