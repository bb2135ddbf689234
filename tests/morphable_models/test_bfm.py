import numpy as np
import pytest
import scipy.io
import torch

from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.bfm import face_outline_weights, load_bfm, read_bfm, write_bfm
from lit_face.morphable_models.winding import outward_faces
from tests.helpers.tolerances import assert_close

TOLERANCE_MM = 1e-3  # float32 micrometres of a head


@pytest.fixture(scope="module")
def standin(reference):
    return load_bfm(reference / "prn" / "standin_BFM.mat")


@pytest.fixture(scope="module")
def dome() -> MorphableModel:
    """A small open half-sphere of face size with random modes; the winding is right by design."""
    generator = torch.Generator().manual_seed(3)
    steps = 12
    axis = torch.linspace(-1, 1, steps)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    z = (2.5 - x**2 - y**2).sqrt()
    vertices = torch.stack([80 * x, 80 * y, 60 * z], dim=2).view(-1, 3)
    corner = (torch.arange(steps - 1)[:, None] * steps + torch.arange(steps - 1)).reshape(-1)
    right, up = corner + 1, corner + steps
    triangles = [torch.stack([corner, right, up], 1), torch.stack([right, up + 1, up], 1)]
    index = torch.randperm(len(vertices), generator=generator)[:68]
    index[36], index[45] = 5 * steps, 5 * steps + 8  # outer eye corners at a human distance
    randn = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    arrays = ModelArrays(
        mean=vertices,
        faces=torch.cat(triangles),
        uv=(torch.stack([x, y], dim=2).view(-1, 2) + 1) / 2,
        landmark_index=index,
        identity_basis=randn(len(vertices), 3, 7),
        expression_basis=randn(len(vertices), 3, 4),
        identity_std=torch.linspace(9e5, 1e4, 7),
        expression_std=torch.linspace(1.0, 0.2, 4),
        albedo_mean=torch.rand(len(vertices), 3, generator=generator),
        albedo_basis=0.1 * randn(len(vertices), 3, 5),
        regions={"face": (y > -0.5).float().view(-1), "nose": (x.abs() < 0.2).float().view(-1)},
    )
    return MorphableModel(arrays, "dome")


def test_any_model_survives_the_round_trip_through_face3ds_layout(dome, tmp_path):
    write_bfm(dome, tmp_path)
    loaded = load_bfm(tmp_path)
    faces = dome.sample(3, torch.Generator().manual_seed(0))
    assert_close(
        loaded(faces["identity"], faces["expression"]),
        dome(faces["identity"], faces["expression"]),
        atol=TOLERANCE_MM,
        rtol=0.0,
    )
    assert_close(loaded.albedo(faces["albedo"]), dome.albedo(faces["albedo"]))
    assert_close(loaded.uv, dome.uv)
    assert torch.equal(loaded.faces, dome.faces)
    assert torch.equal(loaded.landmark_index, dome.landmark_index)
    assert loaded.regions.keys() == dome.regions.keys()
    for name, weight in dome.regions.items():
        assert_close(loaded.regions[name], weight)


def test_files_have_the_real_models_lengths_and_units(dome, tmp_path):
    write_bfm(dome, tmp_path)
    model = scipy.io.loadmat(tmp_path / "BFM.mat")["model"][0, 0]
    count = len(dome.mean)
    assert model["shapePC"].shape == (3 * count, 199)
    assert model["expPC"].shape == (3 * count, 29)
    assert model["texPC"].shape == (3 * count, 199)
    assert model["kpt_ind"].shape == (1, 68)
    assert model["tri"].min() == 1
    np.testing.assert_allclose(model["shapeMU"].reshape(-1, 3), dome.mean * 1000, rtol=1e-6)


