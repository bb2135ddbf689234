"""What is handed to users is the method itself, without the morphable model."""

import torch

from lit_face.config.instantiate import instantiate
from lit_face.methods.prn import PRNNetwork
from lit_face.types import FaceBatch
from tests.helpers.faces import head
from tests.helpers.tolerances import assert_close
from tests.methods.test_prn import small_module


def pictures(count=2, size=64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def compare(found, expected):
    for name in ("image_vertices", "vertices", "faces", "uv", "landmarks"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.unit == expected.unit
    assert torch.equal(found.camera.matrix, expected.camera.matrix)


@torch.no_grad()
def test_predictor_is_the_method_and_needs_no_morphable_model():
    module = small_module().eval()
    expected = module.predict_step(FaceBatch(image=pictures()))
    predictor = module.predictor()
    compare(predictor(pictures()), expected)
    empty = instantiate(predictor.config)
    empty.load_state_dict(predictor.state_dict())
    assert (empty.image_size, empty.margin) == (64, 1.6)
    compare(empty.eval()(pictures()), expected)


def test_checkpoints_hold_the_network_alone():
    keys = small_module().state_dict()
    assert all(key.startswith("network.") for key in keys)


def test_regions_are_maps_of_parts_of_the_face():
    module = small_module(uv_size=64)
    regions = module.predictor().regions
    assert set(regions) == {"eyes", "nose", "mouth", "face"} & set(head().regions)
    mask = module.position_maps.mask
    assert torch.equal(regions["face"] >= 0.5, mask)
    for name in ("eyes", "nose", "mouth"):
        inside = regions[name] >= 0.5
        assert 0 < inside.sum() < 0.3 * mask.sum()
        assert (inside & ~mask).sum() == 0
    rows = {name: (regions[name] >= 0.5).nonzero()[:, 0].float().mean() for name in regions}
    assert rows["eyes"] < rows["nose"] < rows["mouth"]  # row 0 is the forehead


def test_fused_for_speed_gives_the_same_faces():
    torch.manual_seed(0)
    network = PRNNetwork(width=8, depth=3, input_size=64, uv_size=32)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(layer.weight, 1, 0.2)
            torch.nn.init.normal_(layer.bias)
    fused = network.fused()
    names = {type(layer).__name__ for layer in fused.decoder.modules()}
    assert "BatchNorm2d" not in names
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        assert_close(fused(image), network.eval()(image), atol=2e-5)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
