import numpy as np
import pytest
import torch

from lit_face.methods.prn import PRNModule, PRNNetwork, WeightMask, position_map_loss
from lit_face.methods.prn.network import size_problems
from lit_face.methods.prn.weights import prnet_loss_weight
from lit_face.metrics.nme import nme
from lit_face.morphable_models.position_maps import PositionMaps
from tests.helpers.faces import faces, head
from tests.helpers.tolerances import assert_close


def small_module(seed=0, uv_size=32, **options):
    torch.manual_seed(seed)
    network = PRNNetwork(width=8, depth=3, input_size=64, uv_size=uv_size, norm_momentum=0.1)
    optimizer = lambda parameters: torch.optim.Adam(parameters, lr=5e-3)  # noqa: E731
    return PRNModule(network, head(), optimizer, **options)


@pytest.fixture(scope="module")
def batch():
    return faces(4, size=64, seed=1)


def test_mask_of_the_paper_from_the_released_pictures(reference):
    data = np.load(reference / "prn" / "uv_data.npz")
    ours = prnet_loss_weight(data["uv_weight_mask"], data["uv_face_mask"])
    np.testing.assert_array_equal(ours, data["loss_weight"])
    assert (ours > 0).sum() == 43867
    assert (ours == 16).sum() == 68


def test_weights_from_regions():
    maps = PositionMaps(head(), 64)
    weights = WeightMask()(head(), maps)
    values, counts = weights.unique(return_counts=True)
    assert values.tolist() == [0, 3, 4, 16]
    assert counts[3] <= 68
    assert (weights[~maps.mask] == 0).all()
    assert (weights[maps.mask] > 0).all()


@pytest.mark.parametrize("kind", ["mse", "l1", "l2norm"])
def test_losses_against_a_slow_twin(kind):
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.rand(2, 2, 3, 4, 4, generator=generator)
    weight = torch.randint(0, 3, (4, 4), generator=generator).float()
    values = []
    for sample in range(2):
        for row in range(4):
            for column in range(4):
                d = predicted[sample, :, row, column] - target[sample, :, row, column]
                each = {"mse": d**2, "l1": d.abs(), "l2norm": d.norm()[None]}[kind]
                values.append(weight[row, column] * each)
    expected = torch.cat(values)
    assert_close(position_map_loss(predicted, target, weight, kind), expected.mean())
    covered = (weight > 0).float().mean()
    nonzero = position_map_loss(predicted, target, weight, kind, reduction="nonzero")
    assert_close(nonzero, expected.mean() / covered)


@pytest.mark.parametrize(
    ("depth", "input_size", "uv_size", "width"), [(5, 128, 64, 4), (4, 64, 128, 6), (3, 64, 32, 8)]
)
def test_network_sizes(depth, input_size, uv_size, width):
    network = PRNNetwork(width, depth, input_size, uv_size).eval()
    output = network(torch.rand(1, 3, input_size, input_size))
    assert output.shape == (1, 3, uv_size, uv_size)
    assert output.min() > 0
    assert output.max() < 1


def test_backbone_from_torchvision():
    network = PRNNetwork(8, 5, 64, 32, backbone="resnet18").eval()
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3, 32, 32)
    with pytest.raises(ValueError, match="resnet18"):
        PRNNetwork(8, 5, 64, 32, backbone="resnext")


def test_sizes_that_do_not_fit_are_named():
    assert "multiple of 32" in size_problems(5, 100, 64)[0]
    assert "power of two" in size_problems(5, 128, 100)[0]
    with pytest.raises(ValueError, match="uv_size"):
        PRNNetwork(uv_size=100)


def test_reading_a_true_map_gives_the_true_face(batch):
    """Round trip: coefficients to map to Reconstruction, beside the model itself."""
    module = small_module(uv_size=128)
    maps = module.position_maps(batch.coefficients, batch.camera)
    result = module.reconstruct(maps)
    assert nme(result.landmarks, batch.landmarks).max() < 0.01
    projected = result.camera.project(result.vertices)
    assert_close(projected, result.image_vertices, atol=1e-2, rtol=0)
    normals = torch.linalg.cross(
        *(
            result.vertices[:, result.faces[:, i]] - result.vertices[:, result.faces[:, 0]]
            for i in (1, 2)
        ),
        dim=-1,
    )
    assert normals[..., 2].mean() > 0  # counter-clockwise seen from outside


def test_the_mean_face_gives_the_camera_back(batch):
    """Of the mean face, the similarity to it is the camera, but for depth's origin."""
    module = small_module(uv_size=64)
    nothing = {name: torch.zeros_like(value) for name, value in batch.coefficients.items()}
    result = module.reconstruct(module.position_maps(nothing, batch.camera))
    assert_close(
        result.camera.matrix[:, :, :3], batch.camera.matrix[:, :, :3], atol=1e-4, rtol=1e-4
    )
    assert_close(result.camera.matrix[:, :2, 3], batch.camera.matrix[:, :2, 3], atol=1e-2, rtol=0)
    mean_face = module.position_maps.mean_face.expand_as(result.vertices)
    assert_close(result.vertices, mean_face, atol=1e-2, rtol=0)


def test_geometry_stays_float32_under_bf16(batch):
    module = small_module().eval()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module._loss(batch)[0]
        result = module.predict_step(batch)
    assert loss.dtype == result.landmarks.dtype == torch.float32
    with torch.no_grad():
        plain = module.reconstruct(module.network(batch.image) * module._scale)
    worst = (result.landmarks - plain.landmarks).abs().max()
    assert worst < 1.0  # the network's own bf16 error, 8 bits of 70 pixels


def test_mirrored_faces_have_mirrored_targets(batch):
    """The loss of a mirrored batch under mirrored predictions is the loss itself."""
    module = small_module()
    flip = torch.eye(3).repeat(4, 1, 1)
    flip[:, 0, 0], flip[:, 0, 2] = -1, 63
    target = module.position_maps(batch.coefficients, batch.camera)
    mirrored = module.position_maps(batch.coefficients, batch.camera.warped(flip))
    masks = module.position_maps.masks(batch.camera)
    assert_close(mirrored.flip(-1)[:, 1:], target[:, 1:], atol=1e-3, rtol=0)
    assert_close((63 - mirrored.flip(-1)[:, 0])[masks], target[:, 0][masks], atol=1e-3, rtol=0)


@pytest.mark.learn
def test_four_faces_are_learnt_by_heart(batch):
    module = small_module().train()
    module.log = lambda *args, **kwargs: None
    optimizer = torch.optim.Adam(module.network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 120)
    for _ in range(120):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = 100 * nme(module.predict_step(batch).landmarks, batch.landmarks)
        constant = batch.landmarks.mean(dim=0).expand_as(batch.landmarks)
        baseline = 100 * nme(constant, batch.landmarks)  # the best single answer for all four
    assert error.mean() < 0.33 * baseline.mean(), (error, baseline)
