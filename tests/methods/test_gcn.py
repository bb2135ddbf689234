import functools

import pytest
import torch

from lit_face.config.instantiate import instantiate
from lit_face.identity import SmallEmbedder
from lit_face.io.start_weights import filled_by_checkpoint
from lit_face.methods.deep3d import Deep3DRegressor
from lit_face.methods.deep3d.build import deep3d_predictor
from lit_face.methods.gcn import GCNModule, ImageCritic, MeshGenerator
from lit_face.methods.gcn.schedule import ramps
from lit_face.morphable_models.mesh_hierarchy import mesh_hierarchy
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.renderer import RasterRenderer
from tests.helpers.faces import faces, head
from tests.helpers.tolerances import assert_close

SIZE = 64
WEIGHTS = {"vertex": 1.0, "project": 1.0, "symmetry": 0.5, "variance": 0.01, "decay": 1e-5}


def coarse(**options):
    network = Deep3DRegressor("resnet18")
    settings = {
        "image_size": 32, "alignment": "box", "focal": 20.0, "map_size": 32, "light_unit": 0.1,
        "translation_unit": 0.1,
    }  # fmt: skip
    return functools.partial(deep3d_predictor, network=network, **settings, **options)


def module(seed=0, **options):
    torch.manual_seed(seed)
    settings = {"weights": WEIGHTS, "image_size": SIZE, "ramp_epochs": 1.0, **options}
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=2e-3)  # noqa: E731
    return GCNModule(coarse(), mesh_hierarchy, MeshGenerator, head(), optimizer, **settings)


def quiet(method):
    logged = {}
    method.log = lambda name, value, **_: logged.__setitem__(
        name, float(torch.as_tensor(value).detach())
    )
    method.log_dict = lambda values, **_: logged.update(values)
    return logged


def loss_of(method, batch, observed):
    drawn = method._draw(batch.image, observed)
    return method._loss(batch.image, observed, drawn, ramps(1.0, "released", 1.0))


@pytest.fixture(scope="module")
def batch():
    """Frontal faces that lie where the untrained regressor puts its mean face."""
    return faces(2, size=SIZE, yaw_deg=0.0)


def test_the_refiner_learns_the_photos_colours(batch):
    method = module(weights={"vertex": 0.5, "project": 1.0, "pixel": 1.0})
    logged = quiet(method)
    method.validation_step(batch, 0)
    optimizer = method.make_optimizer(method.refiner.generator.parameters())
    for _ in range(15):
        optimizer.zero_grad()
        observed = method.refiner.observe(batch.image, batch.skin_mask)
        loss_of(method, batch, observed).backward()
        method.on_before_optimizer_step(optimizer)
        optimizer.step()
    method.validation_step(batch, 0)
    assert logged["val/photo"] < 0.7 * logged["val/coarse_photo"]
    shown = {name for name in logged if "loss_" in name}
    assert shown == {"train/loss_vertex", "train/loss_project", "train/loss_pixel"}


def test_what_is_frozen_neither_learns_nor_normalises(batch):
    method = module(embedder=SmallEmbedder(), weights={"identity": 0.2}).train()
    quiet(method)
    torch.nn.init.normal_(method.refiner.generator.combine.weight, std=0.1)
    assert not method.refiner.coarse.training
    before = {key: value.clone() for key, value in method.refiner.coarse.state_dict().items()}
    observed = method.refiner.observe(batch.image, batch.skin_mask)
    loss_of(method, batch, observed).backward()
    learning = [p.grad.abs().sum() > 0 for p in method.refiner.generator.parameters()]
    assert sum(learning) > 0.9 * len(learning)
    assert all(p.grad is None for p in method.refiner.coarse.parameters())
    assert all(p.grad is None for p in method.refiner.embedder.parameters())
    after = method.refiner.coarse.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert len(method.training_embedder_digests) == 1


def test_bases_stay_out_of_checkpoints():
    names = [name for name in module().state_dict() if "generator" not in name]
    assert names
    assert all(name.startswith("refiner.coarse.network.") for name in names)


