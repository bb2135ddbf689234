"""The refiner's losses, masks and sampled colours: shared/reference/gcn/losses."""

import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.geometry.meshes import vertex_normals
from lit_face.methods.deep3d.face import head_rotation
from lit_face.methods.deep3d.light import to_radiance
from lit_face.methods.gcn import losses
from lit_face.methods.gcn.sampling import erode_skin, sample_colours, seen_vertices
from lit_face.methods.gcn.schedule import ramps
from lit_face.rendering.shade import sh_shading
from tests.helpers.tolerances import assert_close
from tests.parity.test_gcn import reference_critic

TO_CAMERA = torch.tensor([1.0, -1.0, -1.0])
FOCAL, CENTRE, DISTANCE = 1015.0, 112.0, 10.0
SIZE = (224, 224)


def read(reference, name):
    with np.load(reference / "gcn" / "losses" / f"{name}.npz") as stored:
        return {
            key: torch.from_numpy(np.asarray(stored[key]))
            if stored[key].dtype.kind != "U"
            else stored[key]
            for key in stored.files
        }


def planes(pictures):
    """Rows, columns, channels to channels first."""
    return pictures.permute(0, 3, 1, 2).float()


@pytest.fixture(params=[0, 1])
def golden(request, reference):
    return read(reference, f"gcn_loss_{request.param}")


def terms_of(golden):
    photo, coarse, fine = (planes(golden[k]) for k in ("input_image", "pca_render", "gcn_render"))
    mask = fine[:, 3:].round() * planes(golden["eroded"])
    sampled = golden["proj_color"]
    pairs = torch.stack([golden["left_index"], golden["right_index"]], dim=1)
    lit, lit_coarse = golden["gcn_color"], golden["pca_color"]
    return {
        "pca_render": losses.pixel_l1(photo[:, :3], coarse[:, :3], mask),
        "gcn_render": losses.pixel_l1(photo[:, :3], fine[:, :3], mask),
        "project": losses.project(lit, sampled[..., :3], sampled[..., 3], lit_coarse),
        "refine": losses.vertex(golden["gcn_texture"], golden["pca_texture"]),
        "perception": losses.identity(golden["input_feat"], golden["gcn_feat"]),
        "variance": losses.variance(golden["gcn_texture"], golden["skin_index"]),
        "symmetry": losses.symmetry(golden["gcn_texture"], pairs),
    }


def test_terms(golden):
    expected = dict(zip(golden["names"].tolist(), golden["losses_epoch0"], strict=True))
    terms = terms_of(golden)
    assert sorted([*terms, "total"]) == sorted(golden["names"].tolist())
    for name, value in terms.items():
        assert_close(value, expected[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("epoch", [0, 1, 3, 5, 20])
def test_totals(golden, epoch):
    terms, (rise, fall) = terms_of(golden), ramps(epoch)
    to_photo = terms["project"] + 0.2 * terms["perception"]
    to_photo = to_photo + 0.5 * terms["symmetry"] + 0.01 * terms["variance"]
    total = rise * to_photo + fall * terms["refine"] + 5e-4 * golden["l2_sum"]
    expected = dict(zip(golden["names"].tolist(), golden[f"losses_epoch{epoch}"], strict=True))
    assert_close(total, expected["total"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("number", [0, 1])
def test_erosion(reference, number):
    golden = read(reference, f"erosion_{number}")
    found = erode_skin(planes(golden["alpha"]))
    assert found.any()
    assert torch.equal(found, planes(golden["eroded"]))


@pytest.fixture(params=[0, 1])
def scene(request, reference):
    return read(reference, f"shade_project_{request.param}")


def test_normals_and_shading(scene):
    faces = scene["faces"].long()
    normals = vertex_normals(scene["vertices"], faces, by_area=True)
    assert_close(normals, scene["normal"], atol=1e-5)
    rotation = head_rotation(scene["angles"])
    assert_close(rotation.mT, scene["rotation"], atol=1e-5)
    turned = normals @ rotation.mT
    assert_close(turned, scene["normal_rot"], atol=1e-5)
    light = to_radiance(scene["gamma"].view(-1, 3, 9))
    lit = (scene["texture"] * sh_shading(turned * TO_CAMERA, light)).clamp(0, 1)
    assert_close(lit, scene["color"], atol=1e-5)


def image_points(scene):
    """Where the reference reads its picture, pixels; depth in decimetres."""
    intrinsics = torch.tensor([[FOCAL, 0, CENTRE], [0, FOCAL, CENTRE], [0, 0, 1.0]])
    count = len(scene["angles"])
    camera = PerspectiveCamera(
        intrinsics.expand(count, 3, 3),
        TO_CAMERA[:, None] * head_rotation(scene["angles"]),
        TO_CAMERA * scene["translation"] + torch.tensor([0.0, 0.0, DISTANCE]),
    )
    return camera.project(scene["vertices"])


def test_sampled_colours_and_visibility(scene):
    points = image_points(scene)
    assert_close((points[..., :2] - CENTRE) / CENTRE, scene["proj_ndc"], atol=1e-5)
    # The fourth channel is any number here; the reference takes it for the eroded skin.
    photo = planes(scene["image"])
    colours = sample_colours(photo, points[..., :2], "nearest")
    same = (colours - scene["sampled"]).abs().amax(-1) < 1e-5
    assert same.float().mean() >= 0.995
    facing = scene["normal_rot"][..., 2] > 0
    faces, skin = scene["faces"].long(), (photo[:, 3:] >= 0.5).float()
    seen = seen_vertices(points, faces, SIZE, skin, depth_test=False, facing=facing)
    # The reference reads the border's color, and sees, where a vertex lies outside of the picture.
    inside = ((points[..., :2] >= -0.5) & (points[..., :2] <= SIZE[0] - 0.5)).all(-1)
    theirs = (scene["proj_color"][..., 3] >= 0.5).float()
    assert 0.1 < theirs[inside].mean() < 0.9
    assert (seen == theirs)[inside].float().mean() >= 0.995
    assert not seen[~inside].any()


@pytest.mark.parametrize("number", [0, 1])
def test_critic_and_penalty(reference, number):
    golden = read(reference, f"disc_{number}")
    network = reference_critic(golden).eval()
    random = np.random.RandomState(int(golden["seed"]))
    shape = (int(golden["batch"]), 224, 224, 3)
    real, fake = (planes(torch.from_numpy(random.uniform(-1, 1, shape))) for _ in range(2))
    mix = golden["epsilon"].expand(len(real), 1, 1, 1)
    penalty = losses.gradient_penalty(network, real, fake, mix, float(golden["gp_scale"]))
    with torch.no_grad():
        of_real, of_fake = network(real), network(fake)
    scale = float(golden["adv_lambda"])
    loss = scale * (losses.critic(of_real, of_fake) + penalty.detach())
    assert_close(loss, golden["d_loss_eval"], atol=2e-5, rtol=0)
    assert_close(scale * losses.adversarial(of_fake), golden["g_loss_eval"], atol=1e-6, rtol=0)
