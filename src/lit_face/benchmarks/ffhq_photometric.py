"""FFHQ's held-out pictures: is the photo explained, and, on the miniature, for the right reasons.

A picture of a face can be right with wrong shape, albedo and light that make up for each other. On
photos only the picture, the landmarks and the coverage can be measured; the built-in miniature
knows the truth, and there shape, normals, albedo, light and stability are measured too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_face.benchmarks.photometric_baselines import MeanFace
from lit_face.benchmarks.photometric_errors import PhotometricErrors
from lit_face.benchmarks.photometric_pictures import CAPTION, strips
from lit_face.benchmarks.photometric_samples import (
    Errors,
    WithCamera,
    batches_of,
    joined_errors,
    predicted,
    stability,
    true_faces,
    with_failures_filled,
)
from lit_face.benchmarks.photometric_tables import means, result_tables
from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_preparation import Landmarker, prepare, prepared_folders
from lit_face.data.ffhq_truth import FFHQTruth, has_truth
from lit_face.data.miniature_ffhq import miniature_ffhq
from lit_face.data.skin_masks import SkinMasker
from lit_face.data.transforms import Alignment, FaceTransform
from lit_face.metrics.photometric import PerceptualDistance
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.reporting.pictures import contact_sheet
from lit_face.reporting.result import BenchmarkResult
from lit_face.types import FaceBatch

MARGIN = 1.6
_PICTURE_SIZE = 1024  # larger ones are shrunk while loading
_CALIBRATION = 32  # training pictures that set the exposure of the mean face


class FFHQPhotometricBenchmark:
    """Runs a method on the held-out pictures, beside the mean face in plain and in fitted light.

    Args:
        morphable_model: gives the mean face; on the miniature, the model that made it does.
        root: folder of FFHQ or of photos; None for the built-in miniature.
        batch_size: pictures at a time.
        workers: loader processes.
        miniature_images: pictures of the miniature, a tenth of which is held out; its held-out
            people are in no miniature of any size to train on.
        val_fraction: share held out where the dataset does not say, as in training.
        max_rejected: share of unreadable records that is tolerated.
        landmarker: as in `datamodules.FFHQDataModule`.
        masker: likewise.
        limit: at most so many of the held-out pictures, evenly spread; None for all.
        examples: how many best and worst faces the report shows.
    """

    name = "ffhq"

    def __init__(
        self,
        morphable_model: MorphableModel,
        root: str | None = None,
        batch_size: int = 8,
        workers: int = 0,
        miniature_images: int = 320,
        val_fraction: float = 0.02,
        max_rejected: float = 0.01,
        landmarker: Landmarker | None = None,
        masker: SkinMasker | None = None,
        limit: int | None = None,
        examples: int = 6,
    ) -> None:
        self.batch_size, self.workers, self.examples = batch_size, workers, examples
        folder = miniature_ffhq(miniature_images) if root is None else Path(root).expanduser()
        options: dict[str, Any] = {
            "picture_size": _PICTURE_SIZE,
            "val_fraction": val_fraction,
            "max_rejected": max_rejected,
        }
        if root is not None and (landmarker is not None or masker is not None):
            prepared = prepared_folders(folder, landmarker, masker)
            prepare(folder, prepared, landmarker, masker)
            options |= {"landmarks": prepared.landmarks, "masks": prepared.masks}
        self.dataset = FFHQDataset(folder, "val", **options)
        self.training = FFHQDataset(folder, "train", **options)
        count = len(self.dataset) if limit is None else min(limit, len(self.dataset))
        if count < 1:
            raise ValueError(f"benchmark.limit should be at least 1, found {limit}.")
        self.items = np.linspace(0, len(self.dataset) - 1, count).astype(int).tolist()
        self.truth = FFHQTruth(folder) if has_truth(folder) else None
        self.is_miniature = self.truth is not None
        self.model = morphable_model if self.truth is None else self.truth.model
        self._alignment: Alignment = "box"
        self._standard: Tensor | None = None

    @torch.no_grad()
    def run(
        self, method: Any, image_size: int, device: str | torch.device = "cpu"
    ) -> BenchmarkResult:
        """Evaluate a method whose `predict_step(FaceBatch)` returns a `Reconstruction`.

        Args:
            method: in evaluation mode, on `device`. Crops are aligned as its `alignment` says, by
                its `standard_points` where that is 'five_points' (see `FaceTransform`).
            image_size: side of the crops that it takes, pixels.
            device: where to compute.
        """
        self.model.to(device)
        self._align_as(method)
        measure, missing = self._measure(device)
        mean_face = MeanFace(self.model, MARGIN, alignment=self._alignment)
        count = min(_CALIBRATION, len(self.training))
        items = np.linspace(0, len(self.training) - 1, count).astype(int).tolist()
        mean_face.calibrate(self._batches(self.training, items, image_size, device))
        parts: dict[str, list[Errors]] = {"method": [], "mean face": [], "mean face, fitted": []}
        tones: list[str] = []
        person: list[int] = []
        for batch in self._batches(self.dataset, self.items, image_size, device):
            true = true_faces(self.truth, batch)
            if true is not None:
                tones += true.tones
                person += true.person.tolist()
            found = (predicted(method, batch), mean_face(batch), mean_face.lit(batch))
            for errors, face in zip(parts.values(), found, strict=True):
                errors.append(measure(face, batch, true))
        joined = {name: joined_errors(errors) for name, errors in parts.items()}
        people = np.array(person) if self.truth is not None else None
        result = self._result(method, joined, np.array(tones), people, missing)
        ranking = self._ranking(joined)
        result.pictures.update(self._examples(method, measure, ranking, image_size, device))
        return result

    def _align_as(self, method: Any) -> None:
        self._alignment = getattr(method, "alignment", "box")
        self._standard = method.standard_points if self._alignment == "five_points" else None

    def _measure(self, device: str | torch.device) -> tuple[PhotometricErrors, list[str]]:
        """Return what measures, and sentences about what cannot be measured here."""
        missing = []
        lpips = None
        try:
            lpips = PerceptualDistance(device)
        except FileNotFoundError as error:
            missing.append(f"No LPIPS: {error}")
        renderer = RasterMaterialRenderer()
        if self.truth is None:
            missing.append(
                "These are photos: shape, normals, albedo, light, stability and skin tones have no "
                "truth here and are measured on the built-in miniature (benchmark.root=null)."
            )
            return PhotometricErrors(renderer, lpips), missing
        return PhotometricErrors(renderer, lpips, self.model, self.truth.skin), missing

    def _batches(
        self,
        dataset: FFHQDataset,
        items: list[int],
        image_size: int,
        device: str | torch.device,
    ) -> Iterator[FaceBatch]:
        transform = FaceTransform.for_evaluation(
            image_size, MARGIN, alignment=self._alignment, standard_points=self._standard
        )
        samples: Dataset[Any] = dataset if self.truth is None else WithCamera(dataset, self.truth)
        return batches_of(samples, items, transform, self.batch_size, self.workers, device)

    def _result(
        self,
        method: Any,
        joined: dict[str, Errors],
        tones: np.ndarray,
        person: np.ndarray | None,
        missing: list[str],
    ) -> BenchmarkResult:
        errors, baseline, lit = joined.values()
        filled, failed = with_failures_filled(errors, baseline)
        summaries = {
            name: means(values) | stability(values, person)
            for name, values in (("", filled), ("mean_face", baseline), ("mean_face_lit", lit))
        }
        groups = {
            tone: means(filled, tones == tone) | {"images": float((tones == tone).sum())}
            for tone in dict.fromkeys(tones.tolist())
        }
        metrics = {
            "/".join(part for part in (self.name, name, key) if part): value
            for name, summary in summaries.items()
            for key, value in summary.items()
        }
        metrics |= {f"{self.name}/tone_{t}/{k}": v for t, g in groups.items() for k, v in g.items()}
        metrics |= {
            f"{self.name}/failures": float(failed.sum()),
            f"{self.name}/images": float(len(failed)),
        }
        label = type(method).__name__.removesuffix("Module")
        head = "photo_l1" if "photo_l1" in summaries[""] else "landmarks_px"
        return BenchmarkResult(
            name="FFHQ, held-out pictures" + " (built-in miniature)" * self.is_miniature,
            metrics=metrics,
            headline=f"{self.name}/{head}",
            samples=self._samples(errors, baseline, failed, tones),
            tables=result_tables(
                label,
                summaries[""],
                {
                    "mean face": summaries["mean_face"],
                    "mean face, fitted light": summaries["mean_face_lit"],
                },
                groups,
                {tone: means(baseline, tones == tone) for tone in groups},
            ),
            notes=self._notes(failed, errors, missing),
        )

    def _samples(
        self, errors: Errors, baseline: Errors, failed: np.ndarray, tones: np.ndarray
    ) -> list[dict[str, Any]]:
        samples = []
        for row, item in enumerate(self.items):
            name = self.dataset.sample_ids[item]
            sample: dict[str, Any] = {"image": name, "failed": bool(failed[row])}
            if len(tones):
                sample["tone"] = str(tones[row])
            for prefix, values in (("", errors), ("mean_face_", baseline)):
                shown = {k: v for k, v in values.items() if not k.startswith("_")}
                sample |= {f"{prefix}{key}": float(value[row]) for key, value in shown.items()}
            samples.append(sample)
        return samples

    def _ranking(self, joined: dict[str, Errors]) -> tuple[str, np.ndarray]:
        filled, _ = with_failures_filled(joined["method"], joined["mean face"])
        key = "photo_l1" if "photo_l1" in joined["method"] else "landmarks_px"
        return key, filled[key]

    def _examples(
        self,
        method: Any,
        measure: PhotometricErrors,
        ranking: tuple[str, np.ndarray],
        image_size: int,
        device: str | torch.device,
    ) -> dict[str, np.ndarray]:
        key, errors = ranking
        order = np.argsort(errors)
        count = min(self.examples, len(order))
        pictures = {}
        for caption, rows in (("Best", order[:count]), ("Worst", order[::-1][:count])):
            rendered: list[np.ndarray] = []
            items = [self.items[row] for row in rows]
            for batch in self._batches(self.dataset, items, image_size, device):
                rendered += strips(measure.renderer, predicted(method, batch), batch)
            if rendered:
                values = ", ".join(f"{errors[row]:.3f}" for row in rows)
                title = f"{caption} faces: {CAPTION}. {key} {values}"
                pictures[title] = contact_sheet(rendered, columns=1)
        return pictures

    def _notes(self, failed: np.ndarray, errors: Errors, missing: list[str]) -> list[str]:
        notes = [
            f"{len(failed)} pictures, {int(failed.sum())} failures (a number that is not finite). "
            "What failed counts with the mean face's error; none is dropped.",
            "Pictures are rendered by the raster backend from the method's own camera, light and "
            "maps, and compared where the skin mask and the rendered face overlap; read the errors "
            "together with the coverage. The mean face is upright and frontal, in white frontal "
            "light as bright as the training pictures; 'fitted light' gives it the light of three "
            "bands that explains each picture best.",
        ]
        if self.truth is not None and "vertices_mm" not in errors:
            missing = [
                *missing,
                "The method's vertices are not those of the truth's model, so shape, normals and "
                "albedo are not compared.",
            ]
        if "photo_l1" not in errors:
            missing = [*missing, "The method estimates no maps, camera and light: no picture."]
        if self.is_miniature:
            notes.insert(
                0,
                "These are procedural faces, not photographs: shape, albedo and light are known, "
                "and the numbers compare with the mean face beside them, not with published ones. "
                "For photos set benchmark.root.",
            )
        return [*notes, *missing]