def test_lit_colours_are_the_renderers(batch):
    """Shading at vertices, and the house's at pixels, of the same albedo."""
    method = module()
    observed = method.refiner.observe(batch.image, batch.skin_mask)
    face, size = observed.face, (SIZE, SIZE)
    albedo = (observed.coarse + 1) / 2
    drawn = RasterRenderer()(face.vertices, face.faces, face.camera, size, albedo, face.light)
    mine = observed.picture(observed.lit(observed.coarse), torch.zeros_like(batch.image))
    shown = (observed.mask * drawn.mask) > 0.99
    difference = (mine - drawn.image.clamp(0, 1)).abs().mean(1, keepdim=True)[shown]
    assert difference.mean() < 0.01


def test_albedo_that_explains_the_photo_costs_nothing(batch):
    method = module()
    observed = method.refiner.observe(batch.image, batch.skin_mask)
    linear = srgb_to_linear((observed.sampled + 1) / 2) / observed.shading.clamp(min=1e-4)
    exact = 2 * linear_to_srgb(linear) - 1
    seen = observed.seen[..., None] > 0
    assert 0.2 < observed.seen.mean() < 0.9
    assert_close((observed.lit(exact) * seen), observed.sampled * seen, atol=2e-3)
    assert (observed.sampled[~seen.expand_as(observed.sampled)] == 0).all()


def test_without_a_mask_the_predictor_finds_the_skin(batch):
    predictor = module().eval().predictor()
    found = predictor(batch.image)
    given = predictor(batch.image, batch.skin_mask)
    assert 0.1 < found.visibility.mean() < 1.2 * given.visibility.mean()
    assert set(found.vertex_colors) == {"albedo", "coarse_albedo"}
    assert_close(found.vertex_colors["coarse_albedo"], given.vertex_colors["coarse_albedo"])
    assert found.textures["diffuse"].shape[-1] == 32


def test_a_predictor_needs_nothing_but_its_config_and_weights(batch):
    torch.manual_seed(1)
    predictor = module().eval().predictor().eval()
    config, state = predictor.config, predictor.state_dict()
    with filled_by_checkpoint():
        empty = instantiate(config).eval()
    empty.load_state_dict(state)
    with torch.no_grad():
        one, other = predictor(batch.image), empty(batch.image)
    assert_close(one.vertex_colors["albedo"], other.vertex_colors["albedo"])
    assert_close(one.image_vertices, other.image_vertices)


def test_terms_of_the_two_objectives():
    released, paper = module(), module(objective="paper")
    early, late = ramps(0.5, "released", 1.0), ramps(3, "released", 1.0)
    assert released._factors(early)["vertex"] == 0.5
    assert released._factors(late) | {"decay": 1.0} == {
        **dict.fromkeys(released._factors(late), 1.0), "vertex": 0.2,
    }  # fmt: skip
    end = ramps(3, "paper", 1.0)
    assert paper._factors(end)["project"] == paper._factors(end)["vertex"] == 0.0
    assert paper._factors(ramps(0, "paper", 1.0))["adversarial"] == 0.0


def test_impossible_options_are_found():
    with pytest.raises(ValueError, match="identity needs an identity network"):
        module(weights={"identity": 0.2})
    with pytest.raises(ValueError, match=r"no \['colour'\]"):
        module(weights={"colour": 1.0})
    with pytest.raises(ValueError, match="nothing to learn"):
        module(weights={"decay": 1.0})
    with pytest.raises(ValueError, match=r"needs method\.critic"):
        module(weights={"adversarial": 1e-3})
    critic = ImageCritic(SIZE)
    assert module(weights={"project": 1.0}, critic=critic).critic is None
    network = Deep3DRegressor("resnet18")
    network.trained_with = {"focal": 4.5}
    with pytest.raises(ValueError, match=r"trained with focal=4\.5"):
        deep3d_predictor(head(), network, 32, focal=20.0)
    network.trained_with = {"linear_light": False}
    with pytest.raises(ValueError, match=r"method\.linear_light=true"):
        deep3d_predictor(head(), network, 32)
