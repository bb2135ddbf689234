import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import WeightAverage
from tests.helpers.tolerances import assert_close


class Normed(pl.LightningModule):
    """A linear layer and a normalisation whose every state is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.5))
        self.register_buffer("constant", torch.arange(3))
        self.states: list[dict[str, torch.Tensor]] = []

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean() + self.net[0].weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_weights_and_statistics_follow_one_formula(tmp_path):
    torch.manual_seed(0)
    module = Normed()
    data = DataLoader(TensorDataset(torch.randn(48, 3) * 3 + 1), batch_size=8)

    class Note(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            pl_module.states.append({k: v.clone() for k, v in pl_module.state_dict().items()})

    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[Note(), WeightAverage(0.6)],
    )  # fmt: skip
    trainer.fit(module, data)
    expected = dict(module.states[0])
    for count, state in enumerate(module.states[1:], 1):
        keep = min(0.6, (1 + count) / (10 + count))
        for name, value in state.items():
            if value.is_floating_point():
                expected[name] = keep * expected[name] + (1 - keep) * value
    averages = module.state_dict()  # the average replaces the weights when training ends
    for name in ("net.0.weight", "net.1.weight", "net.1.running_mean", "net.1.running_var"):
        assert_close(averages[name], expected[name], atol=1e-6)
        assert (averages[name] - module.states[-1][name]).abs().max() > 1e-4
    assert averages["constant"].tolist() == [0, 1, 2]
