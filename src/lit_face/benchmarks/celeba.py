"""CelebA's held-out people: is the photo explained, is it still that person, is the albedo right.

A method that refines a coarse face's colours is compared with that coarse face, by the same camera,
shape and light; identity is judged by networks that took no part in its training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from lit_face.benchmarks.celeba_errors import (
    COARSE,
    FINE,
    ColorErrors,
    colors_of,
    enlarged,
    identity_points,
    side_by_side,
    with_mean_colors,
)
from lit_face.benchmarks.celeba_judges import Judges
from lit_face.benchmarks.celeba_samples import (
    FoundErrors,
    WithCamera,
    albedo_stability,
    filled_errors,
    mean_errors,
)
from lit_face.benchmarks.celeba_tables import errors_table, judges_table
from lit_face.benchmarks.photometric_baselines import MeanFace
from lit_face.benchmarks.photometric_render import batch_rows, finite_rows, rows_of
from lit_face.benchmarks.photometric_samples import Errors, batches_of, predicted, true_faces
from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.data.ffhq_truth import FFHQTruth, has_truth
from lit_face.data.miniature_celeba import miniature_celeba
from lit_face.data.transforms import FaceTransform
from lit_face.morphable_models.base import MorphableModel
from lit_face.rendering.drawing import to_pixels
from lit_face.reporting.pictures import contact_sheet
from lit_face.reporting.result import BenchmarkResult
from lit_face.types import FaceBatch, Reconstruction

_CALIBRATION = 32  # training pictures that set the exposure of the mean face
_PICTURE_SIDE = 112  # of the report, pixels
_CROP_MARGIN = 1.6  # of a box about the landmarks, for the mean face
_MEAN_FACE = "mean_face"


class CelebASkinBenchmark:
    """Runs a method on the pictures of the test split, coarse and refined, beside the mean face.

    Args:
        morphable_model: gives the mean face; on the miniature, the model that made it does.
        root: folder as `CelebASkinDataset` takes it; None for the built-in miniature.
        batch_size: pictures at a time.
        workers: loader processes.
        picture_size: side of the stored pictures, pixels.
        miniature_images: pictures of the miniature; its test people are in no miniature of any
            size to train on.
        val_fraction: as in training, where the dataset does not say.
        test_fraction: likewise.
        max_rejected: share of unreadable records that is tolerated.
        judges: identity networks by name.
        limit: at most so many pictures, evenly spread; None for all.
        examples: how many best and worst faces the report shows.
    """

    name = "celeba"

    def __init__(
        self,
        morphable_model: MorphableModel,
        root: str | None = None,
        batch_size: int = 8,
        workers: int = 0,
        picture_size: int = 224,
        miniature_images: int = 48,
        val_fraction: float = 0.02,
        test_fraction: float = 0.02,
        max_rejected: float = 0.01,
        judges: dict[str, nn.Module] | None = None,
        limit: int | None = None,
        examples: int = 6,
    ) -> None:
        self.batch_size, self.workers, self.examples = batch_size, workers, examples
        self.judges = dict(judges or {})
        folder = miniature_celeba(miniature_images) if root is None else Path(root).expanduser()
        options: dict[str, Any] = {
            "picture_size": picture_size,
            "val_fraction": val_fraction,
            "test_fraction": test_fraction,
            "max_rejected": max_rejected,
        }
        self.dataset = CelebASkinDataset(folder, "test", **options)
        self.training = CelebASkinDataset(folder, "train", **options)
        count = len(self.dataset) if limit is None else min(limit, len(self.dataset))
        if count < 1:
            raise ValueError(f"benchmark.limit should be at least 1, found {limit}.")
        self.items = np.linspace(0, len(self.dataset) - 1, count).astype(int).tolist()
        self.truth = FFHQTruth(folder) if has_truth(folder) else None
        self.picture_size = picture_size
        self.model = morphable_model if self.truth is None else self.truth.model

    @torch.no_grad()
    def run(
        self, method: Any, image_size: int, device: str | torch.device = "cpu"
    ) -> BenchmarkResult:
        """Evaluate a method whose `predict_step(FaceBatch)` returns colours of vertices.

        Args:
            method: in evaluation mode, on `device`. Its reconstructions have
                `vertex_colors["albedo"]` and, where it refines a face, `coarse_albedo`. It may have
                `training_embedder_digests`: `weights_digest`s of the networks that it learnt from.
            image_size: side of the pictures that it takes, pixels.
            device: where to compute.

        Raises:
            ValueError: the reconstructions lack what is rendered.
        """
        self.model.to(device)
        judges = Judges.of(self.judges, method, device)
        skin = None if self.truth is None else self.truth.skin
        measure = ColorErrors(judges, self.model if self.truth is not None else None, skin)
        baseline = self._mean_face(image_size, device)
        found = FoundErrors()
        for batch in self._batches(self.dataset, self.items, image_size, device):
            true = true_faces(self.truth, batch)
            face = predicted(method, batch)
            colors_of(face, FINE)  # says so if there are none
            judges.remember(batch.image, identity_points(face, batch), batch.person)
            found.add("", measure(face, FINE, batch, true), len(batch))
            if COARSE in (face.vertex_colors or {}):
                found.add("coarse", measure(face, COARSE, batch, true), len(batch))
            if baseline is not None:
                found.add(_MEAN_FACE, measure(baseline(batch), FINE, batch, true), len(batch))
            if batch.person is not None:
                found.people += batch.person.tolist()
        result = self._result(method, found.joined(), np.array(found.people), judges)
        worst = result.samples and [sample["photo_l1"] for sample in result.samples]
        order = np.argsort(np.nan_to_num(np.array(worst), nan=np.inf))
        result.pictures.update(self._examples(method, measure, order, image_size, device))
        return result

    def _mean_face(
        self, image_size: int, device: str | torch.device
    ) -> Callable[[FaceBatch], Reconstruction] | None:
        """Return the mean face in the best light of three bands; None without landmarks."""
        if not self.dataset.pictures.has_landmarks:
            return None
        mean_face = MeanFace(self.model, self._margin(image_size, device))
        items = np.linspace(0, len(self.training) - 1, min(_CALIBRATION, len(self.training)))
        batches = self._batches(self.training, items.astype(int).tolist(), image_size, device)
        mean_face.calibrate(batches)
        return lambda batch: with_mean_colors(mean_face(batch), self.model)

    def _margin(self, image_size: int, device: str | torch.device) -> float:
        """Return the side of the pictures over the size of their landmarks' boxes."""
        items = list(range(min(_CALIBRATION, len(self.training))))
        sizes = []
        for batch in self._batches(self.training, items, image_size, device):
            if batch.landmarks is not None:
                points = batch.landmarks[..., :2]
                sizes.append((points.amax(1) - points.amin(1)).mean(1))
        return float(image_size / torch.cat(sizes).median()) if sizes else _CROP_MARGIN

    def _batches(
        self,
        dataset: CelebASkinDataset,
        items: list[int],
        image_size: int,
        device: str | torch.device,
    ) -> Iterator[FaceBatch]:
        transform = FaceTransform.for_evaluation(image_size, alignment="whole")
        samples: Dataset[Any] = dataset
        if self.truth is not None:
            samples = WithCamera(dataset, self.truth, self.picture_size)
        return batches_of(samples, items, transform, self.batch_size, self.workers, device)

    def _result(
        self, method: Any, joined: dict[str, Errors], person: np.ndarray, judges: Judges
    ) -> BenchmarkResult:
        failed = ~np.isfinite(joined[""]["photo_l1"])
        filled = {
            name: filled_errors(errors, joined.get(_MEAN_FACE)) for name, errors in joined.items()
        }
        summaries = {
            name: mean_errors(errors) | judges.summary(errors) | albedo_stability(errors, person)
            for name, errors in filled.items()
        }
        metrics = {
            "/".join(part for part in (self.name, name, key) if part): value
            for name, summary in summaries.items()
            for key, value in summary.items()
        }
        skill = judges.skill()
        metrics |= {f"{self.name}/{key}": value for key, value in skill.items()}
        metrics |= {
            f"{self.name}/images": float(len(failed)),
            f"{self.name}/failures": float(failed.sum()),
        }
        label = type(method).__name__.removesuffix("Module")
        columns = {
            {"": label, _MEAN_FACE: "mean face"}.get(name, name): summary
            for name, summary in summaries.items()
        }
        tables = [errors_table(columns)]
        if skill:
            tables.append(judges_table(skill, judges.trained))
        is_miniature = self.truth is not None
        return BenchmarkResult(
            name="CelebA, held-out people" + " (built-in miniature)" * is_miniature,
            metrics=metrics,
            headline=f"{self.name}/photo_l1",
            samples=self._samples(joined, failed),
            tables=tables,
            notes=self._notes(joined, failed, judges),
        )

    def _samples(self, joined: dict[str, Errors], failed: np.ndarray) -> list[dict[str, Any]]:
        samples = []
        for row, item in enumerate(self.items):
            sample: dict[str, Any] = {
                "image": self.dataset.sample_ids[item],
                "failed": bool(failed[row]),
            }
            for name, errors in joined.items():
                start = f"{name}_" if name else ""
                shown = {k: v for k, v in errors.items() if not k.startswith("_")}
                sample |= {f"{start}{key}": float(values[row]) for key, values in shown.items()}
            samples.append(sample)
        return samples

    def _examples(
        self,
        method: Any,
        measure: ColorErrors,
        order: np.ndarray,
        image_size: int,
        device: str | torch.device,
    ) -> dict[str, np.ndarray]:
        pictures = {}
        count = min(self.examples, len(order))
        for caption, rows in (("Best", order[:count]), ("Worst", order[::-1][:count])):
            strips: list[np.ndarray] = []
            refines = False
            items = [self.items[row] for row in rows]
            for batch in self._batches(self.dataset, items, image_size, device):
                face = predicted(method, batch)
                kept = finite_rows(face)
                if not bool(kept.any()):
                    continue
                columns, refines = side_by_side(
                    measure.renderer, rows_of(face, kept), batch_rows(batch, kept)
                )
                large = [enlarged(column, _PICTURE_SIDE) for column in columns]
                strips += list(to_pixels(torch.cat(large, dim=3)))
            if strips:
                lit = (
                    "coarse, refined, coarse albedo, refined albedo" if refines else "face, albedo"
                )
                title = f"{caption} faces by photo_l1: photo, {lit}, difference x 4"
                pictures[title] = contact_sheet(strips, columns=1)
        return pictures

    def _notes(self, joined: dict[str, Errors], failed: np.ndarray, judges: Judges) -> list[str]:
        notes = [
            f"{len(failed)} pictures, {int(failed.sum())} failures (a number that is not finite). "
            + (
                "What failed counts with the mean face's error; none is dropped."
                if _MEAN_FACE in joined
                else "Without landmarks there is no mean face; what failed is left out."
            ),
            "Colours of vertices are rendered with the method's own camera and light, in linear "
            "light, and compared in sRGB where skin mask and rendering overlap. identity_cosine "
            "pastes the rendering over the photo, which helps it; identity_cosine_render compares "
            "the faces alone. The mean face is upright and frontal in white frontal light.",
            judges.note(),
        ]
        if self.truth is None:
            return [*notes, "These are photos: there is no true albedo here."]
        notes.insert(
            0,
            "These are procedural faces, not photographs: albedo is known, and the numbers compare "
            "with the columns beside them, not with published ones. For photos set benchmark.root.",
        )
        if "albedo" not in joined[""]:
            notes.append("The vertices are not those of the truth's model: no errors of albedo.")
        return notes
