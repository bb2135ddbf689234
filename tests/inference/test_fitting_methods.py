"""Methods that fit each photo: landmarks and masks by file, and what is written about the fit."""

import csv

import cv2
import numpy as np
import pytest
import torch

from lit_face.data.texture_maps import read_texture_map
from lit_face.inference.finders.base import Detection
from lit_face.inference.finders.cascade import CascadeFinder
from lit_face.inference.finders.folder import FolderFinder
from lit_face.inference.model import FaceModel
from lit_face.inference.outputs import OUTPUTS, Export, ExportSettings
from lit_face.inference.scene import FaceScene
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.rendering.scene import is_matte, material_of, render_face
from tests.helpers.lit_photos import landmark_predictor, lit_photos

SIZE = 160


@pytest.fixture(scope="module")
def scene():
    return lit_photos(1, size=SIZE, angles_deg=((5.0, 20.0, -4.0),))


@pytest.fixture
def folders(scene, tmp_path):
    """Photos a.png and below/a.png, landmarks for both, a mask of the left half for both."""
    (photo,), (face,) = scene
    for place in ("photos", "photos/below", "landmarks", "landmarks/below", "masks"):
        (tmp_path / place).mkdir(parents=True)
    points = face.landmarks[:, :2].astype(np.float64)
    for name, shift in (("a", 0.0), ("below/a", 3.0)):
        cv2.imwrite(str(tmp_path / f"photos/{name}.png"), photo[..., ::-1])
        np.save(tmp_path / f"landmarks/{name}.npy", points + shift)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 2] = 7
    cv2.imwrite(str(tmp_path / "masks/a.png"), mask)
    return tmp_path


