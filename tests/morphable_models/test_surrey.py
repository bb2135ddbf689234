import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.surrey import WEIGHT_STD, read_surrey, surrey
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def head():
    return procedural_head()


def content_of(head):
    """Mean, orthonormal basis, eigenvalues, triangles, v-down UV and blendshapes of the head."""
    basis = head.identity_basis[..., :4].reshape(-1, 4).numpy()
    norms = np.linalg.norm(basis, axis=0)
    uv = head.uv.numpy() * [1, -1] + [0, 1]
    shapes = {
        name: head.expression_basis[..., k].reshape(-1).numpy()
        for k, name in enumerate(("anger", "fear"))
    }
    return head.mean.reshape(-1).numpy(), basis / norms, norms**2, head.faces.tolist(), uv, shapes


FILES = ("sfm_shape_3448.bin", "expression_blendshapes_3448.bin")


@pytest.fixture
def with_eos(head, tmp_path):
    """The model in eos's files, written and read by eos-py."""
    part = pytest.importorskip("eos").morphablemodel
    mean, basis, eigenvalues, faces, uv, shapes = content_of(head)
    shape = part.PcaModel(mean, basis, eigenvalues, faces)
    model = part.MorphableModel(shape, part.PcaModel(), None, uv.tolist())
    part.save_model(model, str(tmp_path / FILES[0]))
    blendshapes = [part.Blendshape() for _ in shapes]
    for item, (name, values) in zip(blendshapes, shapes.items(), strict=True):
        item.name, item.deformation = name, values
    part.save_blendshapes(blendshapes, str(tmp_path / FILES[1]))
    return tmp_path


@pytest.fixture
def without_eos(head, tmp_path, monkeypatch):
    """The same, read by a stand-in with eos-py's names."""
    mean, basis, eigenvalues, faces, uv, shapes = content_of(head)
    for file in FILES:
        (tmp_path / file).write_bytes(b"cereal")
    shape = SimpleNamespace(
        get_mean=lambda: mean, get_rescaled_pca_basis=lambda: basis * np.sqrt(eigenvalues),
        get_eigenvalues=lambda: eigenvalues, get_triangle_list=lambda: faces,
    )  # fmt: skip
    model = SimpleNamespace(
        get_shape_model=lambda: shape, get_texture_coordinates=lambda: uv.tolist()
    )
    package = ModuleType("eos")
    package.morphablemodel = SimpleNamespace(
        load_model=lambda file: model,
        load_blendshapes=lambda file: [
            SimpleNamespace(name=name, deformation=values) for name, values in shapes.items()
        ],
    )
    monkeypatch.setitem(sys.modules, "eos", package)
    return tmp_path


@pytest.mark.parametrize("reader", ["with_eos", "without_eos"])
def test_shape_expressions_and_uv_are_those_of_the_files(head, reader, request):
    raw = read_surrey(request.getfixturevalue(reader))
    assert_close(raw.mean, head.mean)
    assert_close(raw.uv, head.uv)
    assert_close(raw.basis.reshape(-1, 3, 4), head.identity_basis[..., :4], atol=1e-4)
    assert np.array_equal(raw.faces, head.faces)
    assert list(raw.blendshapes) == ["anger", "fear"]
    assert_close(raw.blendshapes["fear"], head.expression_basis[..., 1])


def test_an_expression_of_three_is_the_whole_blendshape_and_colours_are_the_donors(
    head, without_eos, tmp_path, monkeypatch
):
    folder = without_eos
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    np.savetxt(folder / "marks.txt", head.landmark_index.numpy(), fmt="%d")
    model = surrey(folder, landmarks68=folder / "marks.txt", donor=lambda: head)
    full = model(torch.zeros(1, 1), torch.tensor([[0.0, 1 / WEIGHT_STD]]))[0]
    assert_close(full, head.mean + head.expression_basis[..., 1], atol=1e-4)
    outside = head.regions["mouth_interior"] < 0.5
    error = (model.albedo_mean - head.albedo_mean).abs().amax(1)[outside]
    assert error.quantile(0.99) < 0.01
    with pytest.raises(ValueError, match=r"landmarks68=FILE"):
        surrey(folder)


def test_absent_files_and_packages_get_advice(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="patrikhuber/eos"):
        surrey(None)
    monkeypatch.setitem(sys.modules, "eos", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'lit_face"):
        surrey(tmp_path)


def test_a_file_that_is_not_eoss_is_named(tmp_path):
    pytest.importorskip("eos")
    for name in FILES:
        (tmp_path / name).write_bytes(b"something else entirely")
    with pytest.raises(ValueError, match="not a model of eos"):
        surrey(tmp_path)
