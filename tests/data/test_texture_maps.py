import numpy as np
import pytest
import torch

from datamodules import TextureMapsDataModule
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.miniature_ffhq import plan_pictures
from lit_face.data.miniature_texture_maps import mottled, write_maps
from lit_face.data.texture_maps import (
    TextureMap,
    TextureMapsDataset,
    find_texture_maps,
    read_texture_map,
    shrunk,
    write_texture_map,
)
from lit_face.morphable_models.procedural import procedural_head


def texture(seed, size=16):
    random = np.random.default_rng(seed)
    return TextureMap(
        random.integers(0, 256, (size, size, 3), dtype=np.uint8),
        random.random((size, size)) < 0.7,
        random.integers(100, 256, (size, size), dtype=np.uint8),
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    for number in range(12):
        write_texture_map(tmp_path / "fits" / f"{number:02d}" / "uv.npz", texture(number))
    return tmp_path / "fits"


@pytest.fixture(scope="module")
def head():
    return procedural_head()  # made before `root` empties the cache


@pytest.fixture(scope="module")
def miniature(head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    write_maps(folder, head, plan_pictures(16))
    return folder


def test_a_map_comes_back(tmp_path):
    write_texture_map(tmp_path / "uv.npz", texture(1, size=13))
    found, want = read_texture_map(tmp_path / "uv.npz"), texture(1, size=13)
    for name in ("color", "visible", "confidence"):
        assert np.array_equal(getattr(found, name), getattr(want, name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visible": None}, "no visible in it"),
        ({"map": np.zeros((8, 8, 3), np.float32)}, r"'map' should be \(S,S,3\) uint8"),
        ({"visible": np.zeros(3, np.uint8)}, "256 packed bits, found 3 bytes"),
        ({"confidence": np.zeros((4, 4), np.uint8)}, r"'confidence' should be \(16, 16\)"),
    ],
)
def test_bad_maps_are_named(tmp_path, change, message):
    good = texture(0)
    arrays = {"map": good.color, "visible": np.packbits(good.visible)}
    arrays["confidence"] = good.confidence
    arrays = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(tmp_path / "uv.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_texture_map(tmp_path / "uv.npz")


def test_a_cut_file_is_named(root):
    file = root / "03" / "uv.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"03.*cannot be read"):
        TextureMapsDataset(root, size=16)
    assert len(TextureMapsDataset(root, "all", size=16, max_rejected=0.1)) == 11


def test_absent_and_empty_folders(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="No folder of texture maps"):
        find_texture_maps(tmp_path / "nothing")
    with pytest.raises(DatasetNotFoundError, match=r"expected \*uv.npz"):
        find_texture_maps(tmp_path)


def test_splits_share_nothing_and_follow_the_list(root):
    train, val = (TextureMapsDataset(root, split, size=16) for split in ("train", "val"))
    assert sorted(train.sample_ids + val.sample_ids) == find_texture_maps(root)
    assert len(val)
    (root / "validation.txt").write_text("02\n05\n")
    assert [n.rstrip("/") for n in TextureMapsDataset(root, "val").sample_ids] == ["02", "05"]
    (root / "validation.txt").write_text("none of them\n")
    with pytest.raises(ValueError, match="should name some of the maps"):
        TextureMapsDataset(root, "val")


def test_only_visible_texels_count_when_maps_shrink():
    color = np.zeros((8, 8, 3), np.uint8)
    visible = np.zeros((8, 8), bool)
    visible[:, ::2] = visible[:, 1] = True
    color[visible] = 200
    small, known = shrunk(color, visible, 4)
    assert known[:, 0].all()
    assert not known[:, 1:].any()  # half visible is not enough
    assert (small[:, 0] == 200).all()


def test_slanted_texels_are_unknown(root):
    known = [
        TextureMapsDataset(root, "all", size=16, min_confidence=c)[0]["skin_mask"]
        for c in (0.0, 0.7)
    ]
    want = texture(0)
    assert np.array_equal(known[0][0].numpy().astype(bool), want.visible)
    assert np.array_equal(
        known[1][0].numpy().astype(bool), want.visible & (want.confidence >= 255 * 0.7)
    )


def test_the_miniature_has_parts_of_its_truth(miniature):
    val, train = (TextureMapsDataset(miniature, split, size=256) for split in ("val", "train"))
    assert (len(train), len(val)) == (8, 8)
    sample = val[0]
    known = sample["skin_mask"][0] > 0
    assert 0.2 < known.float().mean() < 0.9
    true = (sample["scan"]["texture"] * 255).round()
    assert torch.equal(true[:, known], sample["image"][:, known].float())
    assert "scan" not in train[0]
    assert not set(train.sample_ids) & set(val.sample_ids)


def test_mottling_is_skin_deep_and_its_own():
    keys = torch.tensor([1, 2])
    flat = torch.full((2, 3, 32, 32), 0.5)
    found = mottled(flat, keys)
    assert 0.005 < found.std() < 0.05
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found, mottled(flat, keys))


def test_mirrored_maps_take_their_mask_along(head, root):
    module = TextureMapsDataModule(
        head,
        seed=1,
        root=str(root),
        image_size=16,
        batch_size=8,
        workers=0,
        mirror=1.0,
    )
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    turned = module.transform(batch, is_training=True)
    assert torch.equal(turned.image.flip(-1), batch.image.float() / 255)
    assert torch.equal(turned.skin_mask.flip(-1), batch.skin_mask)
    assert torch.equal(module.transform(batch, is_training=False).skin_mask, batch.skin_mask)
