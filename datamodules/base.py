"""What every datamodule shares: loaders, device-side transforms, the check of the first batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import pytorch_lightning as pl
from torch.utils.data import Dataset

from datamodules.loader import EpochSampler, FixedOrderSampler, ResumableLoader
from lit_face.data.fitted import collate
from lit_face.data.transforms import Alignment, FaceTransform
from lit_face.morphable_models.base import MorphableModel
from lit_face.types import FaceBatch

Split = Literal["train", "val", "test"]


class FaceDataModule(pl.LightningDataModule):
    """Builds loaders of `FaceBatch`es; a subclass names its dataset's splits.

    Args:
        morphable_model: the model of the dataset's coefficients.
        seed: order, augmentation and synthetic faces follow from it.
        image_size: side of the crop, pixels.
        batch_size: per device.
        workers: loader processes per device.
        augmentation: `FaceTransform` with its random parts chosen, still without size and model;
            None crops training images as evaluation does.
        alignment: 'box', 'five_points' or 'whole', see `FaceTransform`; in training and evaluation.
    """

    provides: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        morphable_model: MorphableModel,
        seed: int,
        image_size: int,
        batch_size: int,
        workers: int,
        augmentation: Callable[..., FaceTransform] | None,
        alignment: Alignment = "box",
    ) -> None:
        super().__init__()
        self.morphable_model = morphable_model
        self.seed, self.image_size = seed, image_size
        self.batch_size, self.workers = batch_size, workers
        self.eval_transform = FaceTransform.for_evaluation(
            image_size, morphable_model=morphable_model, alignment=alignment
        )
        self.train_transform = self.eval_transform
        if augmentation is not None:
            self.train_transform = augmentation(
                image_size=image_size, morphable_model=morphable_model, alignment=alignment
            )
        self.datasets: dict[Split, Dataset[dict[str, Any]]] = {}
        self._validated: set[str] = set()

    @staticmethod
    def collate(samples: Sequence[Mapping[str, Any]]) -> FaceBatch:
        """Stack samples into a batch."""
        return collate(samples)

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[dict[str, Any]] | None:
        """Build a split's dataset, or None where there is no such split."""

    def prepare_data(self) -> None:
        """Find everything wrong with the files and write what is built once; keeps no state."""
        self.dataset("train")

    def setup(self, stage: str) -> None:
        """Open the datasets of a stage; may run twice."""
        splits: tuple[Split, ...] = ("train", "val") if stage == "fit" else ("val", "test")
        for split in splits:
            found = self.dataset(split) if split not in self.datasets else None
            if found is not None:
                self.datasets[split] = found

    def describe(self) -> str:
        """Name the splits and their sizes."""
        sizes = ", ".join(f"{len(d)} {split}" for split, d in self.datasets.items())  # type: ignore[arg-type]
        return f"{type(self).__name__} ({sizes})"

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled by (seed, epoch), incomplete last batch dropped."""
        return self._loader("train")

    def val_dataloader(self) -> ResumableLoader | list[Any]:
        """In order, every sample once."""
        return self._loader("val") if "val" in self.datasets else []

    def test_dataloader(self) -> ResumableLoader | list[Any]:
        """In order, every sample once."""
        return self._loader("test") if "test" in self.datasets else []

    def on_after_batch_transfer(self, batch: FaceBatch, dataloader_idx: int) -> FaceBatch:
        """Crop, augment and label on the device."""
        is_training = self.trainer is not None and self.trainer.training
        batch = self.transform(batch, is_training=is_training)
        stage = "train" if is_training else "evaluation"
        if stage not in self._validated:
            batch.validate(type(self).__name__)
            self._validated.add(stage)
        return batch

    def transform(self, batch: FaceBatch, *, is_training: bool) -> FaceBatch:
        """Turn a collated batch into crops with their labels."""
        transform = self.train_transform if is_training else self.eval_transform
        cropped: FaceBatch = transform(batch)
        return cropped

    def _loader(self, split: Split) -> ResumableLoader:
        dataset, is_train = self.datasets[split], split == "train"
        rank = self.trainer.global_rank if self.trainer else 0
        world_size = self.trainer.world_size if self.trainer else 1
        size = len(dataset)  # type: ignore[arg-type]
        if is_train and size < self.batch_size * world_size:
            raise ValueError(
                f"The training split has {size} samples, fewer than one batch of "
                f"{self.batch_size} x {world_size} device(s); lower data.batch_size."
            )
        seed = self.seed + 1_000_003 * list(get_args(Split)).index(split)
        overfits = bool(getattr(self.trainer, "overfit_batches", 0))
        sampler: EpochSampler = FixedOrderSampler(size, seed, rank=rank, world_size=world_size)
        if is_train and not overfits:
            sampler = EpochSampler(size, seed, shuffle=True, rank=rank, world_size=world_size)
        return ResumableLoader(
            dataset, sampler, self.batch_size, self.workers, self.collate, seed, drop_last=is_train
        )
