from dataclasses import replace

import pytest
import torch

from lit_face.methods.sh_brdf.predictor import LandmarkPredictor
from lit_face.methods.sh_brdf.refinement import Refinement
from lit_face.methods.sh_brdf.start import landmark_start
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import material_of
from tests.helpers.faces import head
from tests.helpers.tolerances import assert_close
from tests.methods.test_sh_brdf import attributes

SIZE = 64
WEIGHTS = {
    "photo": 1.0,
    "landmark": 300.0,
    "prior_identity": 3e-3,
    "prior_expression": 3e-3,
    "prior_albedo": 3e-3,
    "light_grey": 1e-2,
    "consistency_diffuse": 0.1,
}


def refinement(steps, **options):
    return Refinement(RasterMaterialRenderer(), WEIGHTS, steps, **options)


@pytest.fixture(scope="module")
def predictor():
    return LandmarkPredictor(head(), image_size=SIZE, map_size=32, margin=1.6)


@pytest.fixture(scope="module")
def truth(predictor):
    """Two faces and their pictures."""
    raw = attributes(predictor.reader, 2, seed=3)
    face = predictor.reader(raw, SIZE)
    picture = RasterMaterialRenderer()(
        face.vertices, face.faces, face.uv, face.camera, (SIZE, SIZE), material_of(face), face.light
    )
    return face, linear_to_srgb(picture.image).clamp(0, 1), picture.mask


def test_landmarks_give_pose_and_shape(predictor, truth):
    face, *_ = truth
    raw = landmark_start(predictor.reader, face.landmarks, SIZE)
    found = predictor.reader(raw, SIZE)
    inner = slice(17, 68)
    distance = (found.landmarks - face.landmarks)[:, inner, :2].norm(dim=-1).mean()
    assert distance < 0.02 * SIZE
    angle = (found.camera.rotation @ face.camera.rotation.mT).diagonal(dim1=1, dim2=2).sum(1)
    assert (angle > 2.96).all()  # cosine of the angle between them is (trace - 1) / 2


@pytest.mark.learn
def test_refinement_explains_the_photo(predictor, truth):
    face, photo, mask = truth
    found = predictor.reader, photo, face.landmarks[..., :2]
    refined = refinement(40)(*found, skin_mask=mask, follow_contour=False)
    assert (refined.after["photo_l1"] < 0.35 * refined.before["photo_l1"]).all()
    assert (refined.after["landmarks_px"] < refined.before["landmarks_px"]).all()
    only_start = refinement(0)(*found, skin_mask=mask, follow_contour=False)
    assert_close(only_start.after["photo_l1"], refined.before["photo_l1"])


def test_photos_of_one_person_share_what_belongs_to_the_person(predictor, truth):
    face, photo, _ = truth
    refined = refinement(8, shared_identity=True)(
        predictor.reader, photo, face.landmarks, follow_contour=False
    ).face
    for name in ("identity", "albedo"):
        assert torch.equal(refined.coefficients[name][0], refined.coefficients[name][1])
    assert_close(refined.textures["diffuse"][0], refined.textures["diffuse"][1])
    first, second = refined.coefficients["expression"]
    assert not torch.equal(first, second)
    assert not torch.equal(refined.light[0], refined.light[1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda photo, mask: (0 * photo, mask),  # a black picture
        lambda photo, mask: (photo, 0 * mask),  # no skin
        lambda photo, mask: (photo, mask * (torch.arange(SIZE) < SIZE / 2)),  # half a face
        lambda photo, mask: (photo, None),
    ],
    ids=["black", "no skin", "half", "no mask"],
)
def test_poor_photos_give_finite_faces(predictor, truth, spoil):
    face, photo, mask = truth
    photo, mask = spoil(photo, mask)
    found = refinement(6)(predictor.reader, photo, face.landmarks, skin_mask=mask)
    for value in (found.face.image_vertices, found.face.light, *found.face.textures.values()):
        assert value.isfinite().all()
    for value in (*found.after.values(), *found.before.values()):
        assert value.isfinite().all()


def test_what_cannot_be_used_is_refused_by_name(predictor, truth):
    face, photo, mask = truth
    run, reader, points = refinement(2), predictor.reader, face.landmarks
    bad = points.clone()
    bad[1, 3, 0] = float("nan")
    with pytest.raises(ValueError, match="landmarks of face 1 hold NaN"):
        run(reader, photo, bad)
    with pytest.raises(ValueError, match="face 0 lie in one"):
        run(reader, photo, 0 * points)
    with pytest.raises(ValueError, match="skin_mask should be"):
        run(reader, photo, points, skin_mask=mask[..., :-1])
    with pytest.raises(ValueError, match="image holds NaN"):
        run(reader, photo * float("nan"), points)
    with pytest.raises(ValueError, match=r"Pictures should be \(B,3,S,S\)"):
        run(reader, photo[..., :-1], points)
    with pytest.raises(ValueError, match="0 or more steps"):
        refinement(-1)
    raw = attributes(reader, 2)
    raw["light"] = raw["light"] * float("nan")
    with pytest.raises(ValueError, match="light"):
        run(reader, photo, points, start=raw)


def test_a_batch_is_refined_as_its_photos_alone(predictor, truth):
    face, photo, mask = truth
    options = {"follow_contour": False}
    both = refinement(6)(predictor.reader, photo, face.landmarks, skin_mask=mask, **options).face
    one = refinement(6)(
        predictor.reader, photo[:1], face.landmarks[:1], skin_mask=mask[:1], **options
    ).face
    # Adam divides by the gradients' size: only rounding and its small constant differ.
    assert_close(both.image_vertices[:1], one.image_vertices, atol=0.05, rtol=0)
    assert_close(both.light[:1], one.light, atol=0.01, rtol=0)
    assert replace(one).unit == "mm"
