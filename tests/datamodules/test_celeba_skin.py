import logging

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lit_face.config import instantiate
from lit_face.morphable_models.procedural import procedural_head
from tests.conftest import REPO
from tests.helpers.celeba import shared_miniature, write_folder
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared_miniature(tmp_path_factory)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))


def configured(**changes):
    with initialize_config_dir(str(REPO / "conf"), version_base=None):
        composed = compose("train", ["data=celeba_skin"]).data
    options = OmegaConf.to_container(composed, resolve=False)
    return {**options, "root": None, "workers": 0, "image_size": 224, "batch_size": 4, **changes}


def loaded(module, stage, *, is_training):
    module.prepare_data()
    module.setup("fit" if is_training else "test")
    loader = getattr(module, f"{stage}_dataloader")()
    return module.transform(next(iter(loader)), is_training=is_training)


def test_the_config_gives_aligned_crops(folder, head):
    module = instantiate(configured(root=str(folder)), morphable_model=head, seed=1)
    batch = loaded(module, "train", is_training=True)
    batch.validate()
    assert batch.image.shape == (4, 3, 224, 224)
    assert batch.skin_mask.shape == (4, 1, 224, 224)
    assert batch.landmarks.shape == (4, 68, 3)
    assert batch.person.unique().tolist() == [3_000_000]
    assert module.provides == {"image", "skin_mask", "landmarks", "person"}
    tested = loaded(module, "test", is_training=False)
    sample = module.datasets["test"][0]
    assert_close(tested.image[0], sample["image"] / 255, atol=1e-4, rtol=0)
    assert_close(tested.landmarks[0], sample["landmarks"], atol=1e-3, rtol=0)
    assert not set(batch.sample_id) & set(tested.sample_id)
    assert not set(batch.person.tolist()) & set(tested.person.tolist())


def test_no_root_is_the_miniature_and_says_so(folder, head, monkeypatch, caplog):
    monkeypatch.setattr("datamodules.celeba_skin.miniature_celeba", lambda count: folder)
    module = instantiate(configured(), morphable_model=head, seed=1)
    with caplog.at_level(logging.INFO, "lit_face"):
        module.prepare_data()
    assert "this is the built-in miniature of CelebA, 48 procedural faces" in caplog.text
    module.setup("fit")
    assert "4 train, 4 val" in module.describe()


def test_pictures_without_landmarks_train_too(tmp_path, head):
    root = write_folder(tmp_path / "celeba", landmarks=False)
    module = instantiate(configured(root=str(root), image_size=32), morphable_model=head, seed=1)
    batch = loaded(module, "train", is_training=True)
    assert batch.landmarks is None
    assert torch.isfinite(batch.image).all()
    assert batch.skin_mask.sum() > 0
