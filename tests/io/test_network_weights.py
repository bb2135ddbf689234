import pytest
import torch

from lit_face.io.network_weights import load_network
from lit_face.io.start_weights import filled_by_checkpoint
from lit_face.methods.uv_implicit import ImplicitNetwork, ImplicitSurface
from lit_face.methods.uv_regularize import UNetRegularizer

SMALL = {"width": 8, "channels": 16, "hidden": (16,), "groups": 8}


def network(seed):
    torch.manual_seed(seed)
    return ImplicitNetwork(**SMALL)


def surface(**options):
    return ImplicitSurface(network(0), planes=21, **options)


def assert_same(first, second):
    for (name, value), other in zip(
        first.state_dict().items(), second.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


@pytest.fixture
def released(tmp_path):
    """A checkpoint as the released training writes it."""
    path = tmp_path / "checkpoint_if.pkl"
    content = {
        "model_state_dict": network(5).state_dict(),
        "optimizer_state_dic": {},
        "loss_list": [0.5],
        "epoch": 3,
        "global_step": 40,
    }
    torch.save(content, path)
    return path


def test_released_checkpoints_of_both_networks(released, tmp_path):
    assert_same(surface(weights=released).network, network(5))
    torch.manual_seed(3)
    other = UNetRegularizer(1)
    torch.save({"model_state_dict": other.state_dict()}, tmp_path / "checkpoint_reg.pkl")
    assert_same(UNetRegularizer(1, weights=tmp_path / "checkpoint_reg.pkl"), other)


def test_a_checkpoint_of_torch_1_4_and_a_bare_state_dict(tmp_path):
    path = tmp_path / "old.pkl"
    torch.save(network(5).state_dict(), path, _use_new_zipfile_serialization=False)
    assert_same(surface(weights=path).network, network(5))


def test_a_run_of_lit_face(tmp_path):
    path = tmp_path / "best.ckpt"
    state = {f"implicit.network.{k}": v for k, v in network(5).state_dict().items()}
    facts = {"config": {"method": {"_target_": "a.b.C"}}, "format": 1}
    torch.save({"state_dict": state, "lit_face": facts}, path)
    assert_same(surface(weights=path).network, network(5))
    with pytest.raises(ValueError, match=r"best\.ckpt is of a\.b\.C, which has no such network"):
        load_network(network(0), path, "method.x", "other.")


def test_what_does_not_fit_is_named(released, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"method\.implicit\.weights: .*nowhere"):
        surface(weights=tmp_path / "nowhere.pkl")
    wide = ImplicitNetwork(**{**SMALL, "channels": 24})
    with pytest.raises(ValueError, match=r"image_filter\.feature\.bias is \(16,\) in the file"):
        load_network(wide, released, "method.implicit.weights", "")
    deep = ImplicitNetwork(**{**SMALL, "hidden": (16, 16)})
    with pytest.raises(ValueError, match=r"missing surface_classifier\.conv2\.bias"):
        load_network(deep, released, "method.implicit.weights", "")
    released.write_bytes(released.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        surface(weights=released)
    torch.save([1, 2], released)
    with pytest.raises(ValueError, match="should hold a state dict"):
        surface(weights=released)


class Unwanted:
    """What a malicious file would run."""

    def __reduce__(self):
        return (open, ("/nowhere/at/all", "w"))


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"model_state_dict": Unwanted()}, tmp_path / "bad.pkl")
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        surface(weights=tmp_path / "bad.pkl")


def test_weights_are_not_needed_where_a_checkpoint_fills_the_network(tmp_path):
    with filled_by_checkpoint():
        surface(weights=tmp_path / "gone.pkl")
