import types

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from datamodules import FFHQDataModule
from lit_face.config import instantiate
from lit_face.data.landmarks import MIRROR_68
from lit_face.data.transforms import FaceTransform
from lit_face.io.images import read_image, write_image
from lit_face.morphable_models.procedural import procedural_head
from tests.conftest import REPO
from tests.helpers.ffhq import shared_miniature, write_json, write_tree


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shared_miniature(tmp_path_factory)


def batch_of(module, split="train", *, is_training=True):
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader() if split == "train" else module.val_dataloader()
    return module.transform(next(iter(loader)), is_training=is_training)


def configured(**changes):
    with initialize_config_dir(str(REPO / "conf"), version_base=None):
        composed = compose("train", ["data=ffhq"]).data
    options = OmegaConf.to_container(composed, resolve=False)
    return {**options, "root": None, "workers": 0, "image_size": 128, "batch_size": 8, **changes}


def test_the_config_trains_on_the_miniature(folder, head, cache):
    module = instantiate(configured(root=str(folder)), morphable_model=head, seed=1)
    batch = batch_of(module)
    batch.validate()
    assert batch.image.shape == (8, 3, 128, 128)
    assert batch.skin_mask.shape == (8, 1, 128, 128)
    assert batch.landmarks.shape == (8, 68, 3)
    assert (batch.landmarks[..., 2] == 0).all()
    assert batch.camera is None
    assert batch.coefficients is None
    assert batch.scan is None
    assert module.provides == {"image", "landmarks", "skin_mask"}
    assert not set(batch.sample_id) & set(batch_of(module, "val", is_training=False).sample_id)


def test_landmarks_sit_on_their_pixels_and_the_mask_follows(tmp_path, head, cache):
    """Four painted spots at landmarks, two of them left and right; the mask is one of the spots."""
    root = write_tree(tmp_path / "ffhq", range(8), side=128)
    write_json(root, range(8), side=128)
    at = {36: (44, 50), 45: (84, 50), 30: (64, 70), 8: (64, 104)}
    points = np.load(root / "landmarks/00000.npy").clip(44, 84)
    for index, place in at.items():
        points[index] = place
    y, x = np.mgrid[:128, :128]
    spots = {i: np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2) / 18) for i, p in at.items()}
    picture = np.stack([spots[36] + spots[8], spots[45] + spots[8], spots[30]], axis=-1)
    labels = np.hypot(x - 44, y - 50) < 14  # around the point 36, the subject's right eye
    for number in range(8):
        pixels = (255 * picture.clip(0, 1)).astype(np.uint8)
        write_image(root / f"images1024x1024/00000/{number:05d}.png", pixels)
        np.save(root / f"landmarks/{number:05d}.npy", points)
        np.save(root / f"segmentation/{number:05d}.npy", labels.astype(float))

    def augmentation(**options):
        return FaceTransform(
            rotation=20.0, translation=0.02, scale=(0.9, 1.1), color=(1.0, 1.0), occlusion=0.0,
            mirror=0.5, margin=2.2, **options,
        )  # fmt: skip

    module = FFHQDataModule(
        head, 3, str(root), image_size=160, batch_size=4, workers=0, augmentation=augmentation
    )
    module.prepare_data()
    module.setup("fit")
    mirrored = 0
    for batch in module.train_dataloader():
        batch = module.transform(batch, is_training=True)
        for row in range(len(batch)):
            image, found = batch.image[row], batch.landmarks[row]
            was_mirrored = _is_mirrored(image, found)
            mirrored += was_mirrored
            names = {36: 45, 45: 36, 30: 30, 8: 8} if was_mirrored else {i: i for i in at}
            channel = {36: 0, 45: 1, 30: 2}
            for index, plane in channel.items():
                assert torch.dist(_peak(image[plane]), found[names[index], :2]) < 1.5
            centre = _centroid(batch.skin_mask[row, 0])
            assert torch.dist(centre, found[names[36], :2]) < 1.5
    assert MIRROR_68[36] == 45
    assert mirrored > 0


def _is_mirrored(image, points) -> bool:
    """Whether the red spot (the subject's right eye) is at the point 45."""
    red = _peak(image[0])
    return bool(torch.dist(red, points[45, :2]) < torch.dist(red, points[36, :2]))


def _peak(plane):
    flat = int(plane[: int(0.62 * len(plane))].argmax())  # the chin's spot lies below
    return torch.tensor([flat % plane.shape[1], flat // plane.shape[1]], dtype=torch.float32)


def _centroid(mask):
    y, x = torch.meshgrid(*(torch.arange(n).float() for n in mask.shape), indexing="ij")
    return torch.stack([(mask * x).sum(), (mask * y).sum()]) / mask.sum()


def test_photos_are_annotated_before_training(folder, head, tmp_path, cache):
    known, root = {}, tmp_path / "photos"
    for number in range(8):
        image = read_image(folder / f"images1024x1024/00000/{number:05d}.png")
        known[image.tobytes()] = np.load(folder / f"landmarks/{number:05d}.npy")
        write_image(root / f"{number}.png", image)

    def finder(image, path):
        return [types.SimpleNamespace(landmarks=known[image.tobytes()])]

    config = configured(root=str(root), batch_size=4, val_fraction=0.3)
    module = instantiate(config, morphable_model=head, seed=1, landmarker=finder)
    batch = batch_of(module)
    assert batch.skin_mask.mean() > 0.1
    without = instantiate(config, morphable_model=head, seed=1)
    with pytest.raises(FileNotFoundError, match="no landmarks"):
        without.prepare_data()


def test_both_transforms_have_the_alignment(folder, head, cache):
    config = configured(root=str(folder), alignment="five_points")
    module = instantiate(config, morphable_model=head, seed=1)
    assert module.train_transform.alignment == module.eval_transform.alignment == "five_points"
    batch = batch_of(module, "val", is_training=False)
    middle = batch.landmarks[:, [36, 39, 42, 45, 30, 48, 54], :2].mean(1)
    assert (middle - 63.5).abs().max() < 20  # of 128
    with pytest.raises(ValueError, match="five_points"):
        instantiate(configured(root=str(folder), alignment="five"), morphable_model=head, seed=1)
