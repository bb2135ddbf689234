import pytest
import torch

from lit_face.geometry.cost_volumes import (
    argmax_displacement,
    depth_values,
    expected_displacement,
)
from lit_face.methods.uv_implicit import ImplicitNetwork, ImplicitSurface
from lit_face.methods.uv_regularize import UNetRegularizer, UVRegularizeModule
from lit_face.methods.uv_regularize.volumes import VolumeStore
from tests.helpers.multiview import plane_batch
from tests.helpers.tolerances import assert_close


def small_surface(seed=0):
    torch.manual_seed(seed)
    network = ImplicitNetwork(width=8, channels=16, hidden=(16,), groups=8)
    return ImplicitSurface(network, planes=21, interval=0.5, crop=None)


class NoisyCost(torch.nn.Module):
    """Stands for a trained implicit function: the true bump, lost here and there."""

    interval, planes = 0.5, 21

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        truth = batch.scan["displacement"] / self.interval
        depth = depth_values(21)[None, :, None, None]
        cost = torch.exp(-0.5 * ((depth - truth) / 1.5).square())
        generator = torch.Generator().manual_seed(int(batch.random_key[0]))
        lost = torch.rand(truth.shape, generator=generator) < 0.3
        noise = torch.rand(cost.shape, generator=generator)
        return torch.where(lost, noise, cost) * batch.uv_maps["mask"]

    def readings(self, volume, mask):
        return {"implicit": argmax_displacement(volume, mask) * self.interval}


def module(tmp_path, implicit=None, **options):
    torch.manual_seed(0)
    return UVRegularizeModule(
        implicit or NoisyCost(),
        UNetRegularizer(2),
        lambda p: torch.optim.Adam(p, 1e-2),
        cache=str(tmp_path),
        **options,
    )


def test_expected_displacement_is_the_centre_of_a_bump():
    depth = depth_values(41)[None, :, None, None]
    scores = -0.5 * ((depth - 3.4) / 2).square() + torch.zeros(1, 41, 4, 4)
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 0] = 0
    found = expected_displacement(scores, mask)
    assert_close(found, 3.4 * mask, atol=1e-4)
    assert (argmax_displacement(scores, mask) == 3 * mask).all()


def test_planes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"4 k \+ 1 planes.*20 planes of 8 x 8"):
        UNetRegularizer()(torch.zeros(1, 20, 8, 8))
    with pytest.raises(ValueError, match="21 planes of 8 x 6"):
        UNetRegularizer()(torch.zeros(1, 21, 8, 6))


def test_volumes_are_computed_once(tmp_path):
    implicit = NoisyCost()
    store = VolumeStore(implicit, tmp_path)
    batch = plane_batch([1.0, 2.0])
    first = store(batch)
    assert_close(store(batch), first)
    assert implicit.calls == 1
    assert len(list(tmp_path.rglob("plane0-*.npy"))) == 1
    batch.image = batch.image.clone()
    batch.image[0] += 0.1  # another photo, another volume
    store(batch)
    assert implicit.calls == 2
    assert len(list(tmp_path.rglob("plane0-*.npy"))) == 2
    assert len(list(tmp_path.rglob("plane1-*.npy"))) == 1


def test_volumes_of_other_weights_are_not_mixed(tmp_path):
    batch = plane_batch([1.0])
    first = VolumeStore(small_surface(0), tmp_path)(batch)
    second = VolumeStore(small_surface(1), tmp_path)(batch)
    assert (first - second).abs().max() > 1e-3
    assert_close(VolumeStore(small_surface(0), tmp_path)(batch), first, atol=1e-3)


def test_only_the_regulariser_learns(tmp_path):
    implicit = small_surface()
    before = {name: value.clone() for name, value in implicit.state_dict().items()}
    learner = module(tmp_path, implicit)
    learner.log = lambda *a, **k: None
    learner.train()
    assert not implicit.training
    assert learner.network.training
    learner.training_step(plane_batch([1.0, 0.5]), 0).backward()
    assert all(p.grad is None for p in implicit.parameters())
    assert all(p.grad is not None for p in learner.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in implicit.state_dict().items())


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_unknown_texels_do_not_count(tmp_path, loss):
    learner = module(tmp_path, loss=loss, mirror=0)
    learner.log = lambda *a, **k: None
    batch = plane_batch([1.0])
    batch.scan["valid"][..., 8:] = 0
    before = learner.training_step(batch, 0)
    batch.scan["displacement"] = batch.scan["displacement"].clone()
    batch.scan["displacement"][..., 8:] = 99.0
    learner.volumes.implicit.forward = None  # its volume is there
    assert_close(learner.training_step(batch, 0), before)


def test_a_patch_and_a_panel(tmp_path):
    learner = module(tmp_path, patch=8)
    learner.log = lambda *a, **k: None
    seen = []
    learner.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    assert learner.training_step(plane_batch([1.0, 0.5]), 0).isfinite()
    assert seen == [(2, 21, 8, 8)]
    picture = learner.eval().panel(plane_batch([1.0, 0.5]), 1)
    assert picture.shape == (16, 48, 3)
    assert picture.std() > 10


@pytest.mark.learn
def test_learns_to_fill_lost_texels(tmp_path):
    learner = module(tmp_path)
    learner.log = lambda *a, **k: None
    optimizer = learner.configure_optimizers()
    for step in range(60):
        heights = torch.linspace(-4, 4, 10)[[step % 10, (7 * step + 3) % 10]].tolist()
        batch = plane_batch(heights, seeds=[0, 1])
        batch.sample_id = [f"{step}a", f"{step}b"]
        batch.random_key = torch.tensor([2 * step, 2 * step + 1])
        loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learner.eval()
    unseen = plane_batch([2.25, -3.25])
    unseen.random_key = torch.tensor([12345, 12346])
    stages = learner.surfaces(unseen)
    known = unseen.uv_maps["mask"] > 0.5
    truth = unseen.scan["displacement"]
    errors = {name: (value - truth).abs()[known].mean() for name, value in stages.items()}
    assert errors["regularized"] < 0.5 * errors["implicit"]
