import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks import MetricsFile


def trainer(step, rank=0, sanity_checking=False, **metrics):
    return SimpleNamespace(
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
        global_step=step,
        is_global_zero=rank == 0,
        sanity_checking=sanity_checking,
    )


def test_later_metrics_join_earlier_ones(tmp_path):
    callback = MetricsFile(str(tmp_path))
    callback.on_validation_end(trainer(5, val_nme=7.5, val_loss=1.0), None)
    callback.on_train_end(trainer(8, val_nme=6.25, train_loss=0.5), None)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored == {"step": 8, "train_loss": 0.5, "val_loss": 1.0, "val_nme": 6.25}


def test_nothing_from_sanity_checks_and_other_ranks(tmp_path):
    callback = MetricsFile(str(tmp_path))
    callback.on_validation_end(trainer(0, sanity_checking=True, val_nme=9.0), None)
    callback.on_validation_end(trainer(5, rank=1, val_nme=9.0), None)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_numbers(tmp_path, monkeypatch):
    callback = MetricsFile(str(tmp_path))
    callback.on_validation_end(trainer(5, val_nme=7.5), None)
    before = (tmp_path / "metrics.json").read_text()

    def half(path, text):
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        callback.on_validation_end(trainer(8, val_nme=6.25), None)
    assert (tmp_path / "metrics.json").read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]
