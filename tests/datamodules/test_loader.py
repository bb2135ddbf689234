import itertools

import pytest
import torch

from datamodules.loader import EpochSampler, FixedOrderSampler, ResumableLoader


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 23

    def __getitem__(self, index):
        return {"index": index}


def loader(workers=0, batch_size=4):
    sampler = EpochSampler(23, seed=7, shuffle=True)
    collate = lambda samples: [(s["index"], int(s["random_key"])) for s in samples]  # noqa: E731
    return ResumableLoader(Numbers(), sampler, batch_size, workers, collate, seed=7, drop_last=True)


def indices(batches):
    return [index for index, _ in itertools.chain.from_iterable(batches)]


def test_order_follows_from_seed_and_epoch_alone():
    first, second = list(loader()), list(loader(workers=1))
    assert first == second
    other = loader()
    other.sampler.set_epoch(1)
    assert indices(first) != sorted(indices(first))
    assert indices(list(other)) != indices(first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_continues_where_it_stopped(workers):
    whole = list(loader(workers))
    stopped = loader(workers)
    batches = iter(stopped)
    taken = [next(batches), next(batches)]
    resumed = loader(workers)
    resumed.load_state_dict(stopped.state_dict())
    assert taken + list(resumed) == whole
    assert len(list(resumed)) == len(whole)  # the next epoch is whole again


def test_the_state_after_a_whole_epoch_is_the_start_of_the_next():
    done = loader()
    list(done)
    assert done.state_dict() == {"batches": 0}


def test_ranks_share_each_global_batch():
    one = list(EpochSampler(24, seed=7, shuffle=True))
    ranks = [list(EpochSampler(24, 7, shuffle=True, rank=r, world_size=2)) for r in range(2)]
    for step in range(3):
        together = {*ranks[0][4 * step : 4 * step + 4], *ranks[1][4 * step : 4 * step + 4]}
        assert together == set(one[8 * step : 8 * step + 8])


def test_evaluation_ranks_split_without_duplicates():
    ranks = [list(EpochSampler(23, 7, shuffle=False, rank=r, world_size=3)) for r in range(3)]
    assert sorted(indices(ranks)) == list(range(23))
    lengths = [len(EpochSampler(23, 7, shuffle=False, rank=r, world_size=3)) for r in range(3)]
    assert lengths == [len(rank) for rank in ranks]


def test_a_fixed_order_repeats_itself_and_is_lightnings_sequential_sampler():
    sampler = FixedOrderSampler(5, seed=7, rank=1, world_size=2)
    assert isinstance(sampler, torch.utils.data.SequentialSampler)
    sampler.set_epoch(3)
    assert list(sampler) == [(1, 0), (3, 0)]
    assert len(sampler) == 2
