import io
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from lit_face.config import instantiate
from lit_face.config.composition import compose_config
from lit_face.identity import (
    ArcFaceResNet,
    FaceNet,
    SmallEmbedder,
    feature_size,
    load_weights,
    shipped_weights,
    weights_digest,
)
from lit_face.identity import download as downloads
from lit_face.inference.portable import load_portable, save_portable
from lit_face.io.start_weights import filled_by_checkpoint

# Of the published networks: iresnet of insightface; InceptionResnetV1 of facenet-pytorch, whose
# 27 910 327 weights include a classifier of 8631 people.
ARCFACE_SIZES = {18: 24_025_600, 34: 34_139_328, 50: 43_590_848, 100: 65_156_160}
FACENET_SIZE = 27_910_327 - 8631 * 513


def size_of(network):
    return sum(value.numel() for value in network.parameters())


def facenet():
    with filled_by_checkpoint():
        return FaceNet().eval()


def test_the_small_network_is_small_and_its_faces_do_not_see_each_other():
    torch.manual_seed(0)
    network = SmallEmbedder(16)
    assert size_of(network) <= 240_000
    faces = torch.rand(3, 3, 112, 112) * 2 - 1
    together = network.train()(faces)
    alone = torch.cat([network.eval()(face[None]) for face in faces])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("depth", [18, 50])
def test_arcface_has_the_published_size_and_names(depth):
    network = ArcFaceResNet(depth).eval()
    assert size_of(network) == ARCFACE_SIZES[depth]
    state = network.state_dict()
    for name, shape in {
        "conv1.weight": (64, 3, 3, 3),
        "prelu.weight": (64,),
        "layer1.0.bn1.running_mean": (64,),
        "layer1.0.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer2.0.downsample.1.weight": (128,),
        "layer2.1.prelu.weight": (128,),
        "layer4.1.bn3.bias": (512,),
        "bn2.weight": (512,),
        "fc.weight": (512, 25088),
        "fc.bias": (512,),
        "features.running_var": (512,),
    }.items():
        assert tuple(state[name].shape) == shape, name
    assert network(torch.zeros(1, 3, 112, 112)).shape == (1, 512)


def test_facenet_has_the_published_size_and_names():
    network = facenet()
    assert size_of(network) == FACENET_SIZE
    state = network.state_dict()
    for name, shape in {
        "conv2d_1a.conv.weight": (32, 3, 3, 3),
        "conv2d_4b.bn.running_var": (256,),
        "repeat_1.4.branch2.2.conv.weight": (32, 32, 3, 3),
        "repeat_1.0.conv2d.bias": (256,),
        "mixed_6a.branch1.2.conv.weight": (256, 192, 3, 3),
        "repeat_2.9.branch1.1.conv.weight": (128, 128, 1, 7),
        "mixed_7a.branch2.2.conv.weight": (256, 256, 3, 3),
        "mixed_7a.branch0.1.conv.weight": (384, 256, 3, 3),
        "repeat_3.4.branch1.2.conv.weight": (192, 192, 3, 1),
        "block8.conv2d.weight": (1792, 384, 1, 1),
        "last_linear.weight": (512, 1792),
        "last_bn.weight": (512,),
    }.items():
        assert tuple(state[name].shape) == shape, name
    face = torch.zeros(1, 3, 112, 112)
    assert network(face).shape == (1, 512)
    network.bottleneck = False
    assert network(face).shape == (1, 1792)


def test_facenet_sees_grey_levels_as_its_weights_were_trained():
    network, seen = facenet(), []
    network.conv2d_1a.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.full((1, 3, 112, 112), 1.0))
    assert seen[0].shape == (1, 3, 160, 160)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], (255 - 127.5) / 128))


