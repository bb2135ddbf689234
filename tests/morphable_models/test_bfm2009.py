import numpy as np
import pytest
import scipy.io
import torch

from lit_face.morphable_models.bfm import load_bfm
from lit_face.morphable_models.bfm2009 import bfm2009, main, read_bfm2009
from lit_face.morphable_models.bfm2009_writer import write_bfm2009
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.tolerances import assert_close

MEGABYTE = 2**20
TOLERANCE_MM = 0.02  # the writer keeps 13 bits of the bases' mantissas


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def released(head, tmp_path_factory):
    """As a user has them: original and 3DDFA's files, in face3d's subfolders."""
    folder = tmp_path_factory.mktemp("bfm2009")
    write_bfm2009(head, folder)
    files = {"raw": ["01_MorphableModel.mat"], "stn": ["BFM_UV.mat"]}
    files["3ddfa"] = ["model_info.mat", "Model_Expression.mat", "Model_tri_mouth.mat"]
    for place, names in files.items():
        (folder / place).mkdir()
        for name in names:
            (folder / name).rename(folder / place / name)
    return folder


@pytest.fixture
def own_copy(head, tmp_path):
    write_bfm2009(head, tmp_path)
    return tmp_path


def change(path, **fields):
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content |= fields
    scipy.io.savemat(path, {k: v for k, v in content.items() if v is not None})


def check_equal(model, head, drawn):
    identity, expression = drawn["identity"][:, :8].clone(), drawn["expression"][:, :6]
    assert_close(model(identity, expression), head(identity, expression), atol=0.02, rtol=0.0)
    assert_close(
        model.albedo(drawn["albedo"][:, :4]), head.albedo(drawn["albedo"][:, :4]), atol=1e-3
    )


def test_the_released_files_give_the_model(head, released):
    model = bfm2009(released, donor=None)
    check_equal(model, head, head.sample(3, torch.Generator().manual_seed(0)))
    assert torch.equal(model.landmark_index, head.landmark_index)
    assert_close(model.uv, head.uv)
    assert torch.equal(model.faces, head.faces)
    assert_close(model.regions["nose"] > 0.5, head.regions["nose"] > 0.5)
    assert max(p.stat().st_size for p in released.rglob("*") if p.is_file()) < 3 * MEGABYTE


def test_raw_coefficients_move_vertices_by_the_files_own_basis(released):
    raw = read_bfm2009(released, donor=None)
    content = scipy.io.loadmat(released / "raw" / "01_MorphableModel.mat")
    expression = scipy.io.loadmat(released / "3ddfa" / "Model_Expression.mat")
    trim = (
        scipy.io.loadmat(released / "3ddfa" / "model_info.mat")["trimIndex"][:, 0].astype(int) - 1
    )
    coefficients = content["shapeEV"][:, 0] * 0.7
    shape = (content["shapeMU"][:, 0] + content["shapePC"] @ coefficients).reshape(-1, 3)[trim]
    wanted = shape + (expression["mu_exp"] + expression["w_exp"][:, :1] * 2).reshape(-1, 3)
    assert np.abs(expression["mu_exp"]).max() > 500, "the mean expression tests nothing"
    assert_close(raw.vertices(coefficients, np.array([2.0])), wanted, atol=0.1)  # micrometres


def test_the_command_makes_face3ds_files(head, released, tmp_path):
    main([str(released), str(tmp_path / "Out")])
    converted, direct = load_bfm(tmp_path / "Out"), bfm2009(released, donor=None)
    drawn = head.sample(2, torch.Generator().manual_seed(4))
    identity, expression = drawn["identity"][:, :8], drawn["expression"][:, :6]
    assert_close(converted(identity, expression), direct(identity, expression))
    for name in ("faces", "uv", "landmark_index", "identity_std", "albedo_mean", "albedo_std"):
        assert_close(getattr(converted, name), getattr(direct, name))
    stored = scipy.io.loadmat(tmp_path / "Out" / "BFM.mat")["model"][0, 0]
    assert stored["tri_mouth"].shape == (3, 100)
    assert stored["kpt_ind"].min() >= 1
    assert scipy.io.loadmat(tmp_path / "Out" / "BFM_info.mat")["model_info"]["segbin"][0, 0].any()


def test_deep3ds_expressions_leave_their_mean_out(head, tmp_path):
    write_bfm2009(head, tmp_path, expressions="deep3d")
    np.savetxt(tmp_path / "marks.txt", head.landmark_index.numpy(), fmt="%d")
    np.save(tmp_path / "uv.npy", head.uv.numpy())
    model = bfm2009(
        tmp_path, landmarks68=tmp_path / "marks.txt", uv=tmp_path / "uv.npy", donor=None
    )
    check_equal(model, head, head.sample(2, torch.Generator().manual_seed(1)))
    assert model.faces.shape == head.faces.shape  # 'tl' lost only triangles of trimmed vertices


