from types import SimpleNamespace

import pytest
import torch

from callbacks import NonFiniteGuard

BATCH = SimpleNamespace(sample_id=["AFW/one", "AFW/two"])
TRAINER = SimpleNamespace(global_step=42)


def look(guard, loss, batch_idx=0):
    guard.on_train_batch_end(TRAINER, None, {"loss": torch.tensor(loss)}, BATCH, batch_idx)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_it_stops_and_names_step_and_samples(loss):
    with pytest.raises(FloatingPointError, match="at step 42") as error:
        look(NonFiniteGuard(), loss)
    assert "AFW/one, AFW/two" in str(error.value)
    assert "gradient_clip_val" in str(error.value)


def test_it_looks_every_few_steps_only():
    guard = NonFiniteGuard(every_n_steps=10)
    look(guard, 1e30)
    look(guard, float("nan"), batch_idx=9)
    with pytest.raises(FloatingPointError):
        look(guard, float("nan"), batch_idx=20)


def test_steps_without_a_loss_pass():
    NonFiniteGuard().on_train_batch_end(TRAINER, None, None, BATCH, 0)
