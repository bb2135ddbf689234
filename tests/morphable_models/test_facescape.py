import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_face.io.images import read_image
from lit_face.io.obj import read_obj_topology
from lit_face.io.unpickling import UnsafePickleError
from lit_face.morphable_models.facescape import facescape, load_bilinear
from lit_face.morphable_models.facescape.template import bilinear_of, write_mask, write_template
from lit_face.morphable_models.facescape.writer import face_mask, face_template, write_bilinear
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bilinear") / "v10"
    write_bilinear(procedural_head(), path, identities=5, expressions=4)
    return path


@pytest.fixture(scope="module")
def bilinear(folder):
    return load_bilinear(folder)


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def _release16(bilinear, path, **changes):
    """Write a v1.6 file with the content of a v1.0 model (residuals made absolute again)."""
    core = bilinear.core.clone().contiguous()
    core[:, 1:] += core[:, :1]
    content = {
        "shape_bm_core": core.numpy(),
        "fv_indices": bilinear.faces.numpy() + 1,
        "ft_indices": bilinear.faces_uv.numpy() + 1,
        "texcoords": bilinear.uv.numpy(),
        "lm_list_v16": bilinear.landmark_index.numpy(),
        "id_mean": bilinear.id_mean.numpy(),
        "id_var": bilinear.id_var.numpy(),
        "facial_mask": bilinear.mask.numpy().astype(np.uint8) * 255,
        "vert_num": np.array(core.shape[0] // 3),
        "vert_10to16_dict": np.array({0: 1, 5: 2}, dtype=object),  # pickled, as in the release
        **changes,
    }
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def test_the_face_comes_back_from_the_files(folder):
    head, bilinear = procedural_head(), load_bilinear(folder)
    template = face_template(head)
    assert bilinear.core.shape == (3 * len(template.vertex), 5, 6)
    assert_close(bilinear.core[:, 0, 0].view(-1, 3), head.mean[template.vertex])
    assert (bilinear.landmark_index == template.landmark_index).all()
    assert (bilinear.faces == template.faces).all()
    code = torch.tensor([[0.5, -1.0, 0.25, 0, 2.0]])
    wanted = head(code, torch.zeros(1, 3))[:, template.vertex]
    neutral = torch.eye(1, 5)
    found = bilinear.vertices(torch.cat([torch.ones(1, 1), code], 1), neutral)
    assert_close(found, wanted, atol=1e-4, rtol=1e-5)
    # an expression at full weight is one of the head's named ones
    moved = bilinear.vertices(bilinear.id_mean[None], torch.tensor([[1.0, 1, 0, 0, 0]]))
    names = [name for name in head.expression_names if name != "neutral"]
    codes = torch.stack([head.named_expression(name) for name in names])
    faces = head(torch.zeros(len(names), 60), codes)[:, template.vertex]
    assert (faces - moved).norm(dim=2).amax(1).min() < 1e-3


def test_the_template_lies_in_the_core_window_with_a_margin():
    template = face_template(procedural_head())
    low, high = template.uv.amin(0), template.uv.amax(0)
    assert_close(low, torch.tensor([0.28, 0.359375 + 0.03]), atol=1e-5, rtol=0.0)
    assert_close(high, torch.tensor([0.72, 0.859375 - 0.03]), atol=1e-5, rtol=0.0)
    mask = face_mask(template, 512) > 0
    assert mask.sum() > 0.3 * 256**2
    assert not mask[:80].any()
    # open: between the lids and between the lips
    lids = template.uv[template.landmark_index[[37, 41, 62, 66]]]
    for first, second in ((0, 1), (2, 3)):
        u, v = (lids[first] + lids[second]) / 2
        assert not mask[int((1 - v) * 512), int(u * 512)]


def test_the_interface_of_the_house_is_the_bilinear_model(folder):
    model = facescape(folder)
    bilinear = model.bilinear
    assert model.identity_size == 6
    assert model.expression_size == 4
    identity = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    expression = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 3
    found = model(identity, expression)
    weights = torch.cat([torch.ones(3, 1), expression * model.expression_std], 1)
    raw = bilinear.vertices(bilinear.id_mean + identity * model.identity_std, weights)
    assert_close(found, raw[:, model.origin], atol=1e-4, rtol=1e-5)
    assert_close(model.landmarks(found), raw[:, bilinear.landmark_index], atol=1e-4, rtol=1e-5)
    assert_close(model(identity[:, :2], expression[:, :1]), model(
        torch.nn.functional.pad(identity[:, :2], (0, 4)),
        torch.nn.functional.pad(expression[:, :1], (0, 3)),
    ))  # fmt: skip
    # one person, the linear bases are exact
    zero = torch.zeros(3, 6)
    linear = model.mean + torch.einsum("bk,vck->bvc", expression, model.expression_basis)
    assert_close(model(zero, expression), linear, atol=1e-3, rtol=1e-5)
    with pytest.raises(ValueError, match="no joints"):
        model(identity, expression, joints=torch.zeros(3, 1, 3))
    assert not model.state_dict()


def test_a_persons_smile_is_their_own(folder, copy):
    path = next(copy.glob("core_*.npy"))
    core = np.load(path)
    core[1, 1] += 3.0  # the first identity mode smiles differently
    np.save(path, core)
    model = facescape(copy)
    smile = torch.tensor([[3.0]])
    person = torch.zeros(1, 6)
    person[0, 1] = 2.0
    neutral = torch.zeros(1, 1)
    plain = model(0 * person, smile) - model(0 * person, neutral)
    own = model(person, smile) - model(person, neutral)
    assert_close(own - plain, torch.full_like(own, 6.0), atol=1e-3, rtol=0.0)


def test_seams_are_doubled(copy):
    text = (copy / "1_neutral.obj").read_text().splitlines()
    count = sum(line.startswith("vt ") for line in text)
    first = next(i for i, line in enumerate(text) if line.startswith("f "))
    corner = text[first].split()[1]
    text[first] = text[first].replace(f" {corner} ", f" {corner.split('/')[0]}/{count + 1} ")
    text.insert(first, "vt 0.9 0.9")
    (copy / "1_neutral.obj").write_text("\n".join(text))
    model = facescape(copy)
    assert len(model.mean) == len(model.bilinear.core) // 3 + 1
    assert model.uv.max() == pytest.approx(0.9)
    assert_close(model.mean, model.bilinear.core[:, 0, 0].view(-1, 3)[model.origin])


def test_release_16_reads_the_same_model(bilinear, tmp_path):
    first = bilinear
    path = _release16(first, tmp_path / "facescape_bm_v1.6_847_50_52_id_front.npz")
    second = load_bilinear(path)
    for name in ("core", "id_mean", "id_var", "landmark_index", "faces", "uv", "faces_uv", "mask"):
        assert_close(getattr(second, name), getattr(first, name), atol=1e-4, rtol=1e-6)
    assert load_bilinear(tmp_path).name == path.stem  # the folder will do


class _Malicious:
    def __reduce__(self):
        return print, ("never printed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_bm_core": None}, "no shape_bm_core; found"),
        ({"shape_bm_core": np.zeros((10, 5, 6), np.float32)}, "'shape_bm_core' should be floats"),
        ({"id_mean": np.zeros(7)}, "'id_mean' should have 6 numbers"),
        ({"id_var": np.zeros(6)}, "'id_var' should be positive"),
        ({"id_var": None}, "no 'id_mean' and 'id_var'"),
        ({"vert_num": np.array(26317)}, "'vert_num' says 26317, but"),
        ({"lm_list_v16": np.arange(60)}, "'lm_list_v16' should be 68"),
        ({"fv_indices": np.zeros((4, 3), np.int64)}, "'fv_indices' should count from 1"),
        ({"ft_indices": np.ones((4, 3), np.int64)}, "should have the same shape"),
    ],
)
def test_release_16_is_checked_by_key(bilinear, tmp_path, change, message):
    path = _release16(bilinear, tmp_path / "facescape_bm_v1.6_x.npz", **change)
    with pytest.raises(ValueError, match=rf"facescape_bm_v1\.6_x\.npz.*{message}"):
        facescape(path)


