import json
import sys

import h5py
import numpy as np
import pytest
import torch

from lit_face.io.hdf5 import read_datasets
from lit_face.morphable_models.albedo_mm import AlbedoMM, srgb_slope, write_albedo_mm
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.bfm2017 import bfm2017
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.statismo import (
    NAMED_LANDMARKS,
    find_h5,
    parse_landmarks,
    write_bfm2017,
)
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from tests.helpers.tolerances import assert_close

MODES = {"identity": 10, "expression": 8, "albedo": 6}
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def folder(head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bfm2017")
    write_bfm2017(head, folder / "model2017-miniature.h5", MODES)
    write_albedo_mm(head, folder / "albedoPart.h5", modes=8)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return bfm2017(folder, donor=None)


@pytest.fixture
def content(folder):
    with h5py.File(folder / "model2017-miniature.h5") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        return {name: file[name][()] for name in names}


def rewrite(path, content):
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
    return path


def test_a_model_survives_the_round_trip(head, folder, model):
    drawn = head.sample(4, torch.Generator().manual_seed(1))
    identity, expression = drawn["identity"][:, :10], drawn["expression"][:, :8]
    # The writer keeps 13 bits of the bases' mantissas: a hundredth of a millimetre.
    assert_close(model(identity, expression), head(identity, expression), atol=0.02, rtol=0.0)
    albedo = drawn["albedo"][:, :6]
    assert_close(model.albedo(albedo), head.albedo(albedo), atol=1e-3, rtol=0.0)
    assert torch.equal(model.faces, head.faces)
    assert torch.equal(model.landmark_index, head.landmark_index)
    assert_close(model.uv, head.uv)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert max(sizes) < 3 * MEGABYTE


def test_mean_adds_the_mean_expression_and_a_unit_coefficient_is_the_root_of_the_variance(
    model, content
):
    mean = content["shape/model/mean"] + content["expression/model/mean"]
    assert np.abs(content["expression/model/mean"]).max() > 0.5, "the miniature tests nothing"
    assert_close(model.mean.flatten(), mean)
    moved = model(torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 1))[0] - model.mean
    mode = content["shape/model/pcaBasis"][:, 2] * np.sqrt(content["shape/model/pcaVariance"][2])
    assert_close(moved.flatten(), mode, atol=1e-4, rtol=0.0)
    assert_close(model.identity_std.square(), content["shape/model/pcaVariance"])


def test_landmarks_and_uv_are_carried_to_another_persons_mesh(head, content, tmp_path, monkeypatch):
    """A shuffled mesh of another person, 12 named points: the truth is known at every vertex."""
    identity = torch.randn(1, 10, generator=torch.Generator().manual_seed(5))
    shape = head(identity, torch.zeros(1, 1))[0].numpy().reshape(-1)
    order = torch.randperm(len(head.mean), generator=torch.Generator().manual_seed(0))
    place = torch.argsort(order)
    rows = (3 * order[:, None] + torch.arange(3)).reshape(-1).numpy()
    for kind in ("shape", "expression", "color"):
        for part in ("mean", "pcaBasis"):
            content[f"{kind}/model/{part}"] = content[f"{kind}/model/{part}"][rows]
    content["shape/model/mean"] = shape[rows] - content["expression/model/mean"]
    content["shape/representer/cells"] = place[head.faces].T.numpy()
    vertices = torch.from_numpy(shape.reshape(-1, 3)[order.numpy()])
    points = [
        {"id": name, "coordinates": vertices[place[head.landmark_index[number]]].tolist()}
        for name, number in NAMED_LANDMARKS.items()
    ]
    content["metadata/landmarks/json"] = json.dumps(points)
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    found = bfm2017(rewrite(tmp_path / "model2017-other.h5", content), donor=lambda: head)
    truth = place[head.landmark_index]
    error = (found.mean[found.landmark_index] - found.mean[truth]).norm(dim=1)
    named = list(NAMED_LANDMARKS.values())
    assert error[named].max() == 0
    assert error[17:].max() < 4  # mm; brows, nose, eyes, mouth: measured 2, one vertex
    assert error[:17].max() < 8  # the jaw line slides: measured 5
    face = head.regions["face"][order] > 0.5
    shift = (found.uv - head.uv[order]).norm(dim=1)[face]
    assert shift.median() < 0.008  # two texels of 256
    assert ((found.regions["face"] > 0.5) == face).float().mean() > 0.97


def test_every_problem_is_named_in_one_message(content, tmp_path):
    del content["color/model/mean"]
    content["shape/model/mean"] /= 1000
    content["shape/representer/cells"] = content["shape/representer/cells"] + 10**6
    content["expression/model/pcaVariance"] = content["expression/model/pcaVariance"][:-1]
    with pytest.raises(ValueError, match="cannot be used") as caught:
        bfm2017(rewrite(tmp_path / "model2017-x.h5", content))
    for part in ("no dataset 'color/model/mean'", "in metres, not millimetres", "counted from 0",
                 "8 modes, but 7 variances"):  # fmt: skip
        assert part in str(caught.value)


