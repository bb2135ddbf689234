import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy.special import eval_chebyt
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lit_face.methods.gcn import ImageCritic, MeshGenerator
from lit_face.methods.gcn.chebyshev import chebyshev_sum
from lit_face.methods.gcn.layers import ChebyshevConv, ResidualBlock
from lit_face.methods.gcn.sparse import SparseMatrix, SymmetricMatrix
from lit_face.morphable_models.mesh_hierarchy import build_hierarchy
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def hierarchy():
    vertices, faces = sheet()
    return build_hierarchy(vertices, faces, (3, 3, 3))


def sheet(side=12):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].astype(float)
    points = np.stack([x, y, 0.1 * x * y], axis=-1) + 0.2 * rng.random((side, side, 3))
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3)
    return points.reshape(-1, 3), faces


def generator_of(hierarchy, **options):
    torch.manual_seed(0)
    return MeshGenerator(hierarchy, 5, residual=False, **options)


def inputs(hierarchy, batch=2, seed=1):
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, hierarchy.sizes[0], 7, generator=random)
    return torch.randn(batch, 5, generator=random), features


@pytest.mark.parametrize(("channels", "out_channels"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_convolution_equals_the_spectral_definition(hierarchy, channels, out_channels, order):
    laplacian = SymmetricMatrix(hierarchy.laplacian(1))
    layer = ChebyshevConv(channels, out_channels, laplacian, order).double()
    random = torch.Generator().manual_seed(order)
    features = torch.randn(hierarchy.sizes[1], 2, channels, generator=random, dtype=torch.double)
    values, vectors = np.linalg.eigh(hierarchy.laplacian(1).toarray().astype(float))
    expected = 0
    for degree in range(order):
        polynomial = torch.from_numpy((vectors * eval_chebyt(degree, values)) @ vectors.T)
        spread = torch.einsum("vw,wbc->vbc", polynomial, features)
        expected = expected + spread @ layer.weight[degree]
    assert_close(layer(features), expected, atol=1e-6)  # the matrix itself is in float32


@pytest.mark.parametrize(("channels", "out_channels"), [(2, 3), (3, 2)])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_gradients_of_the_convolution(hierarchy, channels, out_channels, order):
    laplacian = SymmetricMatrix(hierarchy.laplacian(3)).double()
    random = torch.Generator().manual_seed(0)
    features = torch.randn(
        hierarchy.sizes[3], 2, channels, generator=random, dtype=torch.double, requires_grad=True
    )
    weight = torch.randn(
        order, channels, out_channels, generator=random, dtype=torch.double, requires_grad=True
    )

    def run(features, weight):
        return chebyshev_sum(features, weight, laplacian)

    assert torch.autograd.gradcheck(run, (features, weight))
    assert torch.autograd.gradgradcheck(run, (features, weight))


def test_gradients_of_going_down_and_up(hierarchy):
    for matrix in (hierarchy.down(2), hierarchy.up(2)):
        product = SparseMatrix(matrix).double()
        features = torch.randn(matrix.shape[1], 2, 2, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(product, (features,))
        assert torch.autograd.gradgradcheck(product, (features,))
        dense = torch.from_numpy(matrix.toarray()).double()
        assert_close(product(features), torch.einsum("mn,nbc->mbc", dense, features))


@pytest.mark.parametrize("order", [2, 3, 6])
def test_the_input_is_left_as_it_was(hierarchy, order):
    for out_channels in (2, 8):
        layer = ChebyshevConv(4, out_channels, SymmetricMatrix(hierarchy.laplacian(0)), order)
        features = torch.randn(hierarchy.sizes[0], 2, 4)
        before = features.clone()
        first = layer(features)
        layer(features).sum().backward()
        assert torch.equal(features, before)
        assert torch.equal(layer(features), first)


def test_first_weights_are_he_normal_without_tails(hierarchy):
    torch.manual_seed(0)
    layer = ChebyshevConv(64, 128, SymmetricMatrix(hierarchy.laplacian(0)))
    spread = (2 / (64 * 6)) ** 0.5
    assert layer.weight.std().item() == pytest.approx(spread, rel=0.02)
    assert layer.weight.abs().max() <= 2 * spread / 0.8796


def test_residual_colours_start_from_the_coarse_ones(hierarchy):
    embedding, features = inputs(hierarchy)
    coarse = features[..., :3].clamp(-0.9, 0.9)
    features = torch.cat([coarse, features[..., 3:]], dim=-1)
    found = MeshGenerator(hierarchy, 5)(embedding, features).colours
    assert_close(found, coarse, atol=1e-6)


@pytest.mark.parametrize("variant", ["resnet", "normal"])
@pytest.mark.parametrize("is_wide", [False, True])
def test_every_weight_and_input_matters(hierarchy, variant, is_wide):
    generator = generator_of(hierarchy, variant=variant, is_wide=is_wide, bottleneck=6)
    embedding, features = (value.requires_grad_() for value in inputs(hierarchy))
    found = generator(embedding, features)
    assert found.colours.shape == (2, hierarchy.sizes[0], 3)
    assert found.colours.abs().max() <= 1
    (found.colours * torch.randn(found.colours.shape)).sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert embedding.grad.abs().min() > 0
    assert features.grad.abs().amax((0, 1)).min() > 0


@pytest.mark.parametrize(
    ("sizes", "variant", "millions"),
    [
        ((35709, 8928, 2232, 558, 140), "normal", 35.88),
        ((35709, 8928, 2232, 558, 140), "resnet", 17.25),
        ((26719, 6680, 1670, 418, 105), "normal", 26.98),
        ((26719, 6680, 1670, 418, 105), "resnet", 12.95),
        ((9409, 2353, 589, 148, 37), "normal", 9.70),
        ((9409, 2353, 589, 148, 37), "resnet", 4.59),
    ],
)
def test_parameter_counts_of_the_reference(sizes, variant, millions):
    tiny = build_hierarchy(*sheet(), (2,) * 4)
    generator = MeshGenerator(tiny, 3840, variant)
    count = sum(parameter.numel() for parameter in generator.parameters())
    missing = sizes[-1] - tiny.sizes[-1]  # only layers over whole vectors know the mesh
    count += missing * 32 * 3841
    if variant == "normal":
        count += missing * 128 * (512 + 513)
    assert count / 1e6 == pytest.approx(millions, abs=0.006)


def test_weights_are_the_only_state_and_load_into_a_copy(hierarchy):
    generator = generator_of(hierarchy, variant="normal", bottleneck=6)
    state = generator.state_dict()
    assert set(state) == {name for name, _ in generator.named_parameters()}
    other = generator_of(hierarchy, variant="normal", bottleneck=6)
    other.load_state_dict(state)
    copied = copy.deepcopy(generator)
    with torch.no_grad():
        expected = generator(*inputs(hierarchy)).colours
        assert torch.equal(other(*inputs(hierarchy)).colours, expected)
        assert torch.equal(copied(*inputs(hierarchy)).colours, expected)
        doubled = copied.double()(*(value.double() for value in inputs(hierarchy))).colours
    assert doubled.dtype == torch.float64
    assert_close(doubled, expected, atol=1e-5)


def test_autocast_changes_little_and_products_stay_in_float32(hierarchy):
    generator = generator_of(hierarchy)
    expected = generator(*inputs(hierarchy)).colours
    with torch.autocast("cpu", torch.bfloat16):
        found = generator(*inputs(hierarchy)).colours
        layer = generator.refiner.layers[0]
        features = torch.randn(hierarchy.sizes[0], 2, 7)
        inner = layer.second(layer.first(features.bfloat16()))
        assert inner.dtype == torch.float32
        assert torch.equal(layer(features), _without_autocast(layer, features))
        found.sum().backward()  # inside the context, as some trainers do
    assert_close(found, expected, atol=2e-2, rtol=0)
    assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())


def _without_autocast(layer, features):
    with torch.autocast("cpu", enabled=False):
        return layer(features)


def test_a_moving_average_of_the_generator_runs(hierarchy):
    generator = generator_of(hierarchy)
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(generator)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(2.0)
    average.update_parameters(generator)
    for one, two in zip(average.module.parameters(), generator.parameters(), strict=True):
        assert_close(one.detach(), two.detach() - 1, atol=1e-5)
    assert average(*inputs(hierarchy)).colours.isfinite().all()


def one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    vertices, faces = sheet()
    hierarchy = build_hierarchy(vertices, faces, (3, 3, 3))
    generator = torch.nn.parallel.DistributedDataParallel(generator_of(hierarchy))
    embedding, features = (value.chunk(2)[rank] for value in inputs(hierarchy, 4))
    generator(embedding, features).colours.square().mean().backward()
    gradients = {name: value.grad for name, value in generator.module.named_parameters()}
    torch.save(gradients, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_equal_one_with_the_whole_batch(hierarchy, tmp_path):
    torch.multiprocessing.start_processes(  # fork: nothing is imported again
        one_rank, (str(tmp_path),), nprocs=2, start_method="fork"
    )
    generator = generator_of(hierarchy)
    generator(*inputs(hierarchy, 4)).colours.square().mean().backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        for name, parameter in generator.named_parameters():
            assert_close(found[name], parameter.grad, rtol=1e-4)


def test_vertices_at_one_place_have_one_colour(hierarchy):
    twin = np.arange(hierarchy.sizes[0])
    twin[7] = 3
    generator = generator_of(replace(hierarchy, twin=twin))
    found = generator(*inputs(hierarchy)).colours
    assert torch.equal(found[:, 7], found[:, 3])


def test_samples_do_not_mix(hierarchy):
    generator = generator_of(hierarchy, variant="normal", bottleneck=6)
    embedding, features = inputs(hierarchy, 3)
    together = generator(embedding, features).colours
    alone = generator(embedding[1:2], features[1:2]).colours
    assert_close(together[1:2], alone)


def test_a_residual_block_of_zero_weights_is_its_shortcut(hierarchy):
    block = ResidualBlock(4, 4, SymmetricMatrix(hierarchy.laplacian(0)))
    torch.nn.init.zeros_(block.second.weight)
    features = torch.rand(hierarchy.sizes[0], 1, 4)
    assert_close(block(features), features)  # ELU of what is positive


@pytest.mark.parametrize(
    ("options", "message"), [({"variant": "unet"}, "'resnet' or 'normal', found 'unet'")]
)
def test_what_makes_no_generator_is_named(hierarchy, options, message):
    with pytest.raises(ValueError, match=message):
        generator_of(hierarchy, **options)


def test_features_of_another_mesh_are_refused(hierarchy):
    embedding, features = inputs(hierarchy)
    with pytest.raises(ValueError, match=r"expects features \(2, 144, 7\).*found \(2, 143, 7\)"):
        generator_of(hierarchy)(embedding, features[:, 1:])


@pytest.mark.parametrize(("norm", "mixes"), [("layer", False), ("none", False), ("batch", True)])
def test_only_batch_norm_mixes_pictures(norm, mixes):
    torch.manual_seed(0)
    critic = ImageCritic(64, norm)
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    together, alone = critic(pictures)[:2], critic(pictures[:2])
    assert together.shape == (2, 1)
    assert torch.allclose(together, alone, atol=1e-5) is not mixes


@pytest.mark.parametrize(
    ("options", "message"),
    [({"image_size": 100}, "multiple of 32, found 100"), ({"norm": "group"}, "layer, none, batch")],
)
def test_what_makes_no_critic_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ImageCritic(**options)
