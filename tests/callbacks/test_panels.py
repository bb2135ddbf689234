import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch.utils.data import DataLoader

from callbacks import Panels
from lit_face.io.images import read_image
from lit_face.types import Reconstruction
from tests.helpers.faces import faces, head


@pytest.fixture(scope="module")
def batch():
    return faces(3, size=48, seed=2)


class Oracle(pl.LightningModule):
    """Predicts the truth; there is nothing to learn."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch.image.mean()[None]).sum()

    def validation_step(self, batch, batch_idx):
        return None

    def predict_step(self, batch, batch_idx=0):
        model = head()
        assert not self.training
        vertices = model(batch.coefficients["identity"], batch.coefficients["expression"])
        return Reconstruction(
            image_vertices=batch.camera.project(vertices),
            vertices=vertices,
            faces=model.faces,
            uv=model.uv,
            landmarks=batch.landmarks,
            unit="mm",
            camera=batch.camera,
        )

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class PictureLogger(DummyLogger):
    def __init__(self):
        super().__init__()
        self.pictures = []

    def log_image(self, key, images, step):
        self.pictures.append((key, images[0].shape, step))


def fit(callback, batch, tmp_path, logger, epochs, sanity=1):
    loader = DataLoader([batch, batch], batch_size=None)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=logger,
        callbacks=[callback],
        num_sanity_val_steps=sanity,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Oracle(), loader, loader)


def test_one_picture_every_second_validation(batch, tmp_path):
    """Three validations of two batches, after a sanity check that must draw nothing."""
    callback, logger = Panels(str(tmp_path), faces=2, every_n_validations=2), PictureLogger()
    fit(callback, batch, tmp_path, logger, epochs=3)
    names = sorted(file.name for file in tmp_path.glob("*.jpg"))
    assert names == ["val-step0000002.jpg", "val-step0000006.jpg"]
    shape = (192, 2 * 3 * 192, 3)  # two enlarged faces in a row, three tiles a face
    assert read_image(tmp_path / names[0]).shape == shape
    assert logger.pictures == [("val/faces", shape, 2), ("val/faces", shape, 6)]


def test_the_count_survives_a_checkpoint(batch, tmp_path):
    callback = Panels(str(tmp_path), every_n_validations=2)
    fit(callback, batch, tmp_path, False, epochs=1)
    assert callback.state_dict() == {"validations": 1}
    later = Panels(str(tmp_path), every_n_validations=2)
    later.load_state_dict(callback.state_dict())
    fit(later, batch, tmp_path / "later", False, epochs=1)
    assert later.state_dict() == {"validations": 2}
    assert len(list(tmp_path.glob("*.jpg"))) == 1  # the second validation draws nothing


def test_more_faces_asked_for_than_there_are(batch, tmp_path):
    fit(Panels(str(tmp_path), faces=9), batch, tmp_path, False, epochs=1)
    picture = read_image(next(tmp_path.glob("*.jpg")))
    assert picture.shape == (2 * 192, 2 * 3 * 192, 3)
    assert (picture[240:, 640:] > 250).all()  # the fourth tile is empty
