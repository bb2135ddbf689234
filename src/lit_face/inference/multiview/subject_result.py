"""What came out of one subject's run through the chain."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_face.inference.multiview.stages import StageRecord

Array = NDArray[np.float32]


@dataclass
class SubjectResult:
    """What came out.

    Attributes:
        folder: with the files.
        stages: what each stage took.
        skipped: stages that were done before.
        base: report of the base mesh's fit.
        features: of each view by its number: how far they are from the other views', 1 as usual.
        brightness: of each view's photo on the surface, 1 as usual.
        displacements: maps (S,S) in mm along the base mesh's normals by stage, base mesh first.
        relief: (T,T) mm along the last of these surfaces' normals; None without displacement.
        meshes: files by stage, head space, mm.
        errors: by stage, where there is a scan, see `SurfaceErrors.summary`.
        distances: from the vertices of each stage's mesh to the scan, mm.
    """

    folder: Path
    stages: list[StageRecord]
    skipped: list[str]
    base: dict[str, Any] = field(default_factory=dict)
    features: dict[int, float] = field(default_factory=dict)
    brightness: dict[int, float] = field(default_factory=dict)
    displacements: dict[str, Array] = field(default_factory=dict)
    relief: Array | None = None
    meshes: dict[str, Path] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    distances: dict[str, Array] = field(default_factory=dict)

    def warnings(self, limit: float) -> list[str]:
        """Say which views disagree with the others: by landmarks, features or brightness."""
        found = [
            f"View {view} disagrees: its landmarks' rays miss the points of all views by "
            f"{self.base['view_residual_mm'][str(view)]:.1f} mm (median). Is its camera right?"
            for view in self.base["disagreeing"]
        ]
        found += [f"View {view} has no (sure) face." for view in self.base["without_face"]]
        found += [
            f"View {view} disagrees: what it shows of the surface is {value:.1f} times as far from "
            "what the others show as usual. Is its camera right?"
            for view, value in self.features.items()
            if value > limit
        ]
        found += [
            f"View {view} shows nothing of the surface that others show. Is its camera right?"
            for view, value in self.features.items()
            if math.isnan(value)
        ]
        found += [
            f"View {view} disagrees: its photo is {value:.1f} times as bright as the others. Is it "
            "well exposed?"
            for view, value in self.brightness.items()
            if max(value, 1 / value) > limit
        ]
        return found