def test_a_program_in_a_release_is_refused(bilinear, tmp_path, capsys):
    evil = np.array(_Malicious(), dtype=object)
    path = _release16(bilinear, tmp_path / "facescape_bm_v1.6_x.npz", sym_dict=evil)
    with pytest.raises(UnsafePickleError, match="refused, nothing was run"):
        facescape(path)
    assert "never" not in capsys.readouterr().out


def _factor(edit):
    def change(folder):
        path = next(folder.glob("factor_*.json"))
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


def _core(edit):
    def change(folder):
        path = next(folder.glob("core_*.npy"))
        np.save(path, edit(np.load(path)))

    return change


def _spoil(core):
    core[1, 2, 3] = np.nan
    return core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_factor(lambda c: c.pop("id_var")), r"factor_.*json: no key 'id_var'"),
        (_factor(lambda c: c["id_mean"].pop()), r"'id_mean' should have 6 numbers, as core_"),
        (_factor(lambda c: c["lm_index_full"].pop()), r"'lm_index_full' should be 204"),
        (_factor(lambda c: c["lm_index_full"].reverse()), r"'lm_index_full' should be 204"),
        (_core(lambda c: c[:, :, :-3]), r"1_neutral\.obj has \d+ vertices, but core_"),
        (_core(lambda c: c[0]), r"core_.*npy: the core should be floats"),
        (_core(lambda c: c[:4]), r"'id_mean' should have 4 numbers"),
        (_core(_spoil), r"core_.*npy: the core has values that are not finite"),
        (lambda f: (f / "1_neutral.obj").unlink(), r"1_neutral\.obj is missing"),
        (lambda f: next(f.glob("core_*")).unlink(), r"core_\*\.npy is missing"),
        (
            lambda f: shutil.copy(next(f.glob("core_*")), f / "core_b.npy"),
            r"one file core_\*\.npy is expected, found 2",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(copy, change, message):
    change(copy)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        facescape(copy)


def test_a_template_is_written_for_models_without_one(folder, bilinear, tmp_path):
    """A release 16 file brings its topology along, but no OBJ file."""
    write_template(bilinear, tmp_path)
    ours, theirs = (read_obj_topology(root / "1_neutral.obj") for root in (tmp_path, folder))
    np.testing.assert_array_equal(ours.faces, theirs.faces)
    np.testing.assert_allclose(ours.uv[ours.faces_uv], theirs.uv[theirs.faces_uv], atol=1e-6)
    np.testing.assert_allclose(ours.vertices, theirs.vertices, atol=1e-3)
    masks = [read_image(root / "facial_mask.png") for root in (tmp_path, folder)]
    np.testing.assert_array_equal(*masks)
    write_mask(replace(bilinear, mask=None), tmp_path / "all.png")
    covered = read_image(tmp_path / "all.png") > 0
    assert (covered >= (masks[0] > 0)).all()
    assert covered.sum() < 1.5 * (masks[0] > 0).sum()


def test_a_linear_model_has_a_bilinear_form():
    model = procedural_head()
    found = bilinear_of(model)
    weights = torch.zeros(1, found.core.shape[2]), torch.zeros(1, found.core.shape[1])
    weights[0][0, 0], weights[1][0, 0] = 1, 1
    mean = found.vertices(*weights)[0]
    points = model.mean[model.landmark_index]
    assert (mean[found.landmark_index] - points).abs().max() < 1e-3
    assert bilinear_of(model).name == found.name
