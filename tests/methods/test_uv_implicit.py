import copy

import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.methods.uv_implicit import ImplicitNetwork, ImplicitSurface, UVImplicitModule
from lit_face.methods.uv_implicit.query import (
    facing,
    in_picture,
    project,
    sample_features,
    variance,
)
from lit_face.methods.uv_implicit.sampling import cost_label, draw_samples
from lit_face.methods.uv_implicit.views import choose_views, cropped_to_face, random_views
from tests.helpers.multiview import plane_batch
from tests.helpers.tolerances import assert_close

PLANES, INTERVAL = 21, 0.5


def small_surface(**options):
    torch.manual_seed(0)
    network = ImplicitNetwork(width=8, channels=16, hidden=(16,), groups=8)
    options = {"planes": PLANES, "interval": INTERVAL, "crop": None, **options}
    return ImplicitSurface(network, **options)


def module(**options):
    options = {"points": 300, "sigma": 4.0, **options}
    return UVImplicitModule(small_surface(), lambda p: torch.optim.Adam(p, 3e-3), **options)


def test_sampling_is_that_of_grid_sample():
    maps = torch.randn(2, 3, 7, 9, 5)
    pixels = torch.rand(2, 3, 40, 2) * torch.tensor([13.0, 11.0]) - 2
    found = sample_features(maps, pixels)
    grid = pixels / torch.tensor([8.0, 6.0]) * 2 - 1
    expected = torch.nn.functional.grid_sample(
        maps.flatten(0, 1).permute(0, 3, 1, 2), grid.flatten(0, 1)[:, None], align_corners=True
    )
    assert_close(found.flatten(0, 1).mT, expected[:, :, 0], atol=1e-5)
    lost = torch.tensor([float("nan"), float("inf"), -1e30, 1e30]).view(1, 1, 2, 2)
    assert (sample_features(maps[:1, :1], lost) == 0).all()


def test_sampled_features_of_linear_maps_are_positions():
    """A map that holds its own coordinates gives back where it was read."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    maps = torch.stack([x, y], dim=-1)[None, None]
    pixels = torch.rand(1, 1, 30, 2) * torch.tensor([7.0, 5.0])
    assert_close(sample_features(maps, pixels), pixels, atol=1e-5)


def test_weighted_variance():
    maps = torch.randn(2, 5, 6, 7, 4)
    pixels = torch.rand(2, 5, 30, 2) * 5
    features = sample_features(maps, pixels)
    expected = features.var(1, correction=0)
    assert_close(variance(maps, pixels), expected, atol=1e-5)
    assert_close(variance(maps, pixels, torch.full((2, 5, 30), 0.3)), expected, atol=1e-5)
    weights = torch.ones(2, 5, 30)
    weights[:, 3:] = 0
    some = features[:, :3].var(1, correction=0)
    assert_close(variance(maps, pixels, weights), some, atol=1e-5)


def test_views_that_do_not_see_do_not_count():
    batch = plane_batch([0.0])
    surface = small_surface()
    texels, _ = surface.surface(batch)
    angle = torch.deg2rad(torch.tensor([0.0, -20, 20, -40, 40]))
    middle = texels.weights[0].mean(1)
    assert_close(middle, angle.cos() - 0.2 + 1e-3, atol=0.01)
    batch.uv_maps["visibility"] = batch.uv_maps["visibility"].clone()
    batch.uv_maps["visibility"][:, 2] = 0
    hidden, _ = surface.surface(batch)
    assert_close(hidden.weights[0, 2], torch.full_like(hidden.weights[0, 2], 1e-3))
    camera = batch.camera
    behind = torch.tensor([[[0.0, 0, 500.0]]])
    pixels, depth = project(camera, behind)
    assert not in_picture(pixels, depth, 64, 64).any()
    assert (facing(camera, torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0, -1]]])) < 0).all()


def test_true_plane_has_the_least_variance():
    """Of the photos' own colours, without any network."""
    batch = plane_batch([3.0, -2.0])
    surface = small_surface()
    texels, _ = surface.surface(batch)
    seen = surface.look(batch)
    colours = seen._replace(maps=batch.image.permute(0, 1, 3, 4, 2), camera=batch.camera)
    spread = []
    for height in torch.arange(-5, 5.5, 0.5):
        points = texels.points + texels.normals * height
        spread.append(surface.evidence(colours, points, texels.weights).mean((1, 2)))
    best = torch.stack(spread).argmin(0) * 0.5 - 5
    assert best.tolist() == [3.0, -2.0]


def test_tiles_do_not_change_the_volume():
    batch = plane_batch([1.0, 0.5])
    batch.uv_maps["mask"][1, :, :, :5] = 0  # lists of texels of other lengths
    surface = small_surface()
    whole = surface(batch)
    assert whole.shape == (2, PLANES, 16, 16)
    surface.memory = 0.3
    assert surface.tile(2, 5) < 16 * 16 * PLANES / 4
    assert_close(surface(batch), whole, atol=1e-6)
    outside = batch.uv_maps["mask"] == 0
    assert (whole[outside.expand_as(whole)] == 0).all()
    alone = surface(batch.map(lambda value: value[1:]))
    assert_close(alone, whole[1:], atol=1e-5)