def test_a_landmark_off_the_mesh_and_absent_landmarks_are_named(content, tmp_path):
    points = {"center.nose.tip": [0.0, 0.0, 500.0], "center.chin.tip": [0.0, 0.0, 0.0]}
    content["metadata/landmarks/json"] = json.dumps(points)
    path = rewrite(tmp_path / "model2017-x.h5", content)
    with pytest.raises(ValueError, match="mm off the mesh"):
        bfm2017(path)
    content["metadata/landmarks/json"] = "[]"
    rewrite(path, content)
    with pytest.raises(ValueError, match="landmark index; give landmarks68=FILE"):
        bfm2017(path)


def test_landmark_texts_of_both_kinds_are_read():
    listed = '[{"id": "center.nose.tip", "coordinates": [1, 2, 3]}]'
    keyed = '{"center.nose.tip": [1, 2, 3]}'
    for text in (listed, keyed):
        assert parse_landmarks(text)["center.nose.tip"].tolist() == [1, 2, 3]


def test_advice_for_missing_files_and_packages(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"faces\.dmi\.unibas\.ch"):
        find_h5(tmp_path)
    for name in ("model2017-a.h5", "model2019-b.h5"):
        (tmp_path / name).write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="several models"):
        find_h5(tmp_path)
    with pytest.raises(ValueError, match="not a readable HDF5 file"):
        bfm2017(tmp_path / "model2017-a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lit_face\[h5\]'"):
        read_datasets(folder / "albedoPart.h5", {})


def test_albedo_is_exact_in_linear_light(folder):
    model = bfm2017(folder, albedo=folder / "albedoPart.h5", donor=None)
    assert isinstance(model, AlbedoMM)
    coefficients = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    with h5py.File(folder / "albedoPart.h5") as file:
        part = file["diffuseAlbedo/model"]
        basis = torch.from_numpy(part["pcaBasis"][()] * np.sqrt(part["pcaVariance"][()]))
        linear = torch.from_numpy(part["mean"][()]) + coefficients @ basis.T
        specular = torch.from_numpy(file["specularAlbedo/model/mean"][()]).view(-1, 3)
    wanted = linear_to_srgb(linear.view(3, -1, 3))
    assert_close(model.albedo(coefficients), wanted, atol=2e-5)
    tangent = MorphableModel.albedo(model, coefficients)
    assert (tangent - wanted).abs().max() > 0.05, "the exact path makes a difference"
    small = 1e-3 * coefficients
    assert_close(MorphableModel.albedo(model, small), model.albedo(small), atol=1e-5)
    assert_close(model.specular_mean, specular[:, :1])
    drawn = model.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(drawn["albedo"], drawn["specular"])


def test_srgb_slope_is_the_derivative_of_the_curve():
    linear = torch.tensor([-0.1, 1e-4, 0.002, 0.01, 0.2, 0.9, 1.3], dtype=torch.float64)
    step = 1e-7
    numeric = (linear_to_srgb(linear + step) - linear_to_srgb(linear - step)) / (2 * step)
    assert_close(srgb_slope(linear), numeric, rtol=1e-5)
    assert_close(srgb_to_linear(linear_to_srgb(linear)), linear, atol=1e-8)  # the curve's own gap


def test_albedo_of_another_mesh_names_the_file_that_fits(folder, tmp_path):
    small = ModelArrays(
        **{name: torch.zeros(3, 3, 2) for name in ("identity_basis", "expression_basis")},
        mean=torch.zeros(3, 3), faces=torch.tensor([[0, 1, 2]]), uv=torch.zeros(3, 2),
        landmark_index=torch.zeros(68, dtype=torch.long), identity_std=torch.ones(2),
        expression_std=torch.ones(2), albedo_mean=torch.full((3, 3), 0.5),
        albedo_basis=torch.zeros(3, 3, 2),
    )  # fmt: skip
    write_albedo_mm(MorphableModel(small, "small"), tmp_path / "face12_albedoPart.h5")
    with pytest.raises(ValueError, match=r"face12_albedoPart\.h5 for face12"):
        bfm2017(folder, albedo=tmp_path / "face12_albedoPart.h5", donor=None)


def test_user_files_are_checked(folder, tmp_path):
    marks = np.loadtxt(folder / "model2017-miniature_landmarks68.txt", dtype=int)
    np.save(tmp_path / "marks.npy", marks + 11979 - marks.max())
    with pytest.raises(ValueError, match="subtract 1"):
        bfm2017(folder, landmarks68=tmp_path / "marks.npy", donor=None)
    np.save(tmp_path / "uv.npy", np.full((7, 2), 0.5))
    with pytest.raises(ValueError, match=r"uv should be \(11979, 2\)"):
        bfm2017(folder, uv=tmp_path / "uv.npy", donor=None)
    np.savez(tmp_path / "uv.npz", uv=np.full((11979, 2), 3.0))
    with pytest.raises(ValueError, match=r"uv should lie in \[0, 1\]"):
        bfm2017(folder, uv=tmp_path / "uv.npz", donor=None)
    with pytest.raises(FileNotFoundError, match="no such file"):
        bfm2017(folder, uv=tmp_path / "absent.mat", donor=None)
