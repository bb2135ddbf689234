import math
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch

from lit_face.config.instantiate import instantiate
from lit_face.methods.sh_brdf import SHBRDFModule, SHBRDFNetwork
from lit_face.methods.sh_brdf.head import StatisticalHead
from lit_face.methods.sh_brdf.network import MapDecoder, map_size_problems
from lit_face.methods.sh_brdf.reader import AttributeReader
from lit_face.methods.sh_brdf.stages import Schedule, stage_problems
from lit_face.morphable_models.contour import contour_candidates, visible_contour
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import material_of, render_face
from tests.helpers.faces import cameras, faces, head
from tests.helpers.tolerances import assert_close

SIZE = 48
STAGES = {
    "coarse": {"epochs": 2, "encoder_lr": 1e-3, "decoder_lr": 0.0},
    "residual": {"epochs": 1, "encoder_lr": 0.0, "decoder_lr": 1e-3},
    "joint": {"epochs": 1, "encoder_lr": 1e-4, "decoder_lr": 1e-3, "final": 0.0},
}
WEIGHTS = {
    "photo": 1.0,
    "landmark": 50.0,
    "prior_identity": 3e-3,
    "prior_expression": 3e-3,
    "prior_albedo": 3e-3,
    "light_grey": 1e-2,
    "consistency_diffuse": 0.5,
    "range_diffuse": 1.0,
}


def small_module(stages=None, seed=0, **options):
    torch.manual_seed(seed)
    network = SHBRDFNetwork("resnet18", map_size=32, decoder_width=32, bands=5)
    return SHBRDFModule(
        network,
        RasterMaterialRenderer(),
        head(),
        torch.optim.Adam,
        stages or STAGES,
        WEIGHTS,
        image_size=SIZE,
        follow_contour=False,
        **options,
    )


@pytest.fixture(scope="module")
def reader():
    return AttributeReader(StatisticalHead.of_model(head(), 64))


def attributes(reader, count, seed=None):
    """Raw attributes of the mean face, or of random faces."""
    sizes = {**reader.head.counts, "rotation": 3, "translation": 3, "focal": 1}
    values = {name: torch.zeros(count, size) for name, size in sizes.items()}
    values["light"] = torch.zeros(count, 25, 3)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for name, scale in (("identity", 0.7), ("expression", 0.5), ("albedo", 0.7)):
            values[name] = scale * torch.randn(values[name].shape, generator=generator)
        values["rotation"] = 0.2 * torch.randn(count, 3, generator=generator)
        values["light"][:, :9] = 2 * torch.randn(count, 9, 1, generator=generator)
    return values


def render(reader, face, size=SIZE, statistical=False):
    return RasterMaterialRenderer()(
        face.vertices, face.faces, face.uv, face.camera, (size, size),
        material_of(face, statistical), face.light,
    )  # fmt: skip