def test_missing_uv_is_carried_over_with_its_regions(head, own_copy, monkeypatch):
    monkeypatch.setenv("LIT_FACE_CACHE", str(own_copy / "cache"))
    (own_copy / "BFM_UV.mat").unlink()
    model = bfm2009(own_copy, donor=lambda: head)
    face = head.regions["face"] > 0.5
    outside = face & (head.regions["mouth_interior"] < 0.5)
    assert (model.uv - head.uv).norm(dim=1)[outside].max() < 1e-3  # the same head
    assert ((model.regions["face"] > 0.5) == face).float().mean() > 0.99


def test_absent_files_get_advice(own_copy, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"faces\.dmi\.unibas\.ch"):
        bfm2009(empty)
    (own_copy / "Model_Expression.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"Exp_Pca\.bin and std_exp\.txt"):
        bfm2009(own_copy)


@pytest.mark.parametrize(
    ("file", "change_of", "message"),
    [
        ("01_MorphableModel.mat", lambda f: {"tl": f["tl"] - 51}, "counts from 1"),
        ("01_MorphableModel.mat", lambda f: {"shapeMU": f["shapeMU"] / 1000},
         "in millimetres, not micrometres: multiply shape and expression by 1000"),
        ("01_MorphableModel.mat", lambda f: {"shapeEV": f["shapeEV"][::-1]}, "should descend"),
        ("01_MorphableModel.mat", lambda f: {"texMU": None}, "no field 'texMU'"),
        ("Model_Expression.mat", lambda f: {"sigma_exp": f["sigma_exp"][1:]}, "do not belong"),
        ("Model_Expression.mat", lambda f: {k: f[k][:-3] for k in ("w_exp", "mu_exp")},
         "11978 vertices, the model has 11979"),
        ("model_info.mat", lambda f: {"trimIndex": f["trimIndex"] + 9}, "names vertex 12038 of"),
        ("BFM_UV.mat", lambda f: {"UV": f["UV"][:-7]}, "rows, not 12029"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(own_copy, file, change_of, message):
    path = own_copy / file
    change(path, **change_of(scipy.io.loadmat(path)))
    with pytest.raises(ValueError, match=message):
        bfm2009(own_copy, donor=None)


def test_truncated_expressions_are_named(head, tmp_path):
    write_bfm2009(head, tmp_path, expressions="deep3d")
    path = tmp_path / "Exp_Pca.bin"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"Exp_Pca\.bin: .* bytes are no basis of 6 modes"):
        bfm2009(tmp_path)


def test_the_real_size_gets_what_face3d_mends(tmp_path):
    """53,490 vertices on a dome: three coordinates are their neighbours' mean, the mouth closes."""
    count, kept = 53490, 53215
    angle = np.linspace(0, 2 * np.pi * 120, count)
    radius = np.sqrt(np.linspace(0, 1, count))
    x, y = 80e3 * radius * np.cos(angle), 90e3 * radius * np.sin(angle)
    points = np.stack([x, y, 60e3 * (1 - radius**2)], 1).astype(np.float32)
    column = np.zeros((3 * count, 1), np.float32)
    triangles = np.arange(1, count - 1)[:, None] + [0, 1, 2]
    trim = np.arange(count - kept, count) + 1.0
    one = np.ones((1, 1))
    files = {
        "01_MorphableModel": {"shapeMU": points.reshape(-1, 1), "shapePC": column, "shapeEV": one,
                              "texMU": column, "texPC": column, "texEV": one, "tl": triangles},
        "Model_Exp": {"w_exp": column[: 3 * kept], "mu_exp": column[: 3 * kept], "sigma_exp": one},
        "model_info": {"trimIndex": trim[:, None], "keypoints": np.arange(1, 69.0)[None]},
        "Model_tri_mouth": {"tri_mouth": np.arange(1, 322.0).reshape(3, 107)},
        "BFM_UV": {"UV": np.random.default_rng(0).random((count, 2))},
    }  # fmt: skip
    for name, content in files.items():
        scipy.io.savemat(tmp_path / f"{name}.mat", content)
    raw = read_bfm2009(tmp_path, donor=None)
    uv = files["BFM_UV"]["UV"][count - kept :]
    np.testing.assert_allclose(raw.uv[10031], uv[[10032, 10157]].mean(0))
    np.testing.assert_allclose(raw.uv[10032], uv[10032])
    assert raw.mouth_triangles.shape == (114, 3)  # the number in face3d's BFM.mat
    assert raw.mouth_triangles[-1].tolist() == [6167, 6294, 6038]
    assert raw.triangles.max() == kept - 1
