"""A face and its light, taken apart and shown again: closed forms of what must not change."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_face.geometry.pose import camera_angles
from lit_face.geometry.spherical_harmonics import sh_basis
from lit_face.inference.outputs import Export
from lit_face.inference.scene import FaceScene, over
from lit_face.rendering.color import srgb_to_linear
from lit_face.rendering.scene import can_be_rendered
from tests.helpers.lit_photos import BACKGROUND, lit_photos
from tests.helpers.photos import portraits, true_faces
from tests.helpers.tolerances import assert_close

ANGLES = ((8.0, 25.0, -6.0), (-5.0, -30.0, 4.0))


@pytest.fixture(scope="module")
def faces():
    return lit_photos(2, size=160, angles_deg=ANGLES)


@pytest.fixture(scope="module", params=[0, 1])
def scene(request, faces):
    photos, found = faces
    return Export(found[request.param], photos[request.param]).scene


def inside(mask):
    """The pixels whose neighbours all show the face: (1,1,S,S) bool."""
    return -torch.nn.functional.max_pool2d(-mask, 7, 1, 3) > 0.99


def test_the_rendered_landmarks_lie_on_those_of_the_crop(faces, scene):
    head, (photos, found) = scene.face, faces
    face = next(one for one in found if torch.equal(one.reconstruction.light, scene.light))
    landmarks = face.reconstruction.landmarks[0].double()
    nearest = torch.cdist(landmarks, face.reconstruction.image_vertices[0].double()).argmin(1)
    projected = scene.camera.project(head.vertices)[0, nearest, :2]
    points = face.landmarks[:, :2]
    side = np.trunc(2.0 * np.ptp(points, axis=0).mean())  # the crop is twice the landmarks' box
    scale, centre = 255 / side, (points.max(0) + points.min(0)) / 2
    expected = (points - centre) * scale + 127.5
    assert_close(projected, torch.from_numpy(expected), atol=0.05, rtol=0)
    assert photos[0].shape == (160, 160, 3)


def test_a_face_in_its_own_light_is_its_photo(scene):
    picture = scene.render()
    seen = inside(picture.mask)
    assert seen.sum() > 8000
    difference = (over(picture, scene.photo) - scene.photo).abs()
    assert difference[seen.expand(-1, 3, -1, -1)].mean() < 0.01
    nothing = inside(1 - picture.mask) & (scene.photo.amax(1, keepdim=True) > 0)
    assert_close(scene.photo.mean(1, keepdim=True)[nothing].median(), BACKGROUND, atol=0.01, rtol=0)


def test_parts_add_up_to_the_picture(scene):
    """Diffuse and specular are separate terms; albedo is what white light shows."""
    own, mirror = scene.render(), scene.specular()
    matte = scene.render(specular="none")
    assert_close(own.image, matte.image + mirror.image, atol=1e-5, rtol=0)
    assert (mirror.image.mean() / own.image.mean()) < 0.5
    shown = scene.albedo().image[0][:, inside(own.mask)[0, 0]]
    diffuse = scene.material.diffuse[0]
    for channel in range(3):
        assert shown[channel].max() <= diffuse[channel].max() + 1e-4
        assert shown[channel].min() >= diffuse[channel].min() - 1e-4


def test_light_turned_by_nothing_or_all_around_is_the_same(scene):
    own = scene.render().image
    assert_close(scene.relit(0).image, own, atol=1e-5, rtol=0)
    assert_close(scene.relit(360).image, own, atol=1e-4, rtol=0)
    assert (scene.relit(90).image - own).abs().max() > 0.05


def lit_from(scene, direction):
    """The scene in a lamp at `direction`, camera frame, of one band: no side is dark."""
    light = torch.zeros(1, 25, 3)
    towards = torch.nn.functional.normalize(torch.tensor([direction]), dim=-1)
    light[:, :4] = 2 * sh_basis(towards, 2)[0, None, :, None]
    return FaceScene(replace(scene.face, light=light), scene.photo)


def test_a_quarter_turn_brings_the_viewers_light_to_the_left(scene):
    sides = lit_from(scene, [0.0, 0.0, -1.0]).relit(90).image
    expected = lit_from(scene, [-1.0, 0.0, 0.0]).render().image
    assert_close(sides, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("direction", "row", "column"),
    [
        ([0.0, -1.0, 0.0], 0, None),  # the sky
        ([0.0, 1.0, 0.0], 63, None),  # the ground
        ([0.0, 0.0, 1.0], 32, 64),  # behind the face: where the camera looks
        ([-1.0, 0.0, 0.0], 32, 32),  # to the left of the photo
        ([1.0, 0.0, 0.0], 32, 96),  # to the right
    ],
)
def test_the_light_map_is_what_the_camera_sees_all_around(scene, direction, row, column):
    light = lit_from(scene, direction).light_map()[..., 0]
    brightest = divmod(int(light.argmax()), 128)
    assert abs(brightest[0] - row) <= 1
    if column is not None:
        assert abs(brightest[1] - column) <= 1
    else:
        assert light[row].min() > 0.95 * light.max()
        assert light[63 - row].max() < 0.2 * light.max()


@pytest.mark.parametrize("angles", [(0, -45), (0, 30), (20, 0), (-15, 40)])
def test_reposed_cameras_have_the_angles_of_faces(scene, angles):
    """Positive yaw turns the nose to the left, positive pitch looks up."""
    pitch, yaw = angles
    camera = scene.reposed_camera(yaw, pitch)
    found = torch.rad2deg(camera_angles(camera))[0]
    assert_close(found, torch.tensor([pitch, yaw, 0.0]), atol=1e-3, rtol=0)
    points = camera.project(scene.face.vertices)[0]
    nose = points[scene.face.vertices[0, :, 2].argmax()]
    middle = camera.project(torch.zeros(1, 1, 3))[0, 0]
    if yaw:
        assert (nose[0] < middle[0]) == (yaw > 0)
    straight = scene.reposed_camera(0).project(scene.face.vertices)[0]
    if pitch and not yaw:
        tip = straight[scene.face.vertices[0, :, 2].argmax()]
        assert (nose[1] < tip[1]) == (pitch > 0)


def test_the_mask_says_where_the_face_is(scene):
    picture = scene.render()
    assert 0.15 < picture.mask.mean() < 0.9
    black, photo = torch.zeros_like(scene.photo), scene.photo
    nowhere = picture.mask == 0
    assert (over(picture, black)[nowhere.expand(-1, 3, -1, -1)] == 0).all()
    assert torch.equal(
        over(picture, photo)[nowhere.expand(-1, 3, -1, -1)],
        photo[nowhere.expand(-1, 3, -1, -1)],
    )
    grey = scene.geometry().image
    assert_close(grey[:, 0], grey[:, 2], atol=1e-6)
    assert (srgb_to_linear(photo) >= 0).all()


def test_shadows_darken_the_picture_and_not_the_albedo(scene):
    """An ambient occlusion of one half halves the light, diffuse and specular apart."""
    count = scene.face.vertices.shape[1]
    shaded = FaceScene(replace(scene.face, transfer=torch.full((count, 1), 0.5)), scene.photo)
    assert torch.equal(shaded.albedo().image, scene.albedo().image)
    own, dark = (one.render(specular="none").image for one in (scene, shaded))
    assert_close(dark, own / 2, atol=1e-5, rtol=0)
    assert (shaded.geometry().image <= scene.geometry().image + 1e-6).all()


def test_a_face_without_albedo_is_refused_by_name():
    pictures, _, coefficients, camera, _ = portraits([[0, 0, 0]], size=120)
    (face,) = true_faces(coefficients, camera, (120, 120), 64)
    assert not can_be_rendered(face.reconstruction)
    with pytest.raises(ValueError, match=r"maps, light, strip, relit and reposed .*sh_brdf"):
        Export(face, pictures[0]).scene  # noqa: B018
