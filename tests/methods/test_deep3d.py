import math

import numpy as np
import pytest
import torch
import torchvision
from scipy.io import savemat
from torch import nn

from lit_face.config import check_config
from lit_face.config.composition import compose_config
from lit_face.config.instantiate import instantiate
from lit_face.geometry.five_points import DEEP3D_MEAN, five_point_box, five_points
from lit_face.geometry.sampling import sample_image
from lit_face.geometry.uv import uv_to_texels
from lit_face.inference.loading import load_predictor
from lit_face.io.start_weights import filled_by_checkpoint
from lit_face.methods.deep3d import Deep3DModule, Deep3DRegressor, losses
from lit_face.methods.deep3d.build import deep3d_face
from lit_face.methods.deep3d.face import head_rotation
from lit_face.methods.deep3d.import_pytorch import convert, front_origin, main
from lit_face.methods.deep3d.light import to_radiance
from lit_face.methods.deep3d.regressor import load_deep3d_checkpoint
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.scene import can_be_rendered, is_matte
from lit_face.rendering.shade import sh_shading
from tests.helpers.faces import faces, head
from tests.helpers.tolerances import assert_close

SIZE = 48
WEIGHTS = {
    "photo": 1.92, "landmark": 1.6e-3, "coefficients": 3e-4, "light": 10.0, "reflectance": 5.0,
}  # fmt: skip
HEADS = {0: 80, 1: 64, 2: 80, 3: 3, 4: 27, 5: 2, 6: 1}


def module(seed=0, **options):
    torch.manual_seed(seed)
    settings = {
        "weights": WEIGHTS,
        "coefficient_weights": losses.COEFFICIENTS,
        "image_size": SIZE,
        "follow_contour": False,
        "map_size": 32,
        "alignment": "box",
        "light_unit": 0.1,
        "translation_unit": 0.1,
        **options,
    }
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=1e-3)  # noqa: E731
    return Deep3DModule(Deep3DRegressor("resnet18"), head(), optimizer, **settings)


def quiet(method):
    logged = {}
    method.log = lambda name, value, **_: logged.__setitem__(name, value)
    method.log_dict = lambda values, **_: logged.update(values)
    return logged


@pytest.fixture(scope="module")
def face():
    return deep3d_face(head(), 64)


def coefficients(count, seed=None):
    """Those of the mean face, or random ones."""
    sizes = {"identity": (80,), "expression": (64,), "albedo": (80,), "angles": (3,)}
    sizes |= {"light": (3, 9), "translation": (3,)}
    if seed is None:
        return {name: torch.zeros(count, *size) for name, size in sizes.items()}
    generator = torch.Generator().manual_seed(seed)
    return {n: 0.3 * torch.randn(count, *s, generator=generator) for n, s in sizes.items()}