def test_it_starts_from_the_mean_face_that_fills_the_crop():
    found = small_module().eval().predict_step(faces(2, size=SIZE))
    assert_close(found.vertices, head().mean.expand(2, -1, -1))
    points = found.landmarks[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    # In perspective nearer points are a little larger.
    assert_close((high - low).mean(), SIZE / 1.6, rtol=0.1)
    assert_close((low + high) / 2, torch.full((2,), (SIZE - 1) / 2), atol=0.02 * SIZE)
    assert (points[36:42].mean(0) < points[42:48].mean(0))[0]  # the right eye is on the left
    assert points[8, 1] > points[27, 1]  # the chin is below the nose


def test_maps_without_residuals_render_as_the_statistical_ones(reader):
    raw = attributes(reader, 2, seed=1)
    coarse = reader(raw, SIZE)
    zero = torch.zeros(2, 3, 64, 64)
    full = reader({**raw, "residual_diffuse": zero, "residual_specular": zero}, SIZE)
    assert torch.equal(render(reader, full).image, render(reader, coarse).image)
    full = reader({**raw, "residual_diffuse": zero + 0.1, "residual_specular": zero}, SIZE)
    assert torch.equal(render(reader, full, statistical=True).image, render(reader, coarse).image)
    assert not torch.equal(render(reader, full).image, render(reader, coarse).image)


def test_albedo_maps_are_the_models_albedo():
    fine = StatisticalHead.of_model(head(), 256)
    generator = torch.Generator().manual_seed(2)
    coefficients = torch.randn(2, head().albedo_size, generator=generator)
    diffuse, specular = fine.albedo_maps(coefficients)
    smooth = head().regions["skin"] * head().regions["face"] > 0.9
    expected = head().albedo(coefficients)
    grid = (fine.uv * torch.tensor([2.0, -2.0]) + torch.tensor([-1.0, 1.0])).expand(2, 1, -1, -1)
    at_vertices = torch.nn.functional.grid_sample(diffuse, grid, align_corners=True)[:, :, 0].mT
    found = linear_to_srgb(at_vertices)
    assert (found - expected)[:, smooth].abs().mean() < 0.005
    assert 0.01 < float(specular.mean()) < 0.1  # skin reflects some percent


def test_seven_convolutions_draw_maps_of_256_texels():
    decoder = MapDecoder(features=16, map_size=256, width=64)
    convolutions = [m for m in decoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 7
    drawn = decoder(torch.randn(1, 16))
    assert drawn.shape == (1, 3, 256, 256)
    assert (drawn == 0).all()
    assert map_size_problems(96)
    assert not map_size_problems(128)


def test_moments_of_the_schedule():
    schedule = Schedule(STAGES)
    assert [schedule.at(e).name for e in (0, 1.9, 2, 3, 99)] == [
        "coarse", "coarse", "residual", "joint", "joint",
    ]  # fmt: skip
    assert schedule.at(0.5).rates() == (1e-3, 0.0)
    assert_close(schedule.at(3.5).rates()[0], 0.5e-4)  # half of a cosine to nothing
    assert schedule.decoder_epochs(1.9) is None
    assert [schedule.decoder_epochs(e) for e in (2, 2.5, 3.5, 9)] == [0, 0.5, 1.5, 7]
    without = Schedule({**STAGES, "coarse": {**STAGES["coarse"], "epochs": 0}})
    assert without.at(0).name == "residual"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": -1}, "epochs should be"),
        ({"encoder_lr": 0.0}, "nothing learns"),
        ({"encoder_lr": -1.0}, "0 or more"),
        ({"speed": 3}, "unknown \\['speed'\\]"),
    ],
)
def test_stages_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        Schedule({"coarse": {**STAGES["coarse"], **change}})
    assert not stage_problems(STAGES)


def test_config_problems_are_said_in_the_words_of_the_options():
    method = {
        "network": {"map_size": 100},
        "stages": STAGES,
        "weights": {"photos": 1.0},
        "image_size": 64,
    }
    problems = "\n".join(SHBRDFModule.check_config(method, {"image_size": 96}))
    for words in ("method.network.map_size", "no loss ['photos']", "data.image_size is 96"):
        assert words in problems


def train(module, epochs, folder, ckpt=None):
    trainer = pl.Trainer(
        max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, accelerator="cpu", enable_checkpointing=False,
    )  # fmt: skip
    batches = [faces(4, size=SIZE, seed=seed) for seed in range(2)]
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(module, loader, ckpt_path=ckpt, weights_only=True)
    return trainer


def state(module):
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def test_stages_freeze_and_a_resumed_run_lands_in_its_stage(tmp_path):
    straight = small_module()
    train(straight, 4, tmp_path)

    resumed = small_module()
    train(resumed, 2, tmp_path).save_checkpoint(tmp_path / "a.ckpt")
    coarse = state(resumed)
    assert all((coarse[k] == 0).all() for k in coarse if "decoder.last" in k)
    again = small_module(seed=1)
    train(again, 3, tmp_path, tmp_path / "a.ckpt").save_checkpoint(tmp_path / "b.ckpt")
    residual = state(again)
    for name, value in coarse.items():  # weights and statistics of the frozen encoder
        if not name.startswith(("diffuse_decoder", "specular_decoder")):
            assert torch.equal(residual[name], value), name
    assert (residual["diffuse_decoder.last.weight"] != 0).any()
    last = small_module(seed=2)
    train(last, 4, tmp_path, tmp_path / "b.ckpt")
    for name, value in state(straight).items():
        assert_close(state(last)[name], value, atol=1e-6, msg=name)


