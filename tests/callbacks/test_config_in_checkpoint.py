import pytorch_lightning as pl
import torch

import lit_face
from callbacks import ConfigInCheckpoint
from lit_face.config import check_config
from lit_face.config.composition import compose_config


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_whole_config_comes_back_from_a_weights_only_load(tmp_path):
    config = check_config(compose_config("train", ["data=synthetic"]))
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        callbacks=[ConfigInCheckpoint(config)],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), torch.ones(2, 1, 1))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    stored = torch.load(tmp_path / "run.ckpt", weights_only=True)["lit_face"]
    assert stored == {"format": 1, "version": lit_face.__version__, "config": config}
