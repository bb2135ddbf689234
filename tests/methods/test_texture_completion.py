import json
import logging

import numpy as np
import pytest
import torch

from lit_face.cli.start import run_task
from lit_face.config import ConfigError, check_config
from lit_face.config.composition import compose_config
from lit_face.data.random import sample_keys
from lit_face.data.texture_maps import TextureMap, write_texture_map
from lit_face.inference.loading import load_method
from lit_face.io.checkpoints import find_checkpoint
from lit_face.methods.texture_completion import GMCNNGenerator, TextureCompletionModule
from lit_face.methods.texture_completion.completion import TextureCompleter
from lit_face.methods.texture_completion.hint import MeanMap, fill_hint, spread
from lit_face.methods.texture_completion.losses import confidence_weights, hinge_discriminator
from lit_face.methods.texture_completion.mrf import MRFLoss, load_mrf
from lit_face.methods.texture_completion.strokes import random_holes, stroke_hole
from lit_face.types import FaceBatch
from tests.helpers.runs import checkpoint

SMALL = {"width": 4, "kernels": (3, 3, 3), "dilations": (2,), "init_std": None}
TINY = [
    "method=texture_completion", "method.network.width=4", "method.network.kernels=[3,3,3]",
    "method.network.dilations=[2]", "method.network.init_std=null", "method.weights.mrf=0",
    "method.discriminator_width=4", "method.adversarial_lr=1e-4", "data.image_size=32",
    "data.batch_size=4", "data.workers=0", "callbacks.panels.faces=2", "trainer.accelerator=cpu",
    "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1",
]  # fmt: skip


def people(count=16, size=32):
    """Maps of a smooth face-like pattern with a colour a person, each seen from one side."""
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    pattern = 0.15 * torch.cos(6 * x.abs()) * torch.cos(5 * y) - 0.2 * (y < -0.6)
    generator = torch.Generator().manual_seed(0)
    tone = 0.3 + 0.4 * torch.rand(count, 3, 1, 1, generator=generator)
    maps = (tone + pattern * (0.5 + tone)).clamp(0, 1)
    edge = 0.9 * torch.rand(count, 1, 1, generator=generator) - 0.1
    side = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    visible = (side * x < edge) & (y > -0.9)
    return maps, visible[:, None]


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    for number, (color, visible) in enumerate(zip(*people(), strict=True)):
        rgb = (color * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        confidence = np.full(rgb.shape[:2], 255, np.uint8)
        texture = TextureMap(rgb, visible[0].numpy(), confidence)
        write_texture_map(folder / f"{number:02d}" / "uv.npz", texture)
    return folder


def train(folder, fits, *overrides):
    config = compose_config("train", [*TINY, f"data.root={fits}", *overrides])
    config.paths.run = str(folder)
    return run_task("lit_face.cli.training", config, folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory, fits):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder, fits, "method.patience=0")
    return folder


def module(**changes):
    options = {
        "network": GMCNNGenerator(**SMALL), "optimizer": torch.optim.Adam, "map_size": 32,
        "weights": {"reconstruction": 1.4, "auto_encoding": 1.2, "mrf": 0.0, "adversarial": 0.0},
    }  # fmt: skip
    return TextureCompletionModule(**{**options, **changes})


def test_the_published_size():
    network = GMCNNGenerator()
    assert sum(p.numel() for p in network.parameters()) == 12_561_891
    assert network.smallest_size == 196


@pytest.mark.parametrize("size", [(32, 32), (48, 36)])
def test_the_size_stays(size):
    out = GMCNNGenerator(**SMALL)(torch.rand(2, 3, *size), torch.ones(2, 1, *size))
    assert out.shape == (2, 3, *size)


def test_small_and_odd_maps_are_refused():
    network = GMCNNGenerator(width=2)
    with pytest.raises(ValueError, match=r"192 texels are too small.*at least 196"):
        network(torch.zeros(1, 3, 192, 192), torch.zeros(1, 1, 192, 192))
    with pytest.raises(ValueError, match="multiple of 4, found 198"):
        network(torch.zeros(1, 3, 198, 198), torch.zeros(1, 1, 198, 198))
    with pytest.raises(ValueError, match="three odd numbers"):
        GMCNNGenerator(kernels=(7, 4, 3))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.image_size=128", "128 texels are too small"),
        ("method.map_size=512", "must be equal"),
        ("+method.weights.style=1", "weights should be of reconstruction"),
        ("method.coverage=[0.6,0.1]", "coverage should be two shares"),
        ("data=ffhq", "must be equal|too small|multiple|needs the field"),
    ],
)
def test_configs_that_cannot_work(override, message):
    overrides = ["method=texture_completion", override]
    if override == "data=ffhq":
        overrides.append("method.map_size=128")
    with pytest.raises(ConfigError, match=message):
        check_config(compose_config("train", overrides))


