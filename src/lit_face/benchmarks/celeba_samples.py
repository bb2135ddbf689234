"""Samples for `benchmark=celeba`, and per-picture errors put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from lit_face.benchmarks.photometric_samples import Errors
from lit_face.data.celeba_skin import CelebASkinDataset
from lit_face.data.ffhq_truth import FFHQTruth
from lit_face.geometry.five_points import DEEP3D_SIZE
from lit_face.metrics.consistency import within_person_std


@dataclass
class FoundErrors:
    """Errors of the batches so far, by whose they are, and who was on the pictures."""

    parts: dict[str, list[Errors]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    people: list[int] = field(default_factory=list)

    def add(self, name: str, errors: Errors, size: int) -> None:
        """Add the errors of a batch of `size` pictures."""
        self.parts.setdefault(name, []).append(errors)
        self.sizes.setdefault(name, []).append(size)

    def joined(self) -> dict[str, Errors]:
        """Concatenate; an error that a batch lacks is NaN there."""
        result = {}
        for name, parts in self.parts.items():
            shapes = {key: values.shape[1:] for part in parts for key, values in part.items()}
            result[name] = {
                key: np.concatenate(
                    [
                        part.get(key, np.full((size, *shape), np.nan, np.float32))
                        for part, size in zip(parts, self.sizes[name], strict=True)
                    ]
                )
                for key, shape in shapes.items()
            }
        return result


class WithCamera(Dataset[dict[str, Any]]):
    """Samples with the true camera, in pixels of the sample; methods never see it."""

    def __init__(self, dataset: CelebASkinDataset, truth: FFHQTruth, picture_size: int) -> None:
        self.dataset, self.truth, self.picture_size = dataset, truth, picture_size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one face with its camera (3,4)."""
        sample = self.dataset[item]
        return {**sample, "camera": self._camera(sample["sample_id"])}

    def _camera(self, name: str) -> Tensor:
        stored = self.truth.camera(name)
        factor = self.picture_size / DEEP3D_SIZE
        moved = stored * factor
        moved[:2, 3] += (factor - 1) / 2  # pixels count from their centres
        return moved


def filled_errors(errors: Errors, baseline: Errors | None) -> Errors:
    """Give what is not finite the baseline's error, where there is one."""
    if baseline is None:
        return errors
    if not np.isfinite(errors["photo_l1"]).any():
        return baseline
    return {
        key: values
        if key not in baseline or key.startswith("_")
        else np.where(np.isfinite(values), values, baseline[key])
        for key, values in errors.items()
    }


def mean_errors(errors: Errors) -> dict[str, float]:
    """Return plain means of what is finite; errors that are finite nowhere go."""
    found = {}
    for key, values in errors.items():
        if key.startswith("_"):
            continue
        finite = values[np.isfinite(values)]
        if len(finite):
            found[key] = float(finite.mean())
    return found


def albedo_stability(errors: Errors, person: np.ndarray) -> dict[str, float]:
    """Return the std of albedo over pictures of a person, where people and truth are known."""
    if "_albedo" not in errors or not len(person):
        return {}
    std, share = within_person_std(errors["_albedo"], person)
    found = {"albedo_std": std, "albedo_std_share": share}
    return {key: value for key, value in found.items() if np.isfinite(value)}