def test_a_published_file_loads_with_its_classifier_left_out(tmp_path):
    network = facenet()
    state = {name: torch.rand_like(value.float()) for name, value in network.state_dict().items()}
    state |= {"logits.weight": torch.zeros(8, 512), "logits.bias": torch.zeros(8)}
    torch.save(state, tmp_path / "vggface2.pt")
    loaded = FaceNet(weights=str(tmp_path / "vggface2.pt"))
    torch.testing.assert_close(loaded.last_linear.weight, state["last_linear.weight"])
    torch.testing.assert_close(loaded.last_bn.running_var, state["last_bn.running_var"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_do_not_fit_are_refused_with_their_names(tmp_path, suffix):
    network = SmallEmbedder(8)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    del state["head.bias"]
    state |= {"tail.bias": torch.zeros(2), "stem.bias": torch.zeros(3)}
    file = tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    with pytest.raises(ValueError, match=r"missing: head\.bias") as error:
        SmallEmbedder(8, weights=str(file))
    assert "1 unknown: tail.bias" in str(error.value)
    assert "stem.bias (3,) instead of (8,)" in str(error.value)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="cannot be read as plain tensors"):
        SmallEmbedder(8, weights=str(file))


def test_a_missing_file_is_named_unless_a_checkpoint_brings_the_weights(tmp_path):
    gone = str(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        ArcFaceResNet(18, weights=gone)
    with filled_by_checkpoint():
        SmallEmbedder(8, weights=gone)


def test_objects_in_a_file_are_not_built(tmp_path):
    torch.save({"stem.bias": io.StringIO}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="more than that"):
        load_weights(SmallEmbedder(8), tmp_path / "odd.pth", "embedder.weights")


def test_facenet_without_weights_names_both_ways():
    with pytest.raises(ValueError, match=r"embedder\.weights=FILE") as error:
        FaceNet()
    assert "embedder.download=true" in str(error.value)


class _Response(io.BytesIO):
    def __init__(self, content, length=None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def test_the_download_is_cached_and_cut_files_are_refused(tmp_path, monkeypatch):
    asked = []

    def cut(url, timeout):
        asked.append(url)
        return _Response(b"abc", 10)

    monkeypatch.setattr(downloads.urllib.request, "urlopen", cut)
    with pytest.raises(RuntimeError, match="3 of 10 bytes came"):
        downloads.facenet_file(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    whole = lambda url, timeout: _Response(b"weights")  # noqa: E731
    monkeypatch.setattr(downloads.urllib.request, "urlopen", whole)
    file = downloads.facenet_file(tmp_path)
    assert file.read_bytes() == b"weights"
    monkeypatch.setattr(downloads.urllib.request, "urlopen", cut)
    assert downloads.facenet_file(tmp_path) == file
    assert asked == [downloads.FACENET_URL]
    assert asked[0].startswith("https://")


def test_without_a_connection_the_message_says_what_to_do(tmp_path, monkeypatch):
    def fails(url, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", fails)
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"give embedder\.weights=FILE"):
        FaceNet(download=True)


def test_a_digest_tells_weights_apart_and_not_their_storage(tmp_path):
    torch.manual_seed(0)
    first, second = SmallEmbedder(8), SmallEmbedder(8)
    assert weights_digest(first) != weights_digest(second)
    half = {name: value.half() for name, value in first.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    stored = SmallEmbedder(8, weights=str(tmp_path / "half.safetensors"))
    again = SmallEmbedder(8, weights=str(tmp_path / "half.safetensors"))
    assert weights_digest(stored) == weights_digest(again.double())


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_what_comes_with_lit_face_loads_by_its_config(name):
    config = compose_config("train", [f"+embedder@method.embedder={name}", "method=deep3d"])
    network = instantiate(config.method.embedder)
    assert shipped_weights()[name].stat().st_size < 500_000
    assert network(torch.zeros(1, 3, 112, 112)).isfinite().all()


@pytest.mark.parametrize(
    "make", [lambda: SmallEmbedder(8, 2, 24), lambda: ArcFaceResNet(18), facenet]
)
def test_a_portable_folder_needs_no_file_of_weights(tmp_path, make):
    network = make().train()
    size = feature_size(network)
    assert network.training
    stored = load_portable(save_portable(network, tmp_path / "network"))
    assert weights_digest(stored) == weights_digest(network)
    assert feature_size(stored) == size
