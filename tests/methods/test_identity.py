import json

import pytest
import torch

from lit_face.cli.start import run_task
from lit_face.config.composition import compose_config
from lit_face.data.random import sample_keys
from lit_face.identity import SmallEmbedder
from lit_face.methods.identity import IdentityModule
from lit_face.methods.identity.export import main
from lit_face.methods.identity.people import PeopleTable
from lit_face.metrics.identity import verification
from lit_face.rendering.renderer import RasterRenderer
from lit_face.types import FaceBatch
from tests.helpers.faces import cameras, head
from tests.helpers.runs import checkpoint


def pictures(people, each=4, seed=0, size=64):
    """Rendered faces of people under several lights and poses, numbered from 1000 * seed."""
    model, generator = head(), torch.Generator().manual_seed(seed)
    count = people * each
    person = torch.arange(people).repeat_interleave(each)
    who = {name: values[person] for name, values in model.sample(people, generator).items()}
    camera = cameras(count, size, seed, yaw_deg=25.0)
    vertices = model(who["identity"], torch.zeros_like(who["expression"]))
    light = torch.zeros(count, 9, 3)
    light[:, 0] = 2.2 + 0.8 * torch.rand(count, 1, generator=generator)
    light[:, 1:4] = 0.4 * torch.randn(count, 3, 1, generator=generator)
    colors = model.albedo(who["albedo"]).clamp(0, 1)
    found = RasterRenderer()(vertices, model.faces, camera, (size, size), colors, light)
    return FaceBatch(
        image=found.image.clamp(0, 1),
        landmarks=camera.project(model.landmarks(vertices)),
        skin_mask=found.mask,
        random_key=sample_keys(seed, 0, torch.arange(count)),
        person=1000 * seed + person,
    )


def module(width=8, **changes):
    torch.manual_seed(0)
    options = {
        "network": SmallEmbedder(width, features=32), "people": 40, "features": 32,
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
    }  # fmt: skip
    method = IdentityModule(**{**options, **changes})
    method.log = lambda *_, **__: None
    return method


def test_rows_are_given_as_people_come_and_free_rows_take_no_part():
    torch.manual_seed(0)
    table = PeopleTable(5, 3, margin=0.0, scale=4.0)
    table.register(torch.tensor([70, 30, 70]))
    table.register(torch.tensor([500, 30]))
    assert table.numbers.tolist() == [30, 70, 500, -1, -1]
    assert table.rows(torch.tensor([500, 70])).tolist() == [2, 1]
    features = torch.randn(2, 3)
    unit = torch.nn.functional.normalize(features, dim=1)
    directions = torch.nn.functional.normalize(table.directions[:3], dim=1)
    expected = torch.nn.functional.cross_entropy(4 * unit @ directions.mT, torch.tensor([2, 1]))
    torch.testing.assert_close(table(features, torch.tensor([500, 70])), expected)


def test_a_margin_asks_for_more():
    table = PeopleTable(2, 2, margin=0.3, scale=1.0)
    with torch.no_grad():
        table.directions.copy_(torch.eye(2))
    table.register(torch.tensor([0, 1]))
    loss = table(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(loss, torch.tensor(0.7 - 0.0).neg().exp().log1p())


@pytest.mark.parametrize(
    ("person", "message"), [([1, 2, 3], r"method\.people=2"), ([-1], "not be negative, found -1")]
)
def test_people_that_do_not_fit_are_refused(person, message):
    with pytest.raises(ValueError, match=message):
        PeopleTable(2, 4, 0.2, 16.0).register(torch.tensor(person))


def test_training_pictures_vary_by_their_keys_alone():
    batch = pictures(2)
    method = module(smallest_side=56)
    first = method._varied(batch)
    assert torch.equal(first, method._varied(batch))
    batch.random_key = batch.random_key + 1
    assert not torch.equal(first, method._varied(batch))
    assert first.shape == (8, 3, 112, 112)
    plain = module(point_noise=0.0, hide=0.0, mirror=0.0)
    torch.testing.assert_close(plain._varied(batch), plain._aligned(batch))


def test_hidden_pictures_show_skin_alone():
    batch = pictures(2)
    batch.image = torch.where(batch.skin_mask > 0, batch.image, torch.rand_like(batch.image))
    other = pictures(2)
    other.image = torch.where(other.skin_mask > 0, batch.image, torch.zeros_like(batch.image))
    method = module(hide=1.0)
    inside = method._varied(batch) - method._varied(other)
    assert inside.abs().mean() < 0.02


@pytest.mark.learn
def test_it_learns_to_tell_strangers_apart():
    training, strangers = pictures(60, seed=1), pictures(16, seed=2)
    method = module(people=60)
    before = verification(method.predict_step(strangers), strangers.person).auc
    optimizer = method.configure_optimizers()
    generator = torch.Generator().manual_seed(0)
    for step in range(45):
        rows = torch.randperm(240, generator=generator)[:40]
        batch = training.map(lambda value, rows=rows: value[rows])
        batch.random_key = sample_keys(0, step, rows)
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    after = verification(method.predict_step(strangers).detach(), strangers.person).auc
    assert after > before + 0.05


def test_the_panel_shows_each_face_first():
    batch = pictures(2)
    method = module()
    picture = method.panel(batch, 3)
    assert picture.shape == (3 * 112, 4 * 112, 3)
    shown = torch.from_numpy(picture[112:224, :112].copy()).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(shown, method._aligned(batch)[1], atol=0.01, rtol=0)


def test_people_that_are_left_out_teach_nothing():
    batch = pictures(3, each=2)  # 0, 1, 2
    method = module(left_out=1, hide=0.0)
    method.training_step(batch, 0)
    assert method.table.numbers[:3].tolist() == [0, 2, -1]
    only = batch.map(lambda value: value[2:4])
    assert method.training_step(only, 0) is None
    with pytest.raises(ValueError, match="left_out should be"):
        module(left_out=3)


TINY = [
    "experiment=identity_mini", "embedder@method.network=small", "method.network.width=4",
    "method.network.weights=null", "data.miniature_images=48", "data.batch_size=8",
    "callbacks.panels.faces=2", "trainer.accelerator=cpu", "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1",
]  # fmt: skip


def train(folder, *overrides):
    config = compose_config("train", [*TINY, *overrides])
    config.paths.run = str(folder)
    return run_task("lit_face.cli.training", config, folder)


def test_a_run_is_exported_and_its_weights_load(tmp_path, capsys):
    train(tmp_path / "whole")
    found = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert {"val/auc", "val/error", "val/auc_skin", "val/auc_color"} <= set(found)
    assert found["val/auc"] == pytest.approx(1 - found["val/error"])

    file = tmp_path / "tiny.safetensors"
    assert main([str(tmp_path / "whole"), str(file)]) == 0
    capsys.readouterr()
    record = json.loads(file.with_suffix(".json").read_text())
    assert record["reached"]["val/auc"] == pytest.approx(found["val/auc"], abs=1e-4)
    node = {k: v for k, v in record["embedder"].items() if k not in ("_target_", "weights")}
    network = SmallEmbedder(**node, weights=str(file))
    state = checkpoint(tmp_path / "whole", "last")["state_dict"]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[f"network.{name}"], rtol=2e-3, atol=1e-4)
    assert main([str(tmp_path / "nowhere"), str(file)]) == 2
    assert "does not exist" in capsys.readouterr().err
