"""Samples for `ffhq_photometric`, and per-picture errors put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from lit_face.data.ffhq import FFHQDataset
from lit_face.data.ffhq_truth import FFHQTruth, TrueFaces
from lit_face.data.fitted import collate
from lit_face.data.transforms import FaceTransform
from lit_face.geometry.cameras import AffineCamera
from lit_face.metrics.consistency import within_person_std
from lit_face.types import FaceBatch, Reconstruction

Errors = dict[str, np.ndarray]


class WithCamera(Dataset[dict[str, Any]]):
    """Samples with the true camera, which follows the crop; methods never see it."""

    def __init__(self, dataset: FFHQDataset, truth: FFHQTruth) -> None:
        self.dataset, self.truth = dataset, truth

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one face with its camera (3,4)."""
        sample = self.dataset[item]
        return {**sample, "camera": self.truth.camera(sample["sample_id"])}


def batches_of(
    samples: Dataset[Any],
    items: Sequence[int],
    transform: FaceTransform,
    batch_size: int,
    workers: int,
    device: str | torch.device,
) -> Iterator[FaceBatch]:
    """Yield some of the samples, transformed on the device."""
    loader: DataLoader[Any] = DataLoader(
        Subset(samples, items), batch_size=batch_size, num_workers=workers, collate_fn=collate
    )
    for batch in loader:
        yield transform(batch.to(device))


def true_faces(truth: FFHQTruth | None, batch: FaceBatch) -> TrueFaces | None:
    """Return what a batch with its true camera shows, in its pixels; None where nobody knows."""
    if truth is None or not isinstance(batch.camera, AffineCamera):
        return None
    return replace(truth.read(batch.sample_id), camera=batch.camera)


def predicted(method: Any, batch: FaceBatch) -> Reconstruction:
    """Run a method on a batch without its true camera."""
    face: Reconstruction = method.predict_step(replace(batch, camera=None), 0)
    return face


def with_failures_filled(errors: Errors, baseline: Errors) -> tuple[Errors, np.ndarray]:
    """Give what is not finite the baseline's error; return also which pictures (N,) failed."""
    count = len(baseline["landmarks_px"])
    failed = np.zeros(count, bool)
    filled: Errors = {}
    for key, values in errors.items():
        if key.startswith("_"):
            filled[key] = values
            continue
        bad = ~np.isfinite(values)
        failed |= bad
        other = baseline.get(key.removeprefix("statistical/"))
        filled[key] = values if other is None else np.where(bad, other, values)
    return filled, failed


def joined_errors(parts: list[Errors]) -> Errors:
    """Concatenate batches; an error that a batch lacks is NaN there."""
    shapes = {key: values.shape[1:] for part in parts for key, values in part.items()}
    sizes = [len(part["landmarks_px"]) for part in parts]
    return {
        key: np.concatenate(
            [
                part.get(key, np.full((size, *shape), np.nan, np.float32))
                for part, size in zip(parts, sizes, strict=True)
            ]
        )
        for key, shape in shapes.items()
    }


def stability(errors: Errors, person: np.ndarray | None) -> dict[str, float]:
    """Return std of identity and albedo over pictures of a person, where people are known."""
    found: dict[str, float] = {}
    for name in ("identity", "albedo"):
        if person is not None and f"_{name}" in errors:
            std, share = within_person_std(errors[f"_{name}"], person)
            found |= {f"{name}_std": std, f"{name}_std_share": share}
    return {key: value for key, value in found.items() if np.isfinite(value)}