def test_a_folder_of_landmarks_and_masks(scene, folders):
    (photo,), (face,) = scene
    finder = FolderFinder(str(folders / "landmarks"), str(folders / "masks"))
    (found,) = finder(photo, folders / "photos/a.png")
    np.testing.assert_allclose(found.landmarks, face.landmarks[:, :2], atol=1e-4)
    np.testing.assert_allclose(found.box[:2], face.landmarks[:, :2].min(0), atol=1e-4)
    assert (found.skin_mask[:, : SIZE // 2] == 255).all()
    assert not found.skin_mask[:, SIZE // 2 :].any()
    (below,) = finder(photo, folders / "photos/below/a.png")
    np.testing.assert_allclose(below.landmarks, face.landmarks[:, :2] + 3, atol=1e-4)
    assert finder(photo, folders / "photos/b.png") == []
    assert finder.sources == [folders / "landmarks", folders / "masks"]


def test_what_a_folder_lacks_is_named(scene, folders):
    (photo,), _ = scene
    with pytest.raises(FileNotFoundError, match=r"finder\.masks=nowhere: there is no such folder"):
        FolderFinder(str(folders / "landmarks"), "nowhere")
    finder = FolderFinder(str(folders / "landmarks"), str(folders / "masks"))
    (folders / "masks/a.png").unlink()
    with pytest.raises(ValueError, match=r"has no a\.png and no a\.npy"):
        finder(photo, folders / "photos/a.png")
    np.save(folders / "landmarks/a.npy", np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"\(68,2\)"):
        finder(photo, folders / "photos/a.png")


class Watcher(torch.nn.Module):
    """Passes on what it is given, and finds the true face."""

    starts_from_landmarks, image_size, margin = True, 64, 1.6

    def __init__(self):
        super().__init__()
        self.inner, self.masks = landmark_predictor(64), None

    def refine(self, images, landmarks, refinement, are_detected, skin_mask=None):
        from tests.helpers.lit_photos import refinement as settings

        self.masks = skin_mask
        found = self.inner.refine(images, landmarks, settings(0), True, None)
        trace = {"total": torch.tensor([[3.0, 2.0, 1.0]])}
        return type("Refined", (), {**found._asdict(), "trace": trace})()


def test_masks_follow_the_crop_and_traces_the_face(scene):
    (photo,), (face,) = scene
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:, : SIZE // 2] = 255
    points = face.landmarks[:, :2].astype(np.float64)
    detection = Detection(face.box, 1.0, points, mask)
    watcher = Watcher()
    ((found,),) = FaceModel(watcher, device="cpu").reconstruct_found([photo], [[detection]])
    assert watcher.masks.shape == (1, 1, 64, 64)
    centre, side = points.min(0) + np.ptp(points, 0) / 2, 1.6 * np.ptp(points, 0).mean()
    expected = 64 * ((SIZE / 2 - 0.5 - centre[0]) / side + 0.5)  # where the mask ends in the crop
    row = watcher.masks[0, 0, 32]
    assert row.sum().item() == pytest.approx(expected, abs=1.0)
    assert found.trace == {"total": [3.0, 2.0, 1.0]}
    assert found.skin_mask is mask


def test_a_finder_without_landmarks_is_refused_before_any_photo():
    with pytest.raises(ValueError, match=r"needs its 68 landmarks: take finder=file"):
        FaceModel(Watcher(), CascadeFinder(), device="cpu")


@pytest.fixture(scope="module")
def matte(scene):
    """The true face without highlights, and the photo that shows it."""
    _, (face,) = scene
    from dataclasses import replace

    true = face.reconstruction
    bare = replace(true, textures={"diffuse": true.textures["diffuse"]}, transfer=None)
    shown = render_face(RasterMaterialRenderer(), bare, (SIZE, SIZE))
    pixels = linear_to_srgb(shown.image).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    photo = np.rint(255 * pixels).astype(np.uint8)
    return Export(replace(face, reconstruction=bare), photo, ExportSettings(texture_size=128))


def test_a_face_without_specular_albedo_has_no_highlights(matte):
    face = matte.face.reconstruction
    assert is_matte(face)
    assert not material_of(face).specular.any()
    shown = render_face(RasterMaterialRenderer(), face, (SIZE, SIZE)).image
    none = render_face(RasterMaterialRenderer(specular="none"), face, (SIZE, SIZE)).image
    assert torch.equal(shown, none)
    assert not FaceScene.of(face, matte.photo).specular().image.any()


def test_the_albedo_that_the_photo_shows_is_the_true_one(matte, tmp_path):
    OUTPUTS["uv"](matte, tmp_path)
    found = read_texture_map(tmp_path / "uv.npz")
    assert found.size == 128
    assert 0.15 < found.visible.mean() < 0.7
    from lit_face.morphable_models.texture_space import sample_texture

    true = matte.face.reconstruction.textures["diffuse"]
    # Texel-centred places of the corner-aligned truth.
    side = (torch.arange(128) + 0.5) / 128
    places = torch.stack(torch.meshgrid(1 - side, side, indexing="ij")[::-1], -1)[None]
    size = true.shape[-1]
    shifted = (places * (size - 1) + 0.5) / size
    wanted = sample_texture(true, shifted)[0].permute(1, 2, 0).numpy()
    measured = srgb_to_linear(torch.from_numpy(found.color / np.float32(255))).numpy()
    error = np.abs(measured - wanted).mean(-1)[found.visible]
    assert np.median(error) < 0.01
    assert error.mean() < 0.03


def test_parameters_and_trace_are_plain_numbers(matte, tmp_path):
    from dataclasses import replace

    face = replace(matte.face, trace={"total": [2.0, 1.0], "landmark": [1.0, 0.5]})
    export = replace(matte, face=face)
    OUTPUTS["parameters"](export, tmp_path)
    OUTPUTS["trace"](export, tmp_path)
    with np.load(tmp_path / "parameters.npz", allow_pickle=False) as stored:
        names = set(stored.files)
        assert {"identity", "expression", "light", "unit", "version"} <= names
        np.testing.assert_array_equal(
            stored["identity"], face.reconstruction.coefficients["identity"][0]
        )
    with (tmp_path / "trace.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["total"]) for row in rows] == [2.0, 1.0]
    assert rows[1]["step"] == "1"
