import numpy as np
import pytest
import torch

from lit_face.morphable_models import texture_space_files
from lit_face.morphable_models.texture_space import (
    LinearLightSpace,
    TextureSpace,
    corner_aligned,
    plain_texture_space,
    sample_texture,
)
from lit_face.morphable_models.texture_space_files import (
    read_texture_space,
    resize_weights,
    save_texture_space,
    write_texture_space,
)
from tests.helpers.tolerances import assert_close


@pytest.fixture
def layout():
    """A square of two faces."""
    return np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), np.array([[0, 1, 2], [0, 2, 3]])


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (12, 12, 3)), rng.normal(size=(12, 12, 3, 5))


def decoded(mean, basis, code):
    """RGB 0..1 (S,S,3) of a FLAME texture space, the plain way."""
    return ((mean + basis @ code) / 255)[..., ::-1]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_written_space_is_read_back(tmp_path, arrays, layout, order):
    mean, basis = (np.asarray(a, order=order) for a in arrays)
    path = write_texture_space(tmp_path / "space.npz", mean, basis, *layout, {"meta": {"seed": 1}})
    space = read_texture_space(path, 12)
    code = np.random.default_rng(1).normal(size=5)
    found = space(torch.from_numpy(code)[None])[0].permute(1, 2, 0)
    assert_close(found, torch.from_numpy(decoded(mean, basis, code).copy()).float())
    assert space.coverage.all()
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == {"mean", "tex_dir", "vt", "ft", "meta"}
        assert str(stored["meta"]) == '{"seed": 1}'


def test_saving_a_space_is_the_inverse_of_reading(tmp_path, arrays, layout):
    space = read_texture_space(write_texture_space(tmp_path / "a.npz", *arrays, *layout), 12)
    uv, faces = (torch.from_numpy(a) for a in layout)
    again = read_texture_space(save_texture_space(tmp_path / "b.npz", space, uv, faces), 12)
    assert_close(again.mean, space.mean)
    assert_close(again.basis, space.basis)


def test_nearest_picks_and_area_averages(tmp_path, arrays, layout):
    path = write_texture_space(tmp_path / "space.npz", *arrays, *layout)
    whole = read_texture_space(path, 12)
    nearest = read_texture_space(path, 6, resize="nearest")
    area = read_texture_space(path, 6)
    assert torch.equal(nearest.mean, whole.mean[:, ::2, ::2])
    assert torch.equal(nearest.basis, whole.basis[:, :, ::2, ::2])
    for kind in ("mean", "basis"):
        expected = torch.nn.functional.avg_pool2d(getattr(whole, kind), 2)
        assert_close(getattr(area, kind), expected)
    uneven = read_texture_space(path, 5)
    assert_close(uneven.mean.mean((1, 2)), whole.mean.mean((1, 2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "size"), [(512, 256), (64, 48), (8, 16)])
@pytest.mark.parametrize("resize", ["area", "nearest"])
def test_resizing_keeps_constants(source, size, resize):
    assert_close(torch.from_numpy(resize_weights(source, size, resize).sum(1)), torch.ones(size))
    with pytest.raises(ValueError, match="'area' or 'nearest'"):
        resize_weights(8, 4, "cubic")


def test_the_number_of_components_comes_from_the_file_or_the_caller(tmp_path, arrays, layout):
    path = write_texture_space(tmp_path / "space.npz", *arrays, *layout)
    whole = read_texture_space(path, 12)
    assert whole.components == 5
    few = read_texture_space(path, 12, components=2)
    assert torch.equal(few.basis, whole.basis[:2])
    assert read_texture_space(path, 12, components=9).components == 5


def test_large_files_are_resized_once(tmp_path, arrays, layout, monkeypatch):
    path = write_texture_space(tmp_path / "space.npz", *arrays, *layout)
    plain = read_texture_space(path, 6, 3)
    monkeypatch.setattr(texture_space_files, "_LARGE", 0)
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        kept = read_texture_space(path, 6, 3)
        assert torch.equal(kept.mean, plain.mean)
        assert torch.equal(kept.basis, plain.basis)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    write_texture_space(path, arrays[0] / 2, arrays[1], *layout)
    assert_close(read_texture_space(path, 6, 3).mean, plain.mean / 2)  # another file, read anew


def test_basel_colours_are_in_0_to_1(tmp_path, arrays):
    mean, basis = arrays[0] / 255, arrays[1] / 255
    np.savez(tmp_path / "bfm.npz", MU=mean.reshape(-1), PC=basis.reshape(-1, 5))
    space = read_texture_space(tmp_path / "bfm.npz", 12)
    expected = torch.from_numpy(decoded(*arrays, np.ones(5)).copy()).float()
    assert_close(space(torch.ones(1, 5))[0].permute(1, 2, 0), expected)
    assert space.coverage.all()


def test_albedo_mm_is_diffuse_plus_specular_with_a_gamma(tmp_path):
    rng = np.random.default_rng(0)
    mean, basis = rng.uniform(0, 0.5, (4, 4, 3)), rng.normal(0, 0.1, (4, 4, 3, 3))
    gloss, shine = rng.uniform(0, 0.1, (4, 4, 3)), rng.normal(0, 0.01, (4, 4, 3, 3))
    np.savez(tmp_path / "mm.npz", MU=mean, PC=basis, specMU=gloss, specPC=shine)
    space = read_texture_space(tmp_path / "mm.npz", 4)
    assert isinstance(space, LinearLightSpace)
    code = torch.tensor([[3.0, -9, 4]], requires_grad=True)
    found = space(code)
    values = code[0].detach().numpy()
    linear = 0.6 * (mean + basis @ values + gloss + shine @ values)
    assert (linear < 0).any()
    expected = np.maximum(linear, 1e-4)[..., ::-1].copy() ** (1 / 2.2)
    assert_close(found[0].detach().permute(1, 2, 0), torch.from_numpy(expected).float())
    found.sum().backward()
    assert code.grad.isfinite().all()


def test_wrong_files_are_errors_that_name_keys(tmp_path, arrays):
    path = tmp_path / "space.npz"
    with pytest.raises(FileNotFoundError, match=r"space\.npz.*tex_dir"):
        read_texture_space(path)
    np.savez(path, mean=arrays[0])
    with pytest.raises(ValueError, match=r"expected 'mean' and 'tex_dir'.*found mean"):
        read_texture_space(path)
    np.savez(path, mean=arrays[0][:, :5], tex_dir=arrays[1])
    with pytest.raises(ValueError, match=r"'mean' should be \(S,S,3\)"):
        read_texture_space(path)
    np.savez(path, mean=arrays[0], tex_dir=np.array([None]))
    with pytest.raises(ValueError, match=r"'tex_dir' holds objects"):
        read_texture_space(path)
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"no \.npz"):
        read_texture_space(path)