def test_raw_coefficients_are_standard_deviations_times_coefficients(standin, reference):
    raw = read_bfm(reference / "prn" / "standin_BFM.mat")
    case = np.load(reference / "prn" / "posmap_case1.npz")
    # face3d's own loader gave these vertices, in micrometres.
    found = raw.vertices(case["Shape_Para"], case["Exp_Para"])
    assert_close(found, case["vertices_model"], atol=TOLERANCE_MM * 1e3, rtol=0.0)
    identity = torch.from_numpy(case["Shape_Para"].T).float() / standin.identity_std
    expression = torch.from_numpy(case["Exp_Para"].T).float() / standin.expression_std
    vertices = standin(identity, expression)[0]
    assert_close(vertices, case["vertices_model"] / 1000, atol=TOLERANCE_MM, rtol=0.0)


def test_the_whole_standin_faces_outwards(standin):
    corners = standin.mean[standin.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert normals.sum(0)[2] > 0
    edges = torch.cat([standin.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    assert len(edges.unique(dim=0)) == len(edges), "two triangles run along an edge the same way"


def test_winding_of_shuffled_pieces_is_recovered():
    """Two boxes (closed), triangles flipped at random: all end up pointing outwards."""
    box = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    quads = np.array(sides)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    vertices = np.concatenate([box * 10, box * 4 + [20, 0, 3]])
    faces = np.concatenate([faces, faces + 8])
    flip = np.random.default_rng(0).random(len(faces)) < 0.5
    faces[flip] = faces[flip][:, [0, 2, 1]]
    found = outward_faces(vertices, faces)
    corners = vertices[found]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centres = np.repeat([vertices[:8].mean(0), vertices[8:].mean(0)], 12, axis=0)
    assert (np.einsum("fi,fi->f", normals, corners.mean(1) - centres) > 0).all()


def test_face_outline_matches_prnets_face_region(reference):
    wanted = np.zeros(256 * 256, bool)
    wanted[np.load(reference / "prn" / "uv_data.npz")["face_ind"]] = True
    row, column = np.divmod(np.arange(256 * 256), 256)
    found = face_outline_weights(np.stack([column / 255, 1 - row / 255], axis=1)) > 0
    assert (found & wanted).sum() / (found | wanted).sum() > 0.997


def test_every_problem_is_named_in_one_message(dome, tmp_path):
    write_bfm(dome, tmp_path)
    model = scipy.io.loadmat(tmp_path / "BFM.mat")["model"][0, 0]
    fields = {name: model[name] for name in model.dtype.names}
    del fields["kpt_ind"]
    fields["tri"] = fields["tri"] - 1
    fields["expPC"] = fields["expPC"][:-3]
    fields["texMU"] = fields["texMU"] * np.nan
    scipy.io.savemat(tmp_path / "BFM.mat", {"model": fields})
    (tmp_path / "BFM_UV.mat").unlink()
    with pytest.raises(ValueError, match="cannot be used") as caught:
        load_bfm(tmp_path)
    for part in ("no field 'kpt_ind'", "'tri' should count from 1", "'expPC' should have 432 rows",
                 "'texMU' has 432 NaN", "BFM_UV.mat not found", "(144, 2)"):  # fmt: skip
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(shapeMU=f["shapeMU"] / 1000), "millimetres.*multiply.*1000"),
        (lambda f: f.update(shapeEV=f["shapeEV"][:100]), r"'shapeEV' should be \(199, 1\)"),
        (lambda f: f.update(shapeEV=np.sort(f["shapeEV"], axis=0)), "descend"),
        (lambda f: f.update(kpt_ind=f["kpt_ind"] * 50), "'kpt_ind' names vertex"),
    ],
)
def test_wrong_units_and_lengths_are_named(dome, tmp_path, change, message):
    write_bfm(dome, tmp_path)
    model = scipy.io.loadmat(tmp_path / "BFM.mat")["model"][0, 0]
    fields = {name: model[name] for name in model.dtype.names}
    change(fields)
    scipy.io.savemat(tmp_path / "BFM.mat", {"model": fields})
    with pytest.raises(ValueError, match=message):
        load_bfm(tmp_path)


def test_the_original_file_and_absent_files_get_advice(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected .*BFM\.mat"):
        load_bfm(tmp_path)
    scipy.io.savemat(tmp_path / "BFM.mat", {"shapeMU": np.zeros((160470, 1), np.float32)})
    with pytest.raises(ValueError, match="untrimmed original"):
        load_bfm(tmp_path)
