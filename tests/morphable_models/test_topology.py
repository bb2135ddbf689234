import numpy as np
import pytest
import torch

from lit_face.geometry.uv import texel_uv
from lit_face.morphable_models.base import ModelArrays, MorphableModel
from lit_face.morphable_models.procedural import procedural_head
from lit_face.morphable_models.statismo import NAMED_LANDMARKS
from lit_face.morphable_models.texels import TexelCorrespondence
from lit_face.morphable_models.topology import TopologyTransfer, with_albedo_of
from tests.helpers.tolerances import assert_close

NAMED = sorted(NAMED_LANDMARKS.values())  # a dozen points are known
OTHERS = [i for i in range(17, 68) if i not in NAMED]
NARROW_VERTICES, NARROW_FACES = 6706, 13120


def mesh_model(mean, faces, landmarks, name):
    """A model of a mesh and nothing else."""
    zeros = torch.zeros(len(mean), 3, 1)
    arrays = ModelArrays(
        mean=mean, faces=faces, uv=torch.zeros(len(mean), 2), landmark_index=landmarks,
        identity_basis=zeros, expression_basis=zeros, identity_std=torch.ones(1),
        expression_std=torch.ones(1), albedo_mean=zeros[..., 0], albedo_basis=zeros,
        regions={"face": torch.ones(len(mean))},
    )  # fmt: skip
    return MorphableModel(arrays, name)


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def scanned(reference):
    """ICT-FaceKit's narrow face, millimetres, and its own 68 landmarks."""
    with np.load(reference / "ict_facekit" / "ict_facekit.npz", allow_pickle=False) as stored:
        mean = torch.from_numpy(stored["neutral"][:NARROW_VERTICES] * 10)
        faces = torch.from_numpy(stored["faces"][:NARROW_FACES]).long()
        return mesh_model(mean, faces, torch.from_numpy(stored["landmarks68"]).long(), "scanned")


def test_landmarks_go_to_another_topology_and_come_back(head, scanned):
    """A dozen of them are given; of the others the errors are measured, without the jaw line."""
    anchors = {i: int(scanned.landmark_index[i]) for i in NAMED}
    there = TopologyTransfer(head, scanned.mean, scanned.faces, anchors)
    index = there.landmark_index()
    assert torch.equal(index[NAMED], scanned.landmark_index[NAMED])
    error = (scanned.mean[index] - scanned.mean[scanned.landmark_index]).norm(dim=1)[OTHERS]
    assert error.mean() < 4.0  # mm, against the release's own points: measured 2.3
    guessed = mesh_model(scanned.mean, scanned.faces, index, "guessed")
    own = {i: int(head.landmark_index[i]) for i in NAMED}
    back = TopologyTransfer(guessed, head.mean, head.faces, own).surface_landmarks()
    error = (back - head.mean[head.landmark_index]).norm(dim=1)[OTHERS]
    assert error.mean() < 2.0  # mm; measured 1.2
    assert error.max() < 5.0
    carried = there.attributes(head.mean)  # a point of the head for every vertex
    assert carried.shape == scanned.mean.shape
    face = there.regions()["face"] > 0.5
    assert face.float().mean() > 0.85


def test_a_model_is_its_own_neighbour(head):
    transfer = TopologyTransfer.between(head, head)
    outside = head.regions["mouth_interior"] < 0.5
    assert transfer.points.distance[outside].quantile(0.99) < 0.05
    assert torch.equal(transfer.landmark_index(), head.landmark_index)
    mean, basis = transfer.albedo()
    assert (mean - head.albedo_mean).abs().amax(1)[outside].quantile(0.99) < 0.01
    assert (basis - head.albedo_basis)[outside].abs().flatten().sort().values[-2000] < 0.02
    plain = mesh_model(head.mean, head.faces, head.landmark_index, "plain")
    arrays = {name: getattr(plain, name) for name in ModelArrays.__dataclass_fields__
              if name not in ("regions", "texture_detail")}  # fmt: skip
    painted = MorphableModel(with_albedo_of(ModelArrays(**arrays), transfer), "painted")
    coefficients = head.sample(1, torch.Generator().manual_seed(0))["albedo"]
    error = (painted.albedo(coefficients) - head.albedo(coefficients))[0, outside].abs()
    assert error.flatten().kthvalue(int(0.99 * error.numel())).values < 0.02


def test_anchors_are_checked(head):
    with pytest.raises(ValueError, match="at least 4 anchors, found 2"):
        TopologyTransfer(head, head.mean, head.faces, {30: 5, 8: 7})
    with pytest.raises(ValueError, match="anchor 70 -> vertex 3"):
        TopologyTransfer(head, head.mean, head.faces, {70: 3, 1: 1, 2: 2, 4: 4})


def test_texels_and_vertices_read_each_other(head):
    pair = TexelCorrespondence(head, 256)
    # Coordinates are linear in themselves: barycentric and bilinear weights give them exactly.
    places = texel_uv(pair.texels, 256)
    assert_close(pair.to_texels(head.uv), places)
    found, wanted = pair.to_vertices(places), head.uv[pair.vertices]
    error = (found - wanted).norm(dim=1) * 255
    assert error.median() < 1e-4
    assert error.max() < 1.0  # texels; at the border of the face
    there_and_back = pair.to_vertices(pair.to_texels(head.mean))
    error = (there_and_back - head.mean[pair.vertices]).norm(dim=1)
    assert error.mean() < 0.3  # mm; the head's triangles are several texels wide
    face = head.regions["face"][pair.vertices]
    assert (face > 0.2).float().mean() > 0.99


def test_prnets_texels_are_read_in_prnets_order(head, reference):
    with np.load(reference / "prn" / "uv_data.npz") as stored:
        texels = torch.from_numpy(stored["face_ind"]).long()
    pair = TexelCorrespondence(head, 256, texels.flip(0))
    assert torch.equal(pair.texels, texels.flip(0))
    assert_close(pair.to_texels(head.uv), texel_uv(texels, 256).flip(0))
    with pytest.raises(ValueError, match="not all in a map of 200 x 200"):
        TexelCorrespondence(head, 200, texels)
    empty = mesh_model(head.mean, head.faces, head.landmark_index, "empty")
    empty.uv = head.uv * 0.5
    with pytest.raises(ValueError, match="covered by no triangle"):
        TexelCorrespondence(empty, 256, texels)