def test_writing_checks_what_it_is_given(tmp_path, arrays, layout):
    mean, basis = arrays
    for bad, match in (
        ((mean[:5], basis), "'mean'"),
        ((mean, basis[:5]), "'tex_dir'"),
        ((mean * np.nan, basis), "finite"),
    ):
        with pytest.raises(ValueError, match=match):
            write_texture_space(tmp_path / "x.npz", *bad, *layout)
    with pytest.raises(ValueError, match="extra key 'vt'"):
        write_texture_space(tmp_path / "x.npz", *arrays, *layout, {"vt": 1})
    assert not list(tmp_path.iterdir())


def test_the_plain_space_has_the_spreads_it_says():
    coverage = torch.zeros(64, 64, dtype=torch.bool)
    coverage[10:50, 5:60] = True
    space = plain_texture_space(64, coverage)
    assert space.components == 23
    spread = space.basis[:, :, coverage].square().mean((1, 2)).sqrt() * 255
    assert_close(spread[:3], torch.full((3,), 20 / 3**0.5), atol=1e-3, rtol=0)
    assert_close(spread[3:], torch.full((20,), 10.0), atol=1e-3, rtol=0)
    steps = space.basis[3:].diff(dim=-1).abs().amax()
    assert steps < 0.1 * space.basis[3:].abs().amax()
    assert torch.equal(plain_texture_space(64, coverage).basis, space.basis)
    assert not torch.equal(plain_texture_space(64, coverage, seed=1).basis, space.basis)


def test_sampling_a_texel_centre_returns_the_texel():
    maps = torch.rand(1, 3, 8, 8)
    uv = torch.tensor([[[(3 + 0.5) / 8, 1 - (2 + 0.5) / 8]]])
    assert_close(sample_texture(maps, uv)[0, :, 0], maps[0, :, 2, 3])


def test_a_linear_ramp_is_the_same_ramp_in_both_alignments():
    size = 16
    centred = ((torch.arange(size) + 0.5) / size).expand(1, 1, size, size)
    ours = corner_aligned(centred)[0, 0, 0]
    expected = torch.linspace(0, 1, size)
    assert_close(ours[1:-1], expected[1:-1])
    assert_close(ours[0], torch.tensor(0.5 / size))  # half a texel beyond the border has no data


def test_a_space_is_linear_in_its_code():
    space = TextureSpace(torch.rand(3, 4, 4), torch.rand(2, 3, 4, 4), torch.ones(4, 4).bool(), "t")
    assert_close(space(torch.zeros(1, 2))[0], space.mean)
    assert_close(space(torch.tensor([[2.0]]))[0], space.mean + 2 * space.basis[0])
