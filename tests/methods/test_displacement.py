import json

import pytest
import torch

from datamodules import FaceScapeDetailsDataModule
from lit_face.cli.start import run_task
from lit_face.config import ConfigError, check_config
from lit_face.config.composition import compose_config
from lit_face.data.random import sample_keys
from lit_face.inference.loading import load_method
from lit_face.io.checkpoints import find_checkpoint
from lit_face.io.displacement_maps import RANGE_MM
from lit_face.io.files import cache_root
from lit_face.methods.displacement import DisplacementModule, DisplacementPredictor, GlobalGenerator
from lit_face.methods.displacement.losses import correlation, correlation_sums, masked_l1
from lit_face.morphable_models.procedural import procedural_head
from lit_face.types import FaceBatch
from tests.helpers.detail_folder import write_detail_folder

TINY = [
    "experiment=displacement_mini", "method.network.width=8", "method.network.downs=1",
    "method.network.blocks=1", "data.image_size=128", "data.crop=48", "data.crops=8",
    "data.batch_size=2", "callbacks.panels.faces=1", "trainer.accelerator=cpu",
    "trainer.max_epochs=20", "trainer.check_val_every_n_epoch=20", "method.optimizer.lr=4e-3",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    samples = {"train": ["001_01", "002_01", "003_01"], "eval": []}  # one is held out
    return write_detail_folder(tmp_path_factory.mktemp("processed") / "facescape", samples=samples)


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    place = tmp_path_factory.mktemp("runs") / "whole"
    head = f"+morphable_model.cache_folder={cache_root()}"  # its own is not made again
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_FACE_CACHE", str(place.parent / "cache"))
        config = compose_config("train", [*TINY, f"data.root={folder}", head])
        config.paths.run = str(place)
        run_task("lit_face.cli.training", config, place)
    return place


@pytest.mark.learn
def test_it_learns_the_relief_of_spheres_from_their_colour(run):
    """Darker is deeper there: in so few steps half of what a flat map leaves."""
    values = json.loads((run / "metrics.json").read_text())
    assert values["val/l1_mm"] < 0.6 * values["val/zero_l1_mm"]
    assert values["val/correlation"] > 0.8


def test_a_trained_module_is_loaded(run):
    module, _ = load_method(find_checkpoint(run))
    texture = torch.rand(1, 3, 32, 32)
    found = module.displacement(texture)
    assert found.shape == (1, 1, 32, 32)
    assert found.abs().max() <= RANGE_MM


def test_released_weights_are_loaded_strictly(tmp_path):
    torch.manual_seed(0)
    made = GlobalGenerator(4, 2, 1)
    torch.save(made.state_dict(), tmp_path / "net.pth")
    found = GlobalGenerator(4, 2, 1, weights=str(tmp_path / "net.pth"))
    for name, value in made.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    with pytest.raises(ValueError, match=r"missing model\.11\.conv_block\.1\.bias"):
        GlobalGenerator(4, 2, 2, weights=str(tmp_path / "net.pth"))
    with pytest.raises(ValueError, match=r"model\.1\.weight is .*\(8, 3, 7, 7\) in the network"):
        GlobalGenerator(8, 2, 1, weights=str(tmp_path / "net.pth"))
    with pytest.raises(FileNotFoundError, match=r"other\.pth does not exist"):
        GlobalGenerator(4, 2, 1, weights=str(tmp_path / "other.pth"))


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 4.*found 30"):
        GlobalGenerator(4, 2, 1)(torch.zeros(1, 3, 32, 30))
    with pytest.raises(ValueError, match=r"method.side=100.*multiple of 16"):
        DisplacementPredictor(GlobalGenerator(2, 4, 0), side=100)


class Brightness(torch.nn.Module):
    """Stands for a network: the first channel is the answer."""

    downs = 0

    def forward(self, texture):
        return texture[:, :1]


@pytest.mark.parametrize("side", [None, 192])
def test_the_window_comes_back_to_its_place(side):
    line = torch.linspace(0, 3, 128)
    ramp = (0.5 + 0.3 * torch.sin(line[:, None] + 0.5 * line))[None, None].expand(1, 3, -1, -1)
    predictor = DisplacementPredictor(Brightness(), window=True, side=side)
    found, want = predictor(ramp) / RANGE_MM, 2 * ramp[:, :1] - 1
    # rows 600 to 2500 and columns 1100 to 3000 of 4096, of which the core is 576 and 1024 to +2048
    inside = (slice(None), slice(None), slice(3, 119), slice(6, 122))
    torch.testing.assert_close(found[inside], want[inside], atol=2e-3, rtol=0)
    assert not found[..., 124:].any()
    assert not found[..., 123:, :].any()


def test_losses_see_valid_texels_only():
    true = torch.tensor([0.1, -0.2, 0.3, 9.0]).view(1, 1, 2, 2)
    valid = torch.tensor([1.0, 1, 1, 0]).view(1, 1, 2, 2)
    assert masked_l1(torch.zeros_like(true), true, valid) == pytest.approx(0.2)
    sums = correlation_sums(2 * true + 1, true, valid)
    assert correlation(sums + sums) == pytest.approx(1)
    assert correlation(correlation_sums(0 * true, true, valid)) == 0
    assert masked_l1(true, true + 1, 0 * valid) == 0


def test_crops_keep_texture_and_relief_together():
    data = FaceScapeDetailsDataModule(
        procedural_head(), 0, image_size=32, crop=12, crops=3, mirror=0.5
    )
    relief = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32).repeat(2, 1, 1, 1)
    valid = torch.zeros(2, 1, 32, 32)
    valid[:, :, 8:24, 8:24] = 1
    batch = FaceBatch(
        (relief * 255).expand(-1, 3, -1, -1), skin_mask=valid,
        scan={"displacement": relief, "valid": valid}, sample_id=["a", "b"],
        random_key=sample_keys(0, 0, torch.arange(2)),
    )  # fmt: skip
    found = data.transform(batch, is_training=True)
    assert found.image.shape == (6, 3, 12, 12)
    assert found.sample_id == ["a", "b"] * 3
    torch.testing.assert_close(found.image[:, :1], found.scan["displacement"])
    step = found.image[:, 0, 0, 1] - found.image[:, 0, 0, 0]
    assert (step > 0).any()  # some as they are,
    assert (step < 0).any()  # some mirrored
    assert found.scan["valid"].mean((1, 2, 3)).min() > 0.3
    assert data.transform(batch, is_training=False).image.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.image_size=200"], "data.image_size: a texture's side should be a multiple of 16"),
        (["data.crop=100"], "data.crop: a texture's side"),
        (["data.source=tu"], "does not go with data.source=tu"),
    ],
)
def test_configs_that_cannot_work(overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_config(compose_config("train", ["method=displacement", *overrides]))


def test_the_module_learns_nothing_where_nothing_is_valid():
    module = DisplacementModule(GlobalGenerator(2, 1, 0), torch.optim.Adam)
    module.log = lambda *args, **options: None
    batch = FaceBatch(
        torch.rand(1, 3, 8, 8),
        scan={"displacement": torch.ones(1, 1, 8, 8), "valid": torch.zeros(1, 1, 8, 8)},
    )
    loss = module.training_step(batch, 0)
    loss.backward()
    assert all(not p.grad.any() for p in module.parameters())
