"""AFLW2000-3D: sparse and dense alignment, reconstruction and head pose (3DDFA's and PRN's rules).

Crops are PRN's: the box of the true 68 points, 1.6 times enlarged. Errors are taken in pixels of
the crop; all of them are ratios of lengths, so the crop's similarity does not change them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from lit_face.benchmarks.aflw2000_tables import result_tables
from lit_face.benchmarks.face_errors import (
    AXES,
    SurfacePoints,
    Truth,
    image_errors,
    mean_face,
)
from lit_face.data.aflw2000 import AFLW2000Dataset
from lit_face.data.fitted import collate
from lit_face.data.miniature_aflw2000 import miniature_aflw2000
from lit_face.data.transforms import FaceTransform
from lit_face.metrics.nme import nme
from lit_face.metrics.pose import within_protocol
from lit_face.metrics.yaw_bins import balanced_summary
from lit_face.morphable_models.base import MorphableModel
from lit_face.reporting.pictures import comparison, contact_sheet
from lit_face.reporting.result import BenchmarkResult
from lit_face.types import FaceBatch, Reconstruction

MARGIN = 1.6
ERRORS = (
    "nme_2d_sparse",
    "nme_3d_sparse",
    "nme_2d_dense",
    "nme_3d_dense",
    "nme_reconstruction",
    "nme_reconstruction_corresponding",
)


class AFLW2000Benchmark:
    """Runs a method on every image of AFLW2000-3D, beside the mean face.

    Args:
        morphable_model: the model of the dataset's coefficients, for the dense truth.
        root: folder of the dataset; None for the built-in miniature.
        batch_size: images at a time.
        workers: loader processes.
        yaw_list: 'fitted' (current) or 'aflw' (as in the 3DDFA paper; needs its file).
        pixel_origin: of the truth; see docs/pixel_origin.md.
        max_rejected: share of unreadable records that is tolerated.
        allow_partial: accept a root without all 2,000 images.
        examples: how many best and worst faces the report shows.
    """

    name = "aflw2000"

    def __init__(
        self,
        morphable_model: MorphableModel,
        root: str | None = None,
        batch_size: int = 16,
        workers: int = 0,
        yaw_list: str = "fitted",
        pixel_origin: str = "zero_based",
        max_rejected: float = 0.01,
        allow_partial: bool = False,
        examples: int = 6,
    ) -> None:
        self.model = morphable_model
        self.is_miniature = root is None
        self.batch_size, self.workers, self.examples = batch_size, workers, examples
        self.yaw_list = yaw_list
        self.dataset = AFLW2000Dataset(
            miniature_aflw2000() if root is None else Path(root),
            morphable_model=morphable_model,
            pixel_origin=pixel_origin,
            max_rejected=max_rejected,
            allow_partial=allow_partial,
        )
        self.yaw = self.dataset.yaw(yaw_list).numpy()

    @torch.no_grad()
    def run(
        self, method: Any, image_size: int, device: str | torch.device = "cpu"
    ) -> BenchmarkResult:
        """Evaluate a method whose `predict_step(FaceBatch)` returns a `Reconstruction`.

        Args:
            method: in evaluation mode, on `device`.
            image_size: side of the crops that it takes, pixels.
            device: where to compute.
        """
        self.model.to(device)
        found: dict[str, list[dict[str, np.ndarray]]] = {"method": [], "mean_face": []}
        points: SurfacePoints | None = None
        for start, batch in self._batches(range(len(self.dataset)), image_size, device):
            predicted: Reconstruction = method.predict_step(batch, 0)
            points = points or SurfacePoints(self.model, predicted.uv)
            rows = slice(start, start + len(batch))
            truth = self._truth(batch, points, rows)
            baseline = mean_face(self.model, points, batch, MARGIN)
            for name, reconstruction in (("method", predicted), ("mean_face", baseline)):
                errors = image_errors(reconstruction, truth)
                errors |= self._reannotated(reconstruction, batch, rows)
                found[name].append(errors)
        errors, baseline_errors = (
            {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            for parts in found.values()
        )
        return self._result(method, errors, baseline_errors, image_size, device)

    def _batches(
        self, items: Any, image_size: int, device: str | torch.device
    ) -> Iterator[tuple[int, FaceBatch]]:
        transform = FaceTransform.for_evaluation(image_size, margin=MARGIN)
        loader: DataLoader[Any] = DataLoader(
            Subset(self.dataset, list(items)),
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=collate,
        )
        start = 0
        for batch in loader:
            yield start, transform(batch.to(device))
            start += len(batch)

    def _truth(self, batch: FaceBatch, points: SurfacePoints, rows: slice) -> Truth:
        coefficients, camera = batch.coefficients, batch.camera
        if coefficients is None or camera is None or batch.landmarks is None:
            raise ValueError("AFLW2000-3D gives no dense truth without its morphable model.")
        vertices = self.model(coefficients["identity"], coefficients["expression"])
        dense = camera.project(points.pick(vertices))
        return Truth(batch.landmarks, dense, self.dataset.pose_degrees[rows].numpy())

    def _reannotated(
        self, predicted: Reconstruction, batch: FaceBatch, rows: slice
    ) -> dict[str, np.ndarray]:
        """NME to LS3D-W's points, where their file is there."""
        original, other = self.dataset.landmarks, self.dataset.reannotated
        if original is None or other is None or batch.landmarks is None:
            return {}
        box, original_box = (
            points[..., :2].amax(dim=1) - points[..., :2].amin(dim=1)
            for points in (batch.landmarks, original[rows].to(batch.landmarks.device))
        )
        zoom = (box / original_box).mean(dim=1)[:, None, None]
        shift = (other - original[..., :2])[rows].to(zoom.device)
        target = batch.landmarks[..., :2] + zoom * shift
        return {"nme_2d_reannotated": 100 * nme(predicted.landmarks, target).cpu().numpy()}

    def _result(
        self,
        method: Any,
        errors: dict[str, np.ndarray],
        baseline: dict[str, np.ndarray],
        image_size: int,
        device: str | torch.device,
    ) -> BenchmarkResult:
        failed = ~np.isfinite(errors["nme_2d_sparse"])
        filled = {key: np.where(failed, baseline[key], values) for key, values in errors.items()}
        summary, baseline_summary = self._summary(filled), self._summary(baseline)
        metrics = {f"{self.name}/{key}": value for key, value in summary.items()}
        metrics |= {f"{self.name}/mean_face/{k}": v for k, v in baseline_summary.items()}
        metrics |= {
            f"{self.name}/failures": float(failed.sum()),
            f"{self.name}/images": len(failed),
        }
        samples = [
            {
                "image": self.dataset.sample_ids[row],
                "yaw_deg": float(self.yaw[row]),
                "failed": bool(failed[row]),
                **{key: float(values[row]) for key, values in errors.items()},
                **{f"mean_face_{key}": float(values[row]) for key, values in baseline.items()},
            }
            for row in range(len(failed))
        ]
        label = type(method).__name__.removesuffix("Module")
        return BenchmarkResult(
            name="AFLW2000-3D" + " (built-in miniature)" * self.is_miniature,
            metrics=metrics,
            headline=f"{self.name}/nme_2d_sparse",
            samples=samples,
            tables=result_tables(label, summary, baseline_summary, self.is_miniature),
            curves={
                f"Cumulative error, 68 points, {dims.upper()}": {
                    label: errors[f"nme_{dims}_sparse"],
                    "mean face": baseline[f"nme_{dims}_sparse"],
                }
                for dims in ("2d", "3d")
            },
            pictures=self._examples(method, filled["nme_2d_sparse"], image_size, device),
            notes=self._notes(failed),
        )

    def _summary(self, errors: dict[str, np.ndarray]) -> dict[str, float]:
        """Summarise: sparse 2D by yaw bins (unweighted mean), everything else by the plain mean."""
        by_yaw = balanced_summary(errors["nme_2d_sparse"], self.yaw)
        summary = {name: float(errors[name].mean()) for name in ERRORS}
        summary["nme_2d_sparse"] = by_yaw.pop("mean")
        summary |= {f"nme_2d_sparse_{key}": value for key, value in by_yaw.items()}
        if "nme_2d_reannotated" in errors:
            again = balanced_summary(errors["nme_2d_reannotated"], self.yaw)
            summary["nme_2d_sparse_reannotated"] = again["mean"]
        counted = within_protocol(self.dataset.pose_degrees.numpy())
        axes = {f"pose_{a}_mae_deg": float(errors[f"pose_{a}_deg"][counted].mean()) for a in AXES}
        return {**summary, **axes, "pose_mae_deg": float(np.mean(list(axes.values())))}

    def _examples(
        self, method: Any, errors: np.ndarray, image_size: int, device: str | torch.device
    ) -> dict[str, np.ndarray]:
        order = np.argsort(errors)
        count = min(self.examples, len(order))
        pictures = {}
        for caption, rows in (("Best", order[:count]), ("Worst", order[::-1][:count])):
            strips = []
            for _, batch in self._batches(rows.tolist(), image_size, device):
                strips += comparison(batch, method.predict_step(batch, 0))
            values = ", ".join(f"{errors[row]:.1f}" for row in rows)
            title = f"{caption} faces: image, points (true green, predicted red), mesh"
            pictures[f"{title}. NME {values} percent"] = contact_sheet(strips, columns=2)
        return pictures

    def _notes(self, failed: np.ndarray) -> list[str]:
        notes = [
            f"{len(failed)} images, {int(failed.sum())} failures (no finite output). A failed "
            "image counts with the mean face's error; none is dropped.",
            f"Sparse 2D is the unweighted mean of three yaw bins (yaw list '{self.yaw_list}'); the "
            "other errors are plain means over images. Box size: sqrt(width x height) of the true "
            "points used. 3D: depth of both sides shifted to zero mean. Head pose leaves out "
            "images with a true angle beyond 99 degrees.",
        ]
        if self.is_miniature:
            notes.insert(
                0,
                "These are procedural faces, not photographs: the numbers show that everything "
                "works and compare with the mean face beside them, not with published ones. For "
                "the real dataset set benchmark.root.",
            )
        return notes
