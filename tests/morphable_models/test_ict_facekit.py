import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.morphable_models.ict_facekit import ict_facekit
from lit_face.morphable_models.ict_facekit.layout import NARROW_FACES, NARROW_VERTICES, PARTS
from lit_face.morphable_models.position_maps import PositionMaps
from lit_face.morphable_models.procedural.layout import MIRROR_68
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def model(reference):
    return ict_facekit(reference / "ict_facekit")


@pytest.fixture(scope="module")
def released(reference):
    with np.load(reference / "ict_facekit" / "ict_facekit.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def test_a_face_is_the_release_s_own_formula_in_mm(model, released):
    rng = np.random.default_rng(0)
    identity, weights = rng.standard_normal(100), rng.uniform(0, 1, 53)
    expected = released["neutral"].astype(np.float64)
    expected = expected + np.tensordot(identity, released["identity_deltas"].astype(np.float64), 1)
    expected = expected + np.tensordot(weights, released["expression_deltas"].astype(np.float64), 1)
    found = model(
        torch.from_numpy(identity)[None], torch.from_numpy(weights)[None] / model.expression_std
    )
    assert_close(found[0], 10 * expected[: len(model.mean)], atol=2e-3)


def test_the_map_of_the_face_has_no_folds_and_no_holes(model):
    faces = torch.cat([model.faces[:NARROW_FACES], model.closing_faces])
    a, b, c = model.uv[faces].unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (area > 0).all()
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    _, uses = edges.unique(dim=0, return_counts=True)
    assert set(uses.tolist()) == {1, 2}
    assert (uses == 1).sum() == 138  # the outline alone


def test_position_maps_hold_the_landmarks(model):
    maps = PositionMaps(model, 64)
    drawn = model.sample(4, torch.Generator().manual_seed(1))
    camera = AffineCamera.orthographic(
        torch.ones(4), torch.diag(torch.tensor([1.0, -1, -1])).expand(4, 3, 3), torch.zeros(4, 3)
    )
    values = maps({name: drawn[name] for name in ("identity", "expression")}, camera)
    texels, weights = maps.neighbours(model.uv[model.landmark_index])
    points = values.flatten(2)[:, :, maps.texels].mT[:, texels]
    read = (points * weights[..., None]).sum(2)
    true = model.landmarks(model(drawn["identity"], drawn["expression"])) * torch.tensor([1, -1, 1])
    error = (read - true)[..., :2].norm(dim=-1)
    assert error.mean() < 1.0  # mm; texels are 3 to 4 mm apart
    assert maps.mask.float().mean() > 0.75
    columns = torch.arange(64)
    for row in maps.mask[maps.mask.any(1)]:  # no holes where the eyes and the mouth are
        assert row.sum() == columns[row].max() - columns[row].min() + 1


def test_landmarks_are_symmetric_and_in_order(model):
    points = model.mean[model.landmark_index]
    assert points[16, 0] > 60 > -60 > points[0, 0]
    twin = points[torch.from_numpy(MIRROR_68)] * torch.tensor([-1.0, 1, 1])
    assert (points - twin).norm(dim=1).max() < 3.0


def test_skin_is_carried_to_the_right_places(model):
    albedo = model.albedo_mean
    points = model.landmark_index
    cheek = (model.mean[:NARROW_VERTICES] - torch.tensor([45.0, -30.0, 60.0])).norm(dim=1).argmin()
    redness = albedo[:, 0] - albedo[:, 1:].mean(1)
    assert redness[points[[51, 57, 62, 66]]].min() > redness[cheek] + 0.02
    brow = albedo[points[[18, 19, 20, 21, 22, 23, 24, 25]]].mean(1)  # not the thin outer ends
    assert brow.mean() < albedo[cheek].mean() - 0.1
    scalp = albedo[model.regions["scalp"] > 0.9].mean()
    assert scalp < albedo[cheek].mean() - 0.15
    teeth = slice(*PARTS["teeth"])
    assert model.albedo_basis[teeth].abs().max() == 0


def test_expressions_are_weights_from_nothing_to_all(model):
    weights = model.expression_bank * model.expression_std
    assert weights.min() >= 0
    assert weights.max() <= 1 + 1e-6
    names = model.expression_names
    smile = weights[:, [names.index("mouthSmile_L"), names.index("mouthSmile_R")]]
    assert np.corrcoef(smile.T.numpy())[0, 1] > 0.9
    assert (weights.sum(1) == 0).float().mean() > 0.05


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="ICT-VGL/ICT-FaceKit"):
        ict_facekit(None)
    with pytest.raises(FileNotFoundError, match=r"ict_facekit\.npz.*MIT"):
        ict_facekit(tmp_path)
    np.savez(tmp_path / "ict_facekit.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"'neutral' should be \(26719, 3\), found \(3, 3\)"):
        ict_facekit(tmp_path)
    (tmp_path / "ict_facekit.npz").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"not a readable"):
        ict_facekit(tmp_path)
