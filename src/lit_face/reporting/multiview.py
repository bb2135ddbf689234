"""The report of one subject that was reconstructed from many views."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.inference.multiview.subject_result import SubjectResult
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.reporting.heat_maps import HeatMesh, heat_maps
from lit_face.reporting.result import BenchmarkResult, Table

_ERRORS = {
    "distance": "distance_mm",
    "to scan": "accuracy_mm",
    "from scan": "completeness_mm",
    "median": "median_mm",
    "90 %": "p90_mm",
    "normals (deg)": "normal_deg",
    "excluded": "excluded",
}


def multiview_result(found: SubjectResult, disagreement: float) -> BenchmarkResult:
    """Gather tables, pictures and notes of a reconstruction for `write_report`.

    Args:
        found: of a run.
        disagreement: views above it are named, see `SubjectResult.warnings`.
    """
    metrics = {f"multiview/{stage.name}/seconds": stage.seconds for stage in found.stages}
    tables = [_timing(found), _views(found)]
    for stage, errors in found.errors.items():
        metrics |= {f"multiview/{stage}/{name}": value for name, value in errors.items()}
    if found.errors:
        rows: list[list[Any]] = [
            [stage, *(errors.get(name) for name in _ERRORS.values())]
            for stage, errors in found.errors.items()
        ]
        tables.insert(0, Table("Distance to the scan, mm", ["stage", *_ERRORS], rows, digits=3))
    pictures = {"Texture": read_image(found.folder / "texture.png")}
    if found.distances:
        pictures = {"Distance to the scan": _heat(found), **pictures}
    seconds = sum(stage.seconds for stage in found.stages)
    metrics["multiview/seconds"] = seconds
    return BenchmarkResult(
        name="One subject from many views",
        metrics=metrics,
        headline="multiview/seconds",
        samples=[],
        tables=tables,
        pictures=pictures,
        notes=found.warnings(disagreement) or ["All views agree."],
    )


def _timing(found: SubjectResult) -> Table:
    rows: list[list[Any]] = [
        [
            stage.name,
            stage.seconds,
            round(stage.peak_mib),
            round(stage.device_mib) if stage.device_mib else None,
            "before" if stage.name in found.skipped else "now",
        ]
        for stage in found.stages
    ]
    columns = ["stage", "seconds", "peak MiB", "device MiB", "done"]
    return Table("Time and memory", columns, rows, digits=1)


def _views(found: SubjectResult) -> Table:
    residual = {int(view): mm for view, mm in found.base.get("view_residual_mm", {}).items()}
    columns = (residual, found.features, found.brightness)
    rows: list[list[Any]] = [
        [view, *(column.get(view, math.nan) for column in columns)]
        for view in sorted({*residual, *found.features})
    ]
    note = (
        "Landmarks: median distance in mm of a view's rays from the points of all views. Features: "
        "distance from the other views' on the surface, 1 for the usual view. Brightness: of the "
        "photo on the surface, 1 for the usual one."
    )
    return Table(
        "Which view disagrees", ["view", "landmarks", "features", "brightness"], rows, note
    )


def _heat(found: SubjectResult) -> NDArray[np.uint8]:
    meshes = {}
    for stage, distance in found.distances.items():
        mesh = read_mesh(found.meshes[stage])
        meshes[stage] = HeatMesh(mesh.vertices, mesh.faces, distance)
    return heat_maps(meshes)
