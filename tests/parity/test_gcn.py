"""Layers, generators and critic on the reference's inputs and weights."""

import numpy as np
import pytest
import scipy.sparse
import torch

from lit_face.methods.gcn import ImageCritic, MeshGenerator
from lit_face.methods.gcn.layers import ChebyshevConv, ResidualBlock
from lit_face.methods.gcn.sparse import SparseMatrix, SymmetricMatrix
from lit_face.morphable_models.mesh_hierarchy import MeshHierarchy
from lit_face.morphable_models.mesh_hierarchy.adjacency import scaled_laplacian
from tests.helpers.tolerances import assert_close

ORDER = 6


@pytest.fixture(scope="module")
def folder(reference):
    return reference / "gcn"


def load(path):
    with np.load(path) as stored:
        return dict(stored)


def matrix_of(golden, name):
    parts = (golden[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return scipy.sparse.csr_array(tuple(parts), shape=tuple(golden[f"{name}_shape"]))


def by_order(weight):
    """Filter weights (C K, C_out), the order fastest, as (K,C,C_out); K is 1 in shortcuts."""
    return torch.from_numpy(weight).unflatten(0, (-1, ORDER)).transpose(0, 1)


def vertices_first(features):
    return torch.from_numpy(features).transpose(0, 1)


def set_block(block, golden, name):
    """Copy a residual block's weights."""
    with torch.no_grad():
        block.first[0].weight.copy_(by_order(golden[f"{name}/filter1/weights"]))
        block.first[1].bias.copy_(torch.from_numpy(golden[f"{name}/bias_relu1/bias"]).flatten())
        block.second.weight.copy_(by_order(golden[f"{name}/filter2/weights"]))
        if f"{name}/bias_relu2/bias" in golden:
            bias = torch.from_numpy(golden[f"{name}/bias_relu2/bias"]).flatten()
            block.activation.bias.copy_(bias)
        shortcut = golden.get(f"{name}/shortcut/weights")
        if shortcut is None:
            assert isinstance(block.shortcut, torch.nn.Identity)
        else:
            block.shortcut.weight.copy_(torch.from_numpy(shortcut)[None])


@pytest.mark.parametrize(
    "name", ["closed_k1", "closed_k3", "closed_k6", "open_k2", "open_k6", "open_big_k6"]
)
def test_chebyshev_convolution(folder, name):
    golden = load(folder / "cheb" / f"{name}.npz")
    laplacian = scaled_laplacian(matrix_of(golden, "A"))
    np.testing.assert_allclose(laplacian.toarray(), matrix_of(golden, "Lhat").toarray(), atol=1e-6)
    order, weight = int(golden["K"]), torch.from_numpy(golden["W"])
    weight = weight.unflatten(0, (-1, order)).transpose(0, 1)
    layer = ChebyshevConv(*weight.shape[1:], SymmetricMatrix(laplacian), order)
    layer.weight.data.copy_(weight)
    found = layer(vertices_first(golden["x"]))
    assert_close(found, vertices_first(golden["y"]), atol=5e-6, rtol=0)


@pytest.mark.parametrize("name", ["res_proj", "res_identity", "res_noact"])
def test_residual_block(folder, name):
    golden = load(folder / "cheb" / f"{name}.npz")
    channels = golden["x"].shape[-1], golden["y"].shape[-1]
    block = ResidualBlock(*channels, SymmetricMatrix(matrix_of(golden, "Lhat")))
    set_block(block, golden, "r")
    if not golden["relu"]:
        block.activation = torch.nn.Identity()
    found = block(vertices_first(golden["x"]))
    assert_close(found, vertices_first(golden["y"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["pool_closed", "pool_open"])
def test_down_and_up(folder, name):
    golden = load(folder / "cheb" / f"{name}.npz")
    down = SparseMatrix(matrix_of(golden, "D"))(vertices_first(golden["x"]))
    assert_close(down, vertices_first(golden["down"]), atol=1e-6, rtol=0)
    up = SparseMatrix(matrix_of(golden, "U"))(down)
    assert_close(up, vertices_first(golden["up"]), atol=1e-6, rtol=0)


def stored_hierarchy(path):
    """The reference's own levels, with its own weights upwards."""
    golden = load(path)
    vertices = [golden["vertices0"].astype(float)]
    for level in range(4):
        vertices.append(vertices[-1][golden[f"keep{level}"]])
    every = range(5)
    return MeshHierarchy(
        tuple(vertices),
        tuple(golden[f"faces{level}"].astype(np.int64) for level in every),
        tuple(golden[f"keep{level}"] for level in every[:-1]),
        tuple(golden[f"U{level}_cols"] for level in every[:-1]),
        tuple(golden[f"U{level}_weights"].astype(np.float32) for level in every[:-1]),
        np.arange(len(vertices[0])),
    )


def set_conv_block(block, golden, name):
    with torch.no_grad():
        block[0].weight.copy_(by_order(golden[f"{name}/weights"]))
        block[1].bias.copy_(torch.from_numpy(golden[f"{name}/bias"]).flatten())


def set_dense(layer, golden, name):
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(golden[f"{name}/weights"]).T)
        layer.bias.copy_(torch.from_numpy(golden[f"{name}/bias"]))


def set_generator(generator, golden, variant):
    """Copy all weights from the reference's names."""
    decoder, refiner = "mesh_generator/mesh_decoder", "mesh_generator/mesh_refiner"
    set_dense(generator.decoder.dense, golden, f"{decoder}/fc")
    generator.combine.weight.data.copy_(by_order(golden["mesh_generator/mesh_concat/weights"]))
    if variant == "resnet":
        for number, block in enumerate(generator.decoder.blocks, start=1):
            set_block(block, golden, f"{decoder}/resblock{number}")
        blocks = [layer for layer in generator.refiner.layers if isinstance(layer, ResidualBlock)]
        for number, block in enumerate(blocks, start=1):
            set_block(block, golden, f"{refiner}/resblock{number}")
        return
    for number, block in enumerate(generator.decoder.blocks, start=1):
        set_conv_block(block, golden, f"{decoder}/upconv{number}")
    set_conv_block(generator.decoder.last, golden, decoder)
    first = by_order(golden[f"{refiner}/graph_conv0/weights"])
    generator.refiner.first.weight.data.copy_(first)
    convolutions = [*generator.refiner.descent, *list(generator.refiner.ascent)[::-1]]
    for number, block in enumerate(convolutions, start=1):
        set_conv_block(block, golden, f"{refiner}/graph_conv{number}")
    set_dense(generator.refiner.dense[0], golden, f"{refiner}/fc")
    set_dense(generator.refiner.dense[2], golden, f"{refiner}/fc2")
    set_conv_block(generator.refiner.last, golden, refiner)


@pytest.mark.parametrize("name", ["resnet", "resnet_wide", "normal", "normal_wide"])
def test_generator(folder, name):
    golden = load(folder / "generator" / f"{name}.npz")
    variant = name.removesuffix("_wide")
    embedding = torch.from_numpy(golden["image_emb"])
    generator = MeshGenerator(
        stored_hierarchy(folder / "sampling" / f"{golden['mesh']}.npz"),
        embedding.shape[1],
        variant,
        is_wide=bool(golden["wide"]),
        bottleneck=int(golden["z_dim"]),
        residual=False,
    )
    set_generator(generator, golden, variant)
    theirs = sum(array.size for key, array in golden.items() if key.startswith("mesh_generator/"))
    assert sum(parameter.numel() for parameter in generator.parameters()) == theirs
    with torch.no_grad():
        found = generator(embedding, torch.from_numpy(golden["refine_input"]))
    assert_close(found.decoded, golden["out_decode_color"], atol=1e-4, rtol=0)
    assert_close(found.refined, golden["out_refine_color"], atol=1e-4, rtol=0)
    assert_close(found.colours, golden["out_out"], atol=2e-5, rtol=0)
    squares = sum(parameter.square().sum() / 2 for parameter in generator.dense_parameters())
    assert_close(squares.detach(), golden["out_l2_sum"], rtol=1e-5)


def reference_critic(golden):
    critic = ImageCritic(224, "batch")
    random = np.random.RandomState(int(golden["seed"]) + 1000)
    layers = {f"conv{stage}_1": layer for stage, layer in enumerate(critic.convolutions, start=1)}
    layers["outputs"] = critic.score
    with torch.no_grad():
        for line in golden["order"].tolist():
            name, shape = line.split(" ", 1)
            shape = [int(side) for side in shape.strip("[]").split(",")]
            values = random.standard_normal(shape)
            weights = name.endswith("weights")
            values = values * (np.sqrt(2 / np.prod(shape[:-1])) if weights else 0.1)
            values = torch.from_numpy(values.astype(np.float32))
            _, layer, *rest = name.split("/")
            if weights:
                layers[layer].weight.copy_(values.permute(3, 2, 0, 1))
            elif rest == ["bias"]:
                layers[layer].bias.copy_(values)
            else:
                critic.norms[int(layer[4]) - 1].offset.copy_(values)
    return critic


@pytest.mark.parametrize("number", [0, 1])
def test_critic(folder, number):
    golden = load(folder / "losses" / f"disc_{number}.npz")
    critic = reference_critic(golden)
    random = np.random.RandomState(int(golden["seed"]))
    shape = (int(golden["batch"]), 224, 224, 3)
    real, fake = (
        torch.from_numpy(random.uniform(-1, 1, shape).astype(np.float32)).permute(0, 3, 1, 2)
        for _ in range(2)
    )
    mixing = float(random.uniform())
    assert mixing == pytest.approx(float(golden["epsilon"]), abs=1e-6)
    critic.eval()
    mixed = (mixing * real + (1 - mixing) * fake).requires_grad_()
    slope = torch.autograd.grad(critic(mixed).sum(), mixed)[0].flatten(1).norm(dim=1)
    with torch.no_grad():
        of_real, of_fake = critic(real), critic(fake)
        penalty = float(golden["gp_scale"]) * (slope - 1).square().mean()
        scale = float(golden["adv_lambda"])
        assert_close(of_real, golden["score_real_movingstats"], atol=1e-4, rtol=0)
        loss = scale * (of_fake.mean() - of_real.mean() + penalty)
        assert_close(loss, golden["d_loss_eval"], atol=1e-4, rtol=0)
        assert_close(-scale * of_fake.mean(), golden["g_loss_eval"], atol=1e-6, rtol=0)
        critic.train()
        assert_close(critic(real), golden["score_real_batchstats"], atol=1e-4, rtol=0)
