"""FaceScape's scans: how far is the surface of each stage from the true one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.benchmarks.facescape_errors import (
    BaseTexels,
    error_picture,
    surface_errors,
    texel_errors,
)
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_dataset import FaceScapeViews, collate_views
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.data.facescape_maps import read_scan
from lit_face.data.miniature_facescape_processed import processed_miniature
from lit_face.inference.multiview.chain import load_relief
from lit_face.inference.multiview.relief import ReliefMeshes
from lit_face.metrics.scan_distance import LIMIT_MM, Surface
from lit_face.morphable_models.base import MorphableModel
from lit_face.reporting.result import BenchmarkResult, Table
from lit_face.types import FaceBatch, required

Array = NDArray[Any]

BASE, DETAIL = "base", "displacement"
_ROWS = {
    "distance_mm": "distance, mean of both ways (mm)",
    "accuracy_mm": "from the mesh to the scan (mm)",
    "completeness_mm": "from the scan to the mesh (mm)",
    "median_mm": "median (mm)",
    "p90_mm": "90% (mm)",
    "rms_mm": "root mean square (mm)",
    "below_0.5mm": "share below 0.5 mm (higher is better)",
    "below_1mm": "share below 1 mm (higher is better)",
    "below_2mm": "share below 2 mm (higher is better)",
    "normal_deg": "normals (degrees)",
    "displacement_error_mm": "displacement along the base normal (mm)",
    "displacement_median_mm": "the same, median (mm)",
    "icp_distance_mm": "distance after rigid ICP (mm)",
    "icp_normal_deg": "normals after rigid ICP (degrees)",
    "excluded": "share beyond the limit, not counted above",
}


class DetailMeshes(Protocol):
    """Adds mesoscopic relief to surfaces: the stage 'displacement'."""

    def detailed_mesh(
        self, batch: FaceBatch, displacement: Tensor
    ) -> Sequence[tuple[Array, Array]]:
        """Return vertices (V,3) mm and faces (F,3) of each sample.

        Args:
            batch: as the method got it.
            displacement: (B,1,S,S) mm of the stage before.
        """


class FaceScapeBenchmark:
    """Compares the surfaces of a method's stages with the scans of the split 'eval'.

    Args:
        morphable_model: is not needed; benchmarks share this argument.
        root: processed folder with maps and scans; None for the built-in miniature.
        views: number of views of each sample, the first ones of select_dict.json; None for all.
        image_scale: of the photos' sides; None as in the method's training.
        uv_size: side of the maps, texels, checked; None takes what is there.
        pixel_center: as in training.
        miniature: 'default' or 'tiny'.
        limit_mm: what is further away is excluded, and its share reported.
        points: of a surface, at most, that are compared; None for all.
        icp: report distances after rigid alignment, too, which shows drift of the calibration.
        limit: at most so many samples; None for all.
        examples: how many best and worst samples are drawn.
        displacement: a run of `method=displacement`, or what adds that stage; None leaves it out.
    """

    name = "facescape"

    def __init__(
        self,
        morphable_model: MorphableModel | None = None,
        root: str | None = None,
        views: int | None = None,
        image_scale: float | None = None,
        uv_size: int | None = None,
        pixel_center: bool = True,
        miniature: Literal["default", "tiny"] = "default",
        limit_mm: float = LIMIT_MM,
        points: int | None = 20000,
        icp: bool = True,
        limit: int | None = None,
        examples: int = 1,
        displacement: str | DetailMeshes | None = None,
    ) -> None:
        del morphable_model
        self.is_miniature = root is None
        self.folder = (
            processed_miniature(miniature, uv_size)
            if root is None
            else FaceScapeFolder(Path(root).expanduser())
        )
        self.dataset = FaceScapeViews(
            self.folder, "eval", views, image_scale or 1.0, uv_size, pixel_center
        )
        self.image_scale = image_scale
        self._check_scans()
        count = len(self.dataset) if limit is None else min(limit, len(self.dataset))
        if count < 1 or limit_mm <= 0:
            raise ValueError(
                f"benchmark.limit should be at least 1 and limit_mm positive, found {limit} and "
                f"{limit_mm}."
            )
        self.count, self.limit_mm, self.points, self.icp = count, limit_mm, points, icp
        self.examples = examples
        self.displacement = (
            self._relief(displacement) if isinstance(displacement, str) else displacement
        )

    @torch.no_grad()
    def run(
        self, method: Any, image_size: int = 0, device: str | torch.device = "cpu"
    ) -> BenchmarkResult:
        """Evaluate a method.

        Args:
            method: in evaluation mode, on `device`; `surfaces(FaceBatch)` returns displacements
                (B,1,S,S) in mm along `uv_maps["normal"]` by stage, in their order.
            image_size: is not used; the photos have their own.
            device: where to compute.

        Raises:
            ValueError: the method has no `surfaces`, or a stage has another shape than the maps.
        """
        if not hasattr(method, "surfaces"):
            raise ValueError(
                f"benchmark=facescape compares surfaces from many views; {type(method).__name__} "
                "has none. Use uv_implicit or uv_regularize."
            )
        self.dataset.image_scale = self.image_scale or float(getattr(method, "image_scale", 1.0))
        rows: list[dict[str, Any]] = []
        errors: list[dict[str, dict[str, float]]] = []
        for batch in self._batches(range(self.count), device):
            texels, scan = self._truth(batch)
            surfaces, maps, failed = self._surfaces(method, batch, texels)
            errors.append(self._errors(surfaces, maps, scan, batch))
            flat = {
                f"{stage}_{key}": value
                for stage, values in errors[-1].items()
                for key, value in values.items()
            }
            rows.append({"sample": batch.sample_id[0], "failed": ", ".join(failed), **flat})
        stages = list(errors[0])
        result = self._result(method, stages, errors, rows)
        order = np.argsort([found[stages[-1]]["distance_mm"] for found in errors])
        result.pictures.update(self._pictures(method, order, device))
        return result

    def _relief(self, run: str) -> DetailMeshes:
        """Load a run of displacement; its textures are blended from the photos as they are."""
        predictor, size, _ = load_relief(run, "benchmark.displacement")
        data = self.dataset
        sharp = FaceScapeViews(
            self.folder, "eval", data.view_count, 1.0, data.map_size, data.pixel_center
        )
        return ReliefMeshes(predictor, sharp, size)

    def _check_scans(self) -> None:
        for sample in self.dataset.sample_ids:
            if not self.folder.scan_file(sample).is_file():
                raise DatasetNotFoundError(
                    f"{self.folder.scan_file(sample)}: the benchmark compares with scans, and "
                    f"{sample} has none. Take its raw scan along when you preprocess."
                )
        if not self.dataset.has_scans:
            raise DatasetNotFoundError(
                f"{self.folder.root}: the maps were made without the scans; make them again: "
                f"python -m lit_face.data.facescape maps {self.folder.root}"
            )

    def _batches(
        self, items: Sequence[int] | range, device: str | torch.device
    ) -> Iterator[FaceBatch]:
        for item in items:
            batch = collate_views([self.dataset[item]])
            yield replace(batch, image=batch.image.float() / 255).to(device)

    def _truth(self, batch: FaceBatch) -> tuple[BaseTexels, Surface]:
        maps = required(batch.uv_maps, "uv_maps", "benchmark=facescape")
        position, normal, mask = (
            maps[key][0].cpu().numpy() for key in ("position", "normal", "mask")
        )
        sample = batch.sample_id[0]
        vertices, faces = read_scan(self.folder.scan_file(sample))
        scan = Surface.of(vertices * self.folder.scale(sample), faces)
        return BaseTexels.of(position, normal, mask[0]), scan

    def _surfaces(
        self, method: Any, batch: FaceBatch, texels: BaseTexels
    ) -> tuple[dict[str, Surface], dict[str, Array], list[str]]:
        """Return surfaces and displacement maps by stage, and the stages that failed.

        A stage that failed has the base mesh: nothing is dropped.
        """
        size = texels.mask.shape
        found: dict[str, Tensor] = dict(method.surfaces(batch))
        maps = {BASE: np.zeros(size, np.float32)}
        failed = []
        for stage, displacement in found.items():
            if displacement.shape != (1, 1, *size):
                raise ValueError(
                    f"The stage '{stage}' should have displacements (1, 1, {size[0]}, {size[1]}), "
                    f"found {tuple(displacement.shape)}."
                )
            values = displacement[0, 0].float().cpu().numpy()
            if not np.isfinite(values[texels.mask]).all():
                failed.append(stage)
                values = maps[BASE]
            maps[stage] = values
        surfaces = {stage: texels.surface(values) for stage, values in maps.items()}
        if self.displacement is not None and found:
            last = list(found)[-1]
            vertices, faces = self.displacement.detailed_mesh(batch, found[last])[0]
            if np.isfinite(vertices).all():
                surfaces[DETAIL] = Surface.of(vertices, faces)
            else:
                failed.append(DETAIL)
                surfaces[DETAIL] = surfaces[BASE]
        return surfaces, maps, failed

    def _errors(
        self,
        surfaces: dict[str, Surface],
        maps: dict[str, Array],
        scan: Surface,
        batch: FaceBatch,
    ) -> dict[str, dict[str, float]]:
        truth = required(batch.scan, "scan", "benchmark=facescape")
        true, valid = (truth[key][0, 0].cpu().numpy() for key in ("displacement", "valid"))
        found = {}
        for stage, surface in surfaces.items():
            found[stage] = surface_errors(surface, scan, self.limit_mm, self.points, self.icp)
            if stage in maps:
                found[stage] |= texel_errors(maps[stage], true, valid)
        return found

    def _result(
        self,
        method: Any,
        stages: list[str],
        errors: list[dict[str, dict[str, float]]],
        rows: list[dict[str, Any]],
    ) -> BenchmarkResult:
        means = {
            stage: {
                key: float(np.mean([found[stage][key] for found in errors]))
                for key in errors[0][stage]
            }
            for stage in stages
        }
        metrics = {
            f"{self.name}/{stage}/{key}": value
            for stage, values in means.items()
            for key, value in values.items()
        }
        failures = sum(bool(row["failed"]) for row in rows)
        metrics |= {
            f"{self.name}/samples": float(len(rows)),
            f"{self.name}/failures": float(failures),
        }
        return BenchmarkResult(
            name="FaceScape, surfaces from many views"
            + " (built-in miniature)" * self.is_miniature,
            metrics=metrics,
            headline=f"{self.name}/{stages[-1]}/distance_mm",
            samples=rows,
            tables=[_table(means), _sample_table(stages, errors, rows)],
            notes=self._notes(type(method).__name__, failures),
        )

    def _notes(self, method: str, failures: int) -> list[str]:
        views = len(self.dataset.views(self.dataset.sample_ids[0]))
        notes = [
            f"{method}, {self.count} samples of the split 'eval', {views} views, {failures} "
            "failures (a stage that is not finite counts with the base mesh).",
            "Distances are taken between vertices and surfaces inside of the facial mask, without "
            "alignment, and averaged over samples. Points whose closest point is at the other "
            f"surface's border have no counterpart; those beyond {self.limit_mm:g} mm are excluded "
            "and their share is given.",
        ]
        if self.is_miniature:
            notes.insert(
                1,
                "These are procedural faces, not photographs: the numbers compare stages and "
                "methods, not with published ones. For scans set benchmark.root.",
            )
        return [*notes, *self._disagreeing()]

    def _disagreeing(self) -> list[str]:
        """Say which views the base fit found to contradict the others."""
        notes = []
        for sample in self.dataset.sample_ids[: self.count]:
            path = self.folder.base_mesh_file(sample).with_suffix(".json")
            if not path.is_file():
                continue
            report = json.loads(path.read_text(encoding="utf-8"))
            residual = report.get("view_residual_mm", {})
            notes += [
                f"{sample}: view {view} disagrees with the others by {residual[str(view)]:.1f} mm."
                for view in report.get("disagreeing", [])
                if str(view) in residual
            ]
        return notes

    def _pictures(
        self, method: Any, order: Any, device: str | torch.device
    ) -> dict[str, NDArray[np.uint8]]:
        pictures = {}
        count = min(self.examples, len(order))
        chosen = {int(row): "Best" for row in order[:count]}
        chosen |= {int(row): "Worst" for row in order[::-1][:count]}
        for row, kind in chosen.items():
            (batch,) = self._batches([row], device)
            texels, scan = self._truth(batch)
            surfaces, _, _ = self._surfaces(method, batch, texels)
            title = f"{kind} sample, {batch.sample_id[0]}: distance to the scan"
            pictures[title] = error_picture(surfaces, scan, texels, self.limit_mm)
        return pictures


def _table(means: dict[str, dict[str, float]]) -> Table:
    rows: list[list[Any]] = [
        [text, *(values.get(key) for values in means.values())]
        for key, text in _ROWS.items()
        if any(key in values for values in means.values())
    ]
    return Table("Distance to the scan by stage", ["error", *means], rows, digits=3)


def _sample_table(
    stages: list[str], errors: list[dict[str, dict[str, float]]], rows: list[dict[str, Any]]
) -> Table:
    lines: list[list[Any]] = [
        [row["sample"], *(found[stage]["distance_mm"] for stage in stages)]
        for row, found in zip(rows, errors, strict=True)
    ]
    return Table("Mean distance of each sample (mm)", ["sample", *stages], lines, digits=3)
