import pytorch_lightning as pl
import torch

from datamodules import SyntheticDataModule
from lit_face.data.synthetic import SyntheticRenderer
from tests.helpers.faces import head


class Recorder(pl.LightningModule):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.shown = []

    def training_step(self, batch, batch_idx):
        self.shown.append((batch.sample_id, batch.image.clone()))
        return self.layer(batch.image.mean()[None]).sum()

    def validation_step(self, batch, batch_idx):
        assert len(batch) == 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_overfitting_shows_one_batch_again_and_again(tmp_path):
    data = SyntheticDataModule(
        head(),
        seed=7,
        renderer=lambda **given: SyntheticRenderer(picture_size=48, **given),
        image_size=32,
        batch_size=2,
        train_size=8,
        val_size=1,
    )
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=3,
        overfit_batches=1,
        accelerator="cpu",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=data)
    assert len(recorder.shown) == 3
    first_names, first_image = recorder.shown[0]
    for names, image in recorder.shown[1:]:
        assert names == first_names
        assert torch.equal(image, first_image)