def test_it_starts_from_the_mean_face_that_fills_the_crop():
    found = module().eval().predict_step(faces(2, size=SIZE))
    assert_close(found.vertices, head().mean.expand(2, -1, -1))
    points = found.landmarks[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    # In perspective nearer points are a little larger.
    assert_close((high - low).mean(), SIZE / 1.6, rtol=0.1)
    assert_close((low + high) / 2, torch.full((2,), (SIZE - 1) / 2), atol=0.03 * SIZE)
    assert (points[36:42].mean(0) < points[42:48].mean(0))[0]  # the right eye is on the left
    assert points[8, 1] > points[27, 1]  # the chin is below the nose
    assert can_be_rendered(found)
    assert is_matte(found)


def test_by_five_points_the_mean_face_fills_deep3ds_crop():
    found = module(alignment="whole", focal=50.0)
    predictor = found.predictor().eval()
    assert (predictor.alignment, found.alignment) == ("five_points", "five_points")
    points = five_points(predictor(torch.rand(1, 3, 224, 224)).landmarks[..., :2])
    box = five_point_box(points, predictor.standard_points)
    assert_close(box.centre, torch.full((1, 2), 111.5), atol=0.3)
    assert_close(box.size, torch.tensor([223.0]), rtol=0.01)  # Deep3D's 101.5 instead of 102
    assert_close(predictor.standard_points.mean(0), torch.tensor(DEEP3D_MEAN), atol=1e-4)


def test_pose(face):
    turned = coefficients(3)
    turned["angles"][1, 1] = 0.4  # about y, right-handed: the nose goes to the picture's right
    turned["translation"][2] = torch.tensor([1.0, 1.0, 1.0])  # right, up, nearer by a tenth
    found = face(turned, 224)
    nose = found.landmarks[:, 30]
    assert nose[1, 0] > nose[0, 0] + 5
    camera = found.camera
    place = camera.to_camera(face.origin.expand(3, 1, 3))[:, 0]
    far = face.distance
    assert_close(place[0], torch.stack([0 * far, 0 * far, far]), atol=1e-3)
    expected = torch.stack([torch.tensor(100.0), torch.tensor(-100.0), 0.9 * far])
    assert_close(place[2], expected, atol=1e-3)
    # Heads turn about the origin, which stays where it is.
    assert_close(place[1], place[0], atol=1e-3)


def test_rotations_are_turns_about_x_then_y_then_z():
    quarter = math.pi / 2
    turns = head_rotation(torch.tensor([[quarter, 0, 0], [0, quarter, 0], [0, 0, quarter]]))
    y, z, x = torch.eye(3)[[1, 2, 0]]
    assert_close(turns[0] @ y, z)
    assert_close(turns[1] @ z, x)
    assert_close(turns[2] @ x, y)
    both = head_rotation(torch.tensor([[quarter, quarter, 0]]))[0]
    assert_close(both, turns[1] @ turns[0])


def test_light_without_coefficients_is_white_from_everywhere():
    radiance = to_radiance(torch.zeros(1, 3, 9))
    generator = torch.Generator().manual_seed(0)
    normals = nn.functional.normalize(torch.randn(1, 20, 3, generator=generator), dim=-1)
    shading = sh_shading(normals, radiance)
    assert_close(shading, torch.full_like(shading, 0.8 * math.sqrt(math.pi) / 2))


def test_light_from_above_lights_what_looks_up():
    gamma = torch.zeros(1, 3, 9)
    gamma[..., 1] = -1.0  # the function is -y, y up
    up_and_down = torch.tensor([[[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]])  # camera frame, y down
    shading = sh_shading(up_and_down, to_radiance(gamma))
    assert (shading[0, 0] > shading[0, 1]).all()


def test_the_albedo_map_is_the_models_albedo(face):
    fine = deep3d_face(head(), 256)
    found = coefficients(2, seed=1)["albedo"][:, : head().albedo_size]
    colors = head().albedo(found).clamp(0, 1)
    expected = srgb_to_linear(colors)
    assert_close(fine.albedo(found), head().albedo(found))
    texels = uv_to_texels(head().uv, 256).expand(2, -1, -1)
    read = sample_image(fine.texture(colors), texels, padding="border").mT
    smooth = fine.skin > 0.9
    assert (read - expected)[:, smooth].abs().mean() < 0.005
    assert (face.texture(colors).amax(1) > 0).all()  # no texel is empty


def test_front_and_skin_of_the_built_in_head(face):
    model = head()
    hidden = (model.regions["mouth_interior"] > 0.5) | (model.regions["face"] < 0.1)
    hidden &= model.regions["eyeballs"] < 0.5
    assert not face.front[hidden[model.faces].any(1)].any()
    assert face.front[(model.regions["nose"] > 0.5)[model.faces].all(1)].all()
    assert face.skin[model.regions["lips"] > 0.9].amax() < 0.2
    assert face.skin[model.regions["nose"] > 0.9].mean() > 0.5


def test_the_photo_counts_on_skin_in_front():
    method, batch = module(), faces(2, size=SIZE, yaw_deg=0.0)
    _, _, picture = method._rendered(method.network(batch.image), batch)
    mask = method._mask(picture, batch)
    assert mask.shape == (2, 1, SIZE, SIZE)
    assert 0.2 < mask.mean() < picture.mask.mean()  # no neck, no scalp
    batch.skin_mask[:, :, : SIZE // 2] = 0
    assert not method._mask(picture, batch)[:, :, : SIZE // 2].any()


def test_four_faces_are_learnt():
    batch, method = faces(4, size=SIZE, seed=1, yaw_deg=20.0), module()
    logged = quiet(method)
    optimizer = method.configure_optimizers()
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = method.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.5 * values[0]
    assert {name for name in logged if "loss_" in name} == {
        f"train/loss_{name}" for name in WEIGHTS
    }
    assert all(p.grad is not None for p in method.network.parameters())


def test_white_light_and_even_skin_cost_nothing():
    gamma = torch.randn(2, 1, 9).expand(-1, 3, -1)
    assert_close(losses.light(gamma), torch.tensor(0.0), atol=1e-12)
    albedo = torch.tensor([0.7, 0.5, 0.4]).expand(2, 10, 3)
    assert_close(losses.reflectance(albedo, torch.ones(10)), torch.tensor(0.0), atol=1e-12)
    shifted = losses.landmark(torch.zeros(1, 68, 3), torch.full((1, 68, 3), 1.0), side=112)
    heavy = len(losses.HEAVY_LANDMARKS)
    assert_close(shifted, torch.tensor(8.0 * (68 + 19 * heavy) / 68))  # two pixels in x and in y


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(14), nn.Flatten(), nn.BatchNorm1d(192, affine=True)
        )

    def forward(self, image):
        assert image.shape[1:] == (3, 112, 112)
        return self.layers(image)


def test_an_embedding_is_frozen_and_teaches():
    method = module(embedder=Embedder(), weights={"perceptual": 0.2}).train()
    assert not method.embedder.training
    assert not any(p.requires_grad for p in method.embedder.parameters())
    logged = quiet(method)
    before = method.embedder.layers[2].running_mean.clone()
    loss = method.training_step(faces(2, size=SIZE), 0)
    loss.backward()
    assert set(logged) == {"train/loss", "train/loss_perceptual"}
    assert_close(loss, 0.2 * logged["train/loss_perceptual"])
    assert method.network.heads["albedo"].weight.grad.abs().sum() > 0
    assert torch.equal(method.embedder.layers[2].running_mean, before)


def test_validation_of_the_truth_is_better_than_of_the_mean():
    method = module()
    logged = quiet(method)
    batch = faces(2, size=SIZE, yaw_deg=0.0)
    method.eval()
    with torch.no_grad():
        method.validation_step(batch, 0)
    mean = float(logged["val/photo"])
    _, _, picture = method._rendered(method.network(batch.image), batch)
    batch.image = picture.image.clamp(0, 1).detach()
    batch.skin_mask = picture.mask
    with torch.no_grad():
        method.validation_step(batch, 0)
    assert float(logged["val/photo"]) < 0.02 < mean


def test_a_predictor_needs_nothing_but_its_config_and_weights():
    method = module(seed=3).eval()
    for parameter in method.network.heads.parameters():
        nn.init.normal_(parameter, std=0.02)
    image = faces(2, size=SIZE).image
    predictor = method.predictor()
    assert (predictor.image_size, predictor.margin) == (SIZE, 1.6)
    again = instantiate(predictor.config)
    again.load_state_dict(predictor.state_dict())
    expected = method.predict_step(faces(2, size=SIZE))
    for found in (predictor(image), again.eval()(image)):
        assert torch.equal(found.image_vertices, expected.image_vertices)
        assert torch.equal(found.light, expected.light)
        assert torch.equal(found.textures["diffuse"], expected.textures["diffuse"])
    assert not any(name.startswith("face.") for name in method.state_dict())


def test_impossible_options_are_found():
    method = {
        "weights": {"photo": 1.0, "colour": 1.0},
        "coefficient_weights": {"shape": 1.0},
        "image_size": 64,
    }
    problems = Deep3DModule.check_config(method, {"image_size": 96})
    assert len(problems) == 3
    assert "no ['colour']" in problems[0]
    assert "no ['shape']" in problems[1]
    assert "method.image_size is 64" in problems[2]
    with pytest.raises(ValueError, match="nothing to learn"):
        module(weights={"photo": 0.0})


@pytest.mark.parametrize("overrides", [["method=deep3d"], ["experiment=deep3d_mini"]])
def test_configs_compose(overrides):
    config = compose_config("train", ["method=deep3d", *overrides])
    assert check_config(config)["method"]["image_size"] == config.data.image_size


def their_state(seed=0):
    """A checkpoint's net_recon, of a ResNet-18, and the network that it stands for."""
    torch.manual_seed(seed)
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    layers = nn.ModuleList(nn.Conv2d(512, count, 1) for count in HEADS.values())
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    state |= {f"final_layers.{key}": value for key, value in layers.state_dict().items()}
    return state, network.eval(), layers


@pytest.mark.parametrize("nested", [True, False])
def test_their_checkpoints_are_read(tmp_path, nested):
    state, network, layers = their_state()
    prefixed = {f"net_recon.{key}": value for key, value in state.items()}
    content = {"net_recon": state, "opt_00": {"state": {}}} if nested else prefixed
    torch.save(content, tmp_path / "epoch_20.pth")
    own = Deep3DRegressor("resnet18", weights=str(tmp_path / "epoch_20.pth")).eval()
    image = torch.rand(2, 3, 64, 64)
    features = network(image)[..., None, None]
    vector = torch.cat([layer(features) for layer in layers], dim=1).flatten(1)
    assert vector.shape == (2, 257)
    found = own(image)
    assert_close(own.features(image), features[..., 0, 0])
    expected = {
        "identity": vector[:, :80],
        "expression": vector[:, 80:144],
        "albedo": vector[:, 144:224],
        "angles": vector[:, 224:227],
        "light": vector[:, 227:254].view(2, 3, 9),
        "translation": vector[:, 254:],
    }
    for name, value in expected.items():
        assert_close(found[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.conv1.weight"), "1 missing: backbone.conv1.weight"),
        (lambda s: s.update({"backbone.fc.bias": torch.ones(2)}), "1 unknown: backbone.fc.bias"),
        (
            lambda s: s.update({"final_layers.3.weight": torch.ones(4, 512, 1, 1)}),
            r"final_layers.3.weight \(4, 512, 1, 1\) instead of \(3, 512, 1, 1\)",
        ),
        (lambda s: s.update({"backbone.bn1.bias": 3}), "'backbone.bn1.bias' should be a tensor"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    state, *_ = their_state()
    change(state)
    torch.save({"net_recon": state}, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=message):
        load_deep3d_checkpoint(Deep3DRegressor("resnet18"), tmp_path / "file.pth")


def test_foreign_files_are_refused(tmp_path):
    network, file = Deep3DRegressor("resnet18"), tmp_path / "file.pth"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_deep3d_checkpoint(network, file)
    torch.save({"model": {}}, file)
    with pytest.raises(ValueError, match=r"no key 'net_recon'.*found model"):
        load_deep3d_checkpoint(network, file)
    torch.save({"net_recon": Embedder()}, file)  # an object, which reading would have to build
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        load_deep3d_checkpoint(network, file)
    file.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        load_deep3d_checkpoint(network, file)
    with pytest.raises(ValueError, match="'vgg16' is unknown"):
        Deep3DRegressor("vgg16")


def rich_head():
    """The built-in head with as many modes as Deep3D has."""
    model = head()
    names = ("identity_basis", "expression_basis", "albedo_basis")
    more = {name: getattr(model, name).repeat(1, 1, 3) for name in names}
    fields = {
        "mean", "faces", "uv", "landmark_index", "identity_std", "expression_std", "albedo_mean",
    }  # fmt: skip
    same = {name: getattr(model, name) for name in fields}
    return MorphableModel(ModelArrays(**same, **more, regions=model.regions), "rich")


def test_published_weights_become_a_folder(tmp_path):
    state, network, layers = their_state()
    torch.save({"net_recon": state}, tmp_path / "epoch_20.pth")
    model = rich_head()
    index = np.flatnonzero(model.regions["face"] > 0.5)
    savemat(tmp_path / "BFM_front_idx.mat", {"idx": index[None] + 1})
    origin = front_origin(model, tmp_path / "BFM_front_idx.mat")
    assert_close(torch.tensor(origin), model.mean[index].mean(0), atol=1e-4)
    folder = convert(tmp_path / "epoch_20.pth", tmp_path / "out", model, origin, "resnet18")
    predictor = load_predictor(folder)
    assert predictor.image_size == 224
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        found = predictor(image)
        features = network(image)[..., None, None]
        vector = torch.cat([layer(features) for layer in layers], dim=1).flatten(1)
    assert_close(found.coefficients["expression"], vector[:, 80:144])
    # Deep3D's own projection, in decimetres, of the vertices as they are.
    place = (found.vertices - torch.tensor(origin)) / 100 @ head_rotation(vector[:, 224:227]).mT
    place = place + vector[:, None, 254:]
    column = 1015 * place[..., 0] / (10 - place[..., 2]) + 112
    upward = 1015 * place[..., 1] / (10 - place[..., 2]) + 112
    assert_close(found.image_vertices[..., 0] + 0.5, column, atol=2e-3)
    assert_close(223 - (found.image_vertices[..., 1] - 0.5), upward, atol=2e-3)


def test_a_model_without_their_expressions_is_refused(tmp_path):
    torch.save({"net_recon": their_state()[0]}, tmp_path / "epoch_20.pth")
    with pytest.raises(ValueError, match=r"'expression': 29.*Exp_Pca.bin"):
        convert(tmp_path / "epoch_20.pth", tmp_path / "out", head(), [0.0, 0, 0], "resnet18")
    savemat(tmp_path / "idx.mat", {"idx": np.array([[1, 99999]])})
    with pytest.raises(ValueError, match="1 to 11979; found 2 of them from 1 to 99999"):
        front_origin(head(), tmp_path / "idx.mat")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        front_origin(head(), tmp_path / "none.mat")


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert main([str(tmp_path / "x.pth"), str(tmp_path / "out"), "--bfm", str(tmp_path)]) == 2
    assert "No 01_MorphableModel.mat" in capsys.readouterr().err


def save_run(path, network, **config):
    node = {"_target_": "lit_face.methods.deep3d.Deep3DRegressor", **network.options, **config}
    method = {"_target_": "lit_face.methods.deep3d.Deep3DModule", "network": node, "focal": 20.0}
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    content = {"format": 1, "config": {"method": method}}
    torch.save({"lit_face": content, "state_dict": {**state, "embedder.x": torch.ones(1)}}, path)


def test_weights_of_a_run(tmp_path):
    torch.manual_seed(3)
    trained = Deep3DRegressor("resnet18", identity=7)
    nn.init.normal_(trained.heads["light"].weight)
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    save_run(folder / "best.ckpt", trained)
    again = Deep3DRegressor("resnet18", identity=7, weights=str(tmp_path / "run"))
    image = torch.rand(2, 3, 64, 64)
    assert_close(again.eval()(image)["light"], trained.eval()(image)["light"])
    assert again.trained_with["focal"] == 20.0
    with pytest.raises(ValueError, match=r"best.ckpt was trained with identity=7"):
        Deep3DRegressor("resnet18", identity=8, weights=str(tmp_path / "run"))
    save_run(folder / "best.ckpt", trained, _target_="lit_face.methods.prn.PRNNetwork")
    with pytest.raises(ValueError, match="give a run of method=deep3d"):
        Deep3DRegressor("resnet18", identity=7, weights=str(tmp_path / "run"))
    with pytest.raises(FileNotFoundError, match="Train deep3d first"):
        Deep3DRegressor("resnet18", weights=str(tmp_path / "nothing"))
    with filled_by_checkpoint():
        Deep3DRegressor("resnet18", weights=str(tmp_path / "nothing"))
