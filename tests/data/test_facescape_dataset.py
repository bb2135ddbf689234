import pickle
import shutil

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from datamodules import FaceScapeDataModule
from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape import main
from lit_face.data.facescape_dataset import FaceScapeViews, collate_views, core_mask
from lit_face.data.facescape_layout import FaceScapeFolder
from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.io.images import read_image, write_image
from lit_face.io.meshes import read_mesh
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.facescape import edit_json, tiny_processed
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def folder():
    return tiny_processed()


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder.root, tmp_path / "copy", ignore=shutil.ignore_patterns("predefined"))
    return FaceScapeFolder(tmp_path / "copy")


def _batch(*datasets):
    return collate_views([each[i] for each in datasets for i in range(len(each))])


def test_a_batch_is_in_mm_and_valid(folder):
    batch = _batch(FaceScapeViews(folder, "train"), FaceScapeViews(folder, "val"))
    assert batch.image.shape == (2, 4, 3, 64, 96)  # portrait photos lie down
    assert batch.camera.intrinsics.shape == (2, 4, 3, 3)
    assert batch.camera.translation.shape == (2, 4, 3)
    assert batch.uv_maps["visibility"].shape == (2, 4, 32, 32)
    assert batch.sample_id == ["001_01", "002_01"]
    batch.map(lambda t: t.float() / 255 if t.dtype == torch.uint8 else t).validate("facescape")
    for row in range(2):
        camera = PerspectiveCamera(*(value[row] for value in vars(batch.camera).values()))
        inside = batch.uv_maps["mask"][row, 0] > 0.5
        points = batch.uv_maps["position"][row].permute(1, 2, 0)[inside]
        seen = camera.project(points)
        assert (seen[..., 2] - 1000).abs().max() < 200  # cameras at one metre
        assert (seen[..., 0] > 0).all()
        assert (seen[..., 0] < 95).all()
        assert (seen[..., 1] > 0).float().mean() > 0.99
        assert (points.amax(0) - points.amin(0)).norm() > 150


def test_the_displacement_leads_to_the_scan(folder):
    dataset = FaceScapeViews(folder, "train")
    batch = _batch(dataset)
    known = (batch.scan["valid"] > 0.5)[:, 0]
    assert (known.float().sum() / batch.uv_maps["mask"].sum()) > 0.97
    for row, sample in enumerate(batch.sample_id):
        along = batch.scan["displacement"][row] * batch.uv_maps["normal"][row]
        surface = (batch.uv_maps["position"][row] + along).permute(1, 2, 0)[known[row]]
        scan = read_mesh(folder.scan_file(sample)).vertices * folder.scale(sample)
        distance = cKDTree(scan).query(surface.numpy())[0]
        assert np.median(distance) < 0.8  # its edges are 1.6 mm long
        assert distance.max() < 4


def test_colours_agree_on_the_true_surface_more_than_on_the_base_mesh(folder):
    splits = (FaceScapeViews(folder, split, views=3) for split in ("train", "val"))
    batch = _batch(*splits)

    def variance(points, row, use):
        camera = PerspectiveCamera(*(value[row] for value in vars(batch.camera).values()))
        x = camera.project(points.permute(1, 2, 0)[use])[..., :2]
        size = torch.tensor([96.0, 64.0])
        grid = ((x + 0.5) / size * 2 - 1)[:, None]
        image = batch.image[row].float()
        colours = torch.nn.functional.grid_sample(image, grid, align_corners=False)[:, :, 0]
        return colours.var(0).mean().item()

    for row in range(2):
        seen = batch.uv_maps["visibility"][row].prod(0) > 0.5
        use = seen & (batch.scan["valid"][row, 0] > 0.5)
        position, normal = batch.uv_maps["position"][row], batch.uv_maps["normal"][row]
        truth = batch.scan["displacement"][row]
        on, base = (variance(position + normal * d, row, use) for d in (truth, 0 * truth))
        off = variance(position + normal * (truth + 4), row, use)
        assert on < 0.9 * base
        assert on < 0.5 * off


def test_views_scale_and_turn_follow_the_options(folder):
    whole = FaceScapeViews(folder, "eval")[0]
    half = FaceScapeViews(folder, "eval", views=2, image_scale=0.5)[0]
    assert whole["image"].shape == (4, 3, 64, 96)
    assert half["image"].shape == (2, 3, 32, 48)
    assert half["uv_maps"]["visibility"].shape == (2, 32, 32)
    K, small = whole["camera"]["intrinsics"][0], half["camera"]["intrinsics"][0]
    assert_close(small[:2, :2], 0.5 * K[:2, :2])
    assert_close(small[:2, 2], 0.5 * (K[:2, 2] + 0.5) - 0.5)
    reference = FaceScapeViews(folder, "eval", image_scale=0.5, pixel_center=False)[0]
    assert_close(reference["camera"]["intrinsics"][0][:2], 0.5 * K[:2])
    turned = FaceScapeViews(folder, "train")[0]
    view = folder.views("001_01")[0]
    photo = torch.from_numpy(read_image(folder.image_file("001_01", view)))
    assert (turned["image"][0] == photo.permute(2, 1, 0)).all()
    stored = folder.cameras("001_01", [view]).K[0]
    assert_close(turned["camera"]["intrinsics"][0], torch.from_numpy(stored[[1, 0, 2]]).float())