def test_strokes_cover_what_they_should():
    visible = torch.rand(6, 1, 64, 64) < 2
    visible[3:, :, :, 30:] = False
    holes = random_holes(visible, list(range(6)))
    share = holes.flatten(1).sum(1) / visible.flatten(1).sum(1)
    assert (share >= 0.1).all()
    assert (share <= 0.6).all()
    assert not (holes & ~visible).any()
    assert torch.equal(holes, random_holes(visible, list(range(6))))
    assert not torch.equal(holes[0], holes[1])


def test_strokes_of_nothing():
    nothing = np.zeros((16, 16), bool)
    assert not stroke_hole(nothing, np.random.default_rng(0)).any()


def test_borrowed_holes_are_what_the_next_photo_does_not_see():
    visible = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    visible[0, :, :, :20], visible[1, :, :, 12:] = True, True
    holes = random_holes(visible, [1, 2], borrowed=1.0)
    assert torch.equal(holes, visible & ~visible.roll(-1, 0))


def test_confidence_falls_into_the_hole():
    hole = torch.zeros(1, 1, 33, 33)
    hole[..., 8:25, 8:25] = 1
    for sigma in (None, 3.0):
        weight = confidence_weights(hole, 9, sigma=sigma)[0, 0]
        assert (weight[hole[0, 0] == 0] == 0).all()
        assert weight[16, 8] > weight[16, 12] > weight[16, 16] > 0


def test_spreading_keeps_constants_and_what_is_known():
    known = (torch.rand(2, 1, 20, 20) < 0.2).float()
    flat = spread(torch.full((2, 3, 20, 20), 0.3), known)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.3))
    values = torch.rand(2, 3, 20, 20)
    found = spread(values, known)
    assert torch.equal(found * known, values * known)
    assert torch.equal(found, spread(values * known, known))  # the rest was not read


def test_a_symmetric_face_is_completed_from_its_other_side():
    maps, _ = people(4)
    known = torch.ones(4, 1, 32, 32)
    known[..., 20:] = 0
    hint = fill_hint(maps, known, torch.full((3, 32, 32), 0.5), mirror=True)
    assert (hint - maps).abs()[..., 20:30].max() < 1e-5
    assert torch.equal(hint[..., :20], maps[..., :20])
    hidden = torch.rand_like(maps)
    hidden[..., :20] = maps[..., :20]
    assert torch.equal(hint, fill_hint(hidden, known, torch.full((3, 32, 32), 0.5), mirror=True))


def test_the_mean_takes_the_maps_colours():
    maps, visible = people(1)
    mean = 0.5 * maps[0] + 0.2
    hint = fill_hint(maps, visible.float(), mean, mirror=False)
    assert (hint - maps).abs().max() < 0.05
    assert (mean - maps[0]).abs().mean() > 0.05


def test_the_mean_map_is_that_of_what_is_seen():
    mean = MeanMap(8)
    known = torch.zeros(2, 1, 8, 8)
    known[0, ..., :4], known[1, ..., :2] = 1, 1
    images = torch.stack([torch.full((3, 8, 8), 0.2), torch.full((3, 8, 8), 0.6)])
    mean.update(images, known)
    found = mean(8)
    torch.testing.assert_close(found[:, :, :2], torch.full((3, 8, 2), 0.4))
    torch.testing.assert_close(found[:, :, 2:4], torch.full((3, 8, 2), 0.2))
    assert 0.2 <= found[:, :, 4:].min() <= found[:, :, 4:].max() <= 0.4


def test_completed_maps_keep_what_is_known():
    completer = TextureCompleter(GMCNNGenerator(**SMALL), 32)
    maps, visible = people(2, size=64)
    completer.mean_map.update(*[t.float() for t in people(8)])
    found = completer.complete(maps, visible.float())
    assert found.shape == maps.shape
    deep = torch.nn.functional.avg_pool2d(visible.float(), 9, 1, 4) > 0.999
    assert ((found - maps).abs() * deep).max() < 1e-6
    assert found.isfinite().all()