def test_volume_holds_the_cost_of_its_points():
    batch = plane_batch([1.0])
    surface = small_surface()
    volume = surface(batch)
    texels, index = surface.surface(batch)
    seen = surface.look(batch)
    chosen = torch.tensor([[3, 70, 200]])
    depth = torch.tensor([[-10.0, 0, 7]])
    cost = surface.cost(seen, texels.at(chosen), depth)
    rows, columns = index[0, chosen[0]] // 16, index[0, chosen[0]] % 16
    assert_close(volume[0, (depth[0] + 10).long(), rows, columns], cost[0], atol=1e-6)


def test_cropped_photos_show_the_same():
    batch = plane_batch([1.0])
    small = cropped_to_face(batch, batch.camera, margin=2)
    assert small.image.shape[-1] < batch.image.shape[-1]
    points = batch.uv_maps["position"][..., 1:, :].flatten(2).mT  # the mask leaves row 0 out
    for picture in (batch, small):
        pixels, _ = project(picture.camera, points)
        picture.found = sample_features(picture.image.permute(0, 1, 3, 4, 2), pixels)
    assert_close(small.found, batch.found, atol=1e-4)


def test_transposed_photos_show_the_same():
    """A portrait photo is stored transposed, with rows of its intrinsics swapped."""
    batch = plane_batch([1.0])
    camera = batch.camera
    swapped = PerspectiveCamera(
        camera.intrinsics[..., [1, 0, 2], :], camera.rotation, camera.translation
    )
    turned = copy.copy(batch)
    turned.image, turned.camera = batch.image.mT.contiguous(), swapped
    small = cropped_to_face(turned, swapped, margin=2)
    points = batch.uv_maps["position"][..., 1:, :].flatten(2).mT  # the mask leaves row 0 out
    found = [
        sample_features(b.image.permute(0, 1, 3, 4, 2), project(b.camera, points)[0])
        for b in (batch, turned, small)
    ]
    assert_close(found[1], found[0], atol=1e-4)
    assert_close(found[2], found[0], atol=1e-4)


def test_chosen_views():
    batch = plane_batch([0.0, 1.0])
    chosen = random_views(batch.random_key, 5, 3)
    assert all(len(set(row)) == 3 for row in chosen.tolist())
    few = choose_views(batch, batch.camera, chosen)
    assert few.image.shape[:2] == (2, 3)
    assert_close(few.image[1, 2], batch.image[1, chosen[1, 2]])
    assert_close(few.camera.translation[1, 2], batch.camera.translation[1, chosen[1, 2]])


def test_samples_lie_about_the_surface():
    truth = [torch.linspace(-30, 30, 500), torch.zeros(90)]
    samples = draw_samples(truth, torch.tensor([1, 2]), 20000, 201, sigma=10.0)
    offset = samples.displacement - samples.truth
    assert offset.shape == (2, 20000)
    assert abs((offset < 0).float().mean() - 0.5) < 0.02
    near = offset[1][offset[1].abs() < 30]
    assert 9 < near.std() < 12
    assert (offset[1].abs() > 40).float().mean() == pytest.approx(0.6 / 17, abs=0.01)
    assert samples.texel[1].max() < 90
    assert_close(samples.truth[0], truth[0][samples.texel[0]])


def test_label_width():
    """0.025 spans: 1 mm at 201 planes of 0.2 mm."""
    label = cost_label(torch.tensor([0.0, 5.0, -5.0, 10.0]), 201)
    assert label.tolist() == pytest.approx([1, 0.60653, 0.60653, 0.13534], abs=1e-4)


@pytest.mark.parametrize("sampling", ["balanced", "released"])
def test_texels_without_truth_teach_nothing(sampling):
    batch = plane_batch([1.0])
    batch.scan["valid"][..., 8:] = 0
    batch.scan["displacement"][..., 8:] = torch.nan
    learner = module(sampling=sampling)
    learner.log = lambda *a, **k: None
    loss = learner.training_step(batch, 0)
    assert loss.isfinite()
    _, texels = learner.implicit.surface(batch)
    samples = learner._samples(batch, texels)
    assert (texels[0, samples.texel[0]] % 16 < 8).all()
    batch.scan["valid"][:] = 0
    with pytest.raises(ValueError, match="plane0: no texel"):
        learner.training_step(batch, 0)


@pytest.mark.learn
def test_learns_where_planes_are():
    learner = module(views=(3, 5))
    learner.log = lambda *a, **k: None
    optimizer = learner.configure_optimizers()
    heights = torch.linspace(-4, 4, 9).tolist()
    for step in range(90):
        row = step % 9
        batch = plane_batch([heights[row]], seeds=[step])
        batch.random_key = torch.tensor([step])
        loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = plane_batch([2.25, -3.25], seeds=[700, 701])
    found = learner.surfaces(unseen)["implicit"]
    known = unseen.uv_maps["mask"] > 0.5
    truth = unseen.scan["displacement"]
    error = (found - truth).abs()[known].mean()
    assert error < 0.4 * truth.abs()[known].mean()