@pytest.mark.learn
def test_four_faces_are_learnt():
    stages = {"coarse": {"epochs": 1, "encoder_lr": 1e-3, "decoder_lr": 0.0}}
    module, batch = small_module(stages), faces(4, size=SIZE, seed=1, yaw_deg=30)
    optimizer = torch.optim.Adam(module.network.parameters(), lr=1e-3)
    errors = []
    for _ in range(32):
        face = module._reconstruct(batch, with_residuals=False)
        rendered, mask = module._render(face, batch)
        terms = module.objective.terms(face, rendered, mask, batch, module.reader.head)
        optimizer.zero_grad()
        module.objective.total(terms, {}).backward()
        optimizer.step()
        errors.append({name: float(value.detach()) for name, value in terms.items()})
    assert errors[-1]["landmark"] < 0.2 * errors[0]["landmark"]
    assert errors[-1]["photo"] < 0.5 * errors[0]["photo"]


@pytest.mark.parametrize("shadows", [False, True])
def test_predictor_without_the_morphable_model_gives_the_same_faces(shadows):
    module = small_module(shadows=shadows).eval()
    for parameter in module.network.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    predictor, batch = module.predictor().eval(), faces(2, size=SIZE)
    copy = instantiate(predictor.config)
    copy.load_state_dict(predictor.state_dict())
    found, expected = copy.eval()(batch.image), module.predict_step(batch)
    assert_close(found.image_vertices, expected.image_vertices)
    assert_close(found.light, expected.light)
    assert (found.transfer is not None) == shadows
    if shadows:  # of the mean face: under the brows and the nose it is darker than without
        plain = render_face(RasterMaterialRenderer(), replace(expected, transfer=None), (64, 64))
        shadowed = render_face(RasterMaterialRenderer(), found, (64, 64))
        darker = (plain.image - shadowed.image).mean(1)[plain.mask[:, 0] > 0]
        assert 0.005 < darker.mean() < 0.1
    for name, value in expected.textures.items():
        assert_close(found.textures[name], value)
    assert not any("basis" in name for name in module.state_dict())


def test_visible_contour_is_the_fixed_one_from_the_front_and_slides_in_profile():
    model = head()
    candidates = contour_candidates(model)
    assert (candidates[:, 0] == model.landmark_index[:17]).all()
    camera = cameras(1, 256, yaw_deg=0.0)
    front = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    angle = math.radians(50)
    turn = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    scale = camera.matrix.norm(dim=2)[0, 0]
    moved = []
    for rotation in (front, front @ turn):
        points = scale * model.mean[None] @ rotation.T
        fixed = points[:, model.landmark_index]
        found = visible_contour(points, model.landmark_index, candidates)
        assert torch.equal(found[:, 17:], fixed[:, 17:])
        moved.append((found - fixed)[0, :17, 0])
    assert moved[0].abs().mean() < 3  # pixels of a face of about 150
    left, right = moved[1][:8].abs().max(), moved[1][9:].abs().max()
    assert max(left, right) > 10 > 3 * min(left, right)


def test_a_face_that_leaves_the_skin_uncovered_is_no_better_in_validation():
    module, batch = small_module().eval(), faces(2, size=SIZE, yaw_deg=5)
    logged = []

    def error_now():
        values = {}
        module.log = lambda name, value, **_: values.setdefault(name, value)
        module.validation_step(batch, 0)
        logged.append(float(values["val/photo"].detach()))

    error_now()
    with torch.no_grad():
        module.network.heads["translation"].bias[0] = 60.0  # far out of the picture
    error_now()
    assert logged[1] > logged[0]
    black = (srgb_to_linear(batch.image) * batch.skin_mask).sum((1, 2, 3))
    assert_close(logged[1], float((black / (3 * batch.skin_mask.sum((1, 2, 3)))).mean()))