def test_nothing_is_learnt_from_what_no_photo_showed():
    """Colours outside of what is visible change neither the loss nor its gradient."""
    maps, visible = people(4)
    results = []
    for change in (0.0, 0.4):
        torch.manual_seed(1)
        method = module()
        method.completer.generator.last.weight.data.normal_(std=0.1)
        image = torch.where(visible, maps, (maps + change).clamp(0, 1))
        mask = visible.float()
        known = mask * (1 - random_holes(visible, [1, 2, 3, 4]).float())
        method.completer.mean_map.update(image, mask)
        predicted, _ = method.completer(image, known)
        completed = known * image + (1 - known) * predicted
        terms = method._terms(image, mask, known, predicted, completed)
        sum(terms.values()).backward()
        gradient = torch.cat([p.grad.flatten() for p in method.completer.generator.parameters()])
        results.append((torch.stack([*terms.values()]).detach(), gradient))
    torch.testing.assert_close(results[0], results[1])
    assert results[0][1].abs().max() > 0


def test_hinge_of_a_perfect_judge_is_zero():
    assert hinge_discriminator(torch.tensor([[2.0]]), torch.tensor([[-1.5]])).item() == 0


def test_mrf_without_weights_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with caplog.at_level(logging.INFO, "lit_face"):
        logging.getLogger("lit_face").propagate = True
        assert load_mrf(download=False) is None
    assert "download_vgg=true" in caplog.text


def test_mrf_prefers_the_true_map():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, 2), *[torch.nn.Identity() for _ in range(22)]]
    loss = MRFLoss(torch.nn.Sequential(*layers))
    true = torch.rand(1, 3, 32, 32)
    assert loss(true, true) < loss(torch.rand(1, 3, 32, 32), true)


def test_a_run_in_both_phases(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["train/adversarial"] == 1
    assert metrics["step"] == 6  # the discriminators' steps do not count
    assert 0 < metrics["val/completion_l1"] < 1
    assert "train/loss_discriminator" in metrics
    assert list((run / "pictures").glob("*.jpg"))
    method, _ = load_method(find_checkpoint(run, prefer="best"))
    maps, visible = people(2)
    batch = FaceBatch(maps, skin_mask=visible.float())
    assert method.eval().predict_step(batch).shape == maps.shape


def test_resumed_equals_uninterrupted(run, fits, tmp_path):
    folder = tmp_path / "half"
    train(folder, fits, "method.patience=0", "trainer.max_epochs=1")
    config = compose_config(
        "train",
        [*TINY, f"data.root={fits}", "method.patience=0",
         f"resume={folder / 'checkpoints' / 'last.ckpt'}"],
    )  # fmt: skip
    config.paths.run = str(folder)
    run_task("lit_face.cli.training", config, folder)
    ours, whole = checkpoint(folder), checkpoint(run)
    assert ours["global_step"] == whole["global_step"]
    assert len(ours["optimizer_states"]) == 2
    for name, value in whole["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


def test_the_second_phase_waits_for_a_flat_error(fits, tmp_path):
    train(tmp_path / "run", fits, "method.patience=5", "trainer.max_epochs=1")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["train/adversarial"] == 0
    assert "train/loss_discriminator" not in metrics


def test_keys_are_needed():
    maps, visible = people(2)
    with pytest.raises(ValueError, match="random_key"):
        module()._holes(FaceBatch(maps, skin_mask=visible.float()), visible.float(), 0.0)


@pytest.mark.learn
def test_it_learns():
    """On eight people, from nothing but the network: the mean colour is beaten by far."""
    torch.manual_seed(0)
    maps, visible = people(8)
    mask = visible.float()
    method = module(mirror=False, residual=False)
    completer, optimizer = method.completer, torch.optim.Adam(method.parameters(), lr=2e-3)
    completer.mean_map.update(maps, mask)
    for step in range(120):
        keys = sample_keys(0, step, torch.arange(8)).tolist()
        known = mask * (1 - random_holes(visible, keys).float())
        predicted, _ = completer(maps, known)
        completed = known * maps + (1 - known) * predicted
        loss = sum(method._terms(maps, mask, known, predicted, completed).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hole = random_holes(visible, [*range(100, 108)]).float()
    with torch.no_grad():
        predicted, _ = completer(maps, mask * (1 - hole))
    colour = (maps * mask).sum((0, 2, 3)) / mask.sum()

    def error(found):
        return ((found - maps).abs() * hole).sum() / hole.sum()

    assert error(predicted) < 0.8 * error(colour[:, None, None])
