from types import SimpleNamespace

import pytest

from callbacks import Throughput, throughput


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class Module:
    def __init__(self):
        self.logged = []

    def log_dict(self, values):
        self.logged.append(values)


def test_images_a_second_and_share_of_waiting(monkeypatch):
    """Waiting 1 s and computing 3 s for 4 images on each of 2 devices is 2 images a second."""
    clock, module, trainer = Clock(), Module(), SimpleNamespace(world_size=2)
    monkeypatch.setattr(throughput, "time", clock)
    callback, batch = Throughput(every_n_steps=2), range(4)
    callback.on_train_epoch_start(trainer, module)
    for batch_idx in range(5):
        clock.now += 1
        callback.on_train_batch_start(trainer, module, batch, batch_idx)
        clock.now += 3
        callback.on_train_batch_end(trainer, module, None, batch, batch_idx)
    assert len(module.logged) == 2
    for values in module.logged:
        assert values["train/images_per_second"] == pytest.approx(2.0)
        assert values["train/data_wait"] == pytest.approx(0.25)


def test_time_between_epochs_counts_for_neither(monkeypatch):
    clock, module, trainer = Clock(), Module(), SimpleNamespace(world_size=1)
    monkeypatch.setattr(throughput, "time", clock)
    callback = Throughput(every_n_steps=1)
    for _ in range(2):
        callback.on_train_epoch_start(trainer, module)
        callback.on_train_batch_start(trainer, module, range(6), 0)
        clock.now += 2
        callback.on_train_batch_end(trainer, module, None, range(6), 0)
        clock.now += 1000  # validation
    rates = [values["train/images_per_second"] for values in module.logged]
    assert rates == pytest.approx([3.0, 3.0])
