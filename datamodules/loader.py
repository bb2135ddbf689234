"""A data loader ordered by (seed, epoch) that resumes in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from lit_face.data.random import sample_keys


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (index, epoch), shuffled by (seed, epoch), every rank its share of each global batch.

    Rank r of W takes every W-th sample, so W ranks with batches of b see, step by step, the samples
    of one process with batches of W * b.
    """

    def __init__(
        self, size: int, seed: int, *, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (Lightning calls this when one starts); evaluation never changes."""
        self.epoch = epoch if self.shuffle else 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.arange(self.size)
        if self.shuffle:
            order = torch.argsort(sample_keys(self.seed, self.epoch, order), stable=True)
        if self.shuffle:  # equal shares, so that ranks make equally many steps
            order = order[: self.size - self.size % self.world_size]
        mine = order[self.rank :: self.world_size].tolist()
        skip, self.skip = self.skip, 0
        yield from ((index, self.epoch) for index in mine[skip:])

    def __len__(self) -> int:
        if self.shuffle:
            return self.size // self.world_size
        return len(range(self.rank, self.size, self.world_size))


class FixedOrderSampler(EpochSampler, SequentialSampler):  # type: ignore[misc]
    """The same samples with the same random keys every epoch.

    It is torch's SequentialSampler by name, so that Lightning's `overfit_batches` leaves it alone.
    """

    def __init__(self, size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        EpochSampler.__init__(self, size, seed, shuffle=False, rank=rank, world_size=world_size)


class KeyedDataset(Dataset[dict[str, Any]]):
    """Adds `random_key` to a dataset's samples, from (seed, epoch, index)."""

    def __init__(self, dataset: Dataset[dict[str, Any]], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, index_and_epoch: tuple[int, int]) -> dict[str, Any]:
        index, epoch = index_and_epoch
        key = sample_keys(self.seed, epoch, torch.tensor([index]))[0]
        return {**self.dataset[index], "random_key": key}


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that remembers how many batches of the epoch it has handed out."""

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        sampler: EpochSampler,
        batch_size: int,
        workers: int,
        collate: Callable[[list[dict[str, Any]]], Any],
        seed: int,
        *,
        drop_last: bool,
    ) -> None:
        super().__init__(
            KeyedDataset(dataset, seed),
            sampler=sampler,
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=collate,
            drop_last=drop_last,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
        self._handed_out = 0
        self._skip = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        skip, self._skip = self._skip, 0
        self.sampler.skip = skip * (self.batch_size or 1)  # type: ignore[attr-defined]
        self._handed_out = skip
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were handed out; 0 once it is complete."""
        return {"batches": self._handed_out % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch after that many batches."""
        self._skip = state["batches"]