def test_photos_are_kept_while_there_is_room(folder):
    dataset = FaceScapeViews(folder, "train", cache_mib=0)
    first = dataset[0]["image"]
    assert not dataset._photos
    kept = FaceScapeViews(folder, "train")
    assert (kept[0]["image"] == first).all()
    assert list(kept._photos) == ["001_01"]
    assert not pickle.loads(pickle.dumps(kept))._photos


def test_the_mask_is_the_core_of_the_files(folder):
    mask = read_image(folder.mask_file)[72:328, 128:384, 0] > 0
    assert (core_mask(folder.mask_file, 256) == mask).all()
    small = core_mask(folder.mask_file, 32)
    whole = mask.reshape(32, 8, 32, 8).all((1, 3))
    assert (small == whole).all()


def test_what_is_missing_or_of_another_generation_is_refused(copy):
    with pytest.raises(ValueError, match=r"data\.uv_size is 64.*32 texels.*maps.*--size 128"):
        FaceScapeViews(copy, "train", uv_size=64)
    with pytest.raises(ValueError, match=r"001_01 has 4 views, but\s+data\.views asks for 5"):
        FaceScapeViews(copy, "train", views=5)
    edit_json(copy.root / "select_dict.json", **{"1": {"1": copy.views("001_01")[:3]}})
    with pytest.raises(ValueError, match=r"visibility_map_001_01.*should be \(3, 32, 32\)"):
        FaceScapeViews(copy, "train")
    copy.map_file("norm_map", "331_01").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"norm_map_331_01\.npy is missing.*maps"):
        FaceScapeViews(copy, "eval")
    copy.map_file("mv_map", "002_01").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"mv_map_002_01.*training needs the scans"):
        FaceScapeViews(copy, "val", needs_scans=True)
    photo = copy.image_file("001_01", copy.views("001_01")[1])
    write_image(photo, np.zeros((30, 20, 3), np.uint8))
    copy.map_file("visibility_map", "001_01").unlink()
    np.save(copy.map_file("visibility_map", "001_01"), np.zeros((3, 32, 32), np.uint8))
    with pytest.raises(ValueError, match=r"\d\.jpg: 30 x 20 pixels"):
        FaceScapeViews(copy, "train")


def test_without_scans_there_is_no_truth(copy):
    copy.map_file("mv_map", "331_01").unlink()
    copy.map_file("valid_map", "331_01").unlink()
    batch = _batch(FaceScapeViews(copy, "eval"))
    assert batch.scan is None


def test_photos_of_several_sizes_do_not_stack(folder):
    first = FaceScapeViews(folder, "train")[0]
    second = FaceScapeViews(folder, "eval", image_scale=0.5)[0]
    with pytest.raises(ValueError, match=r"001_01, 331_01 have photos.*data\.batch_size=1"):
        collate_views([first, second])


def test_the_datamodule_serves_the_tiny_miniature(folder):
    data = FaceScapeDataModule(procedural_head(), 7, miniature="tiny", workers=0)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(batch, 0)
    assert batch.image.dtype == torch.float32
    assert 0.1 < batch.image.mean() < 0.9
    assert batch.random_key.shape == (1,)
    assert len(data.val_dataloader()) == 1
    with pytest.raises(ValueError, match=r"data\.miniature should be"):
        FaceScapeDataModule(procedural_head(), 7, miniature="huge")


def test_the_maps_command_makes_what_is_missing(copy, folder, capsys):
    arguments = ["maps", str(copy.root), "--size", "64", "--workers", "1"]
    assert main([*arguments, "--model", str(folder.predefined)]) == 0
    assert "maps of 0 samples made, 3 were there already" in capsys.readouterr().out
    copy.map_file("pos_map", "002_01").unlink()
    copy.mask_file.unlink()  # a capture of one's own has none
    assert main([*arguments, "--model", str(folder.predefined)]) == 0
    assert "maps of 1 samples made" in capsys.readouterr().out
    assert (core_mask(copy.mask_file, 32) == core_mask(folder.mask_file, 32)).all()
    assert main(["maps", str(copy.root), "--model", str(copy.root / "nowhere")]) == 2
    assert "core_*.npy is missing" in capsys.readouterr().err
