from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lit_face.benchmarks.celeba import CelebASkinBenchmark
from lit_face.benchmarks.celeba_errors import ColorErrors, shown_vertices
from lit_face.benchmarks.celeba_judges import Judges
from lit_face.data.ffhq_truth import TrueFaces, face_skin
from lit_face.identity import SmallEmbedder, weights_digest
from lit_face.rendering.color import linear_to_srgb, srgb_to_linear
from lit_face.rendering.renderer import RasterRenderer
from lit_face.types import FaceBatch, Reconstruction
from tests.helpers.faces import cameras, head

SIZE = 64


def judge(seed=0):
    torch.manual_seed(seed)
    return SmallEmbedder(8, features=16)


def face_and_batch(count=2, seed=0):
    """A face whose rendering is the photo, to the last bit."""
    model, generator = head(), torch.Generator().manual_seed(seed)
    who = model.sample(count, generator)
    camera = cameras(count, SIZE, seed, yaw_deg=20.0)
    vertices = model(who["identity"], who["expression"])
    colors = model.albedo(who["albedo"]).clamp(0.01, 1)
    light = torch.zeros(count, 9, 3)
    light[:, 0], light[:, 3] = 2.0, -0.5
    found = RasterRenderer()(vertices, model.faces, camera, (SIZE, SIZE), colors, light)
    points = camera.project(model.landmarks(vertices))
    face = Reconstruction(
        image_vertices=camera.project(vertices),
        vertices=vertices,
        faces=model.faces,
        uv=model.uv,
        landmarks=points,
        unit="mm",
        camera=camera,
        light=light,
        vertex_colors={"albedo": colors, "coarse_albedo": colors},
    )
    batch = FaceBatch(
        image=torch.where(found.mask > 0, found.image.clamp(0, 1), 0.3),
        landmarks=points,
        skin_mask=found.mask,
        sample_id=[str(row) for row in range(count)],
    )
    true = TrueFaces(
        vertices=vertices,
        diffuse=srgb_to_linear(colors),
        specular=torch.zeros(count, len(model.mean), 1),
        light=torch.zeros(count, 25, 3),
        camera=camera,
        person=torch.arange(count),
        tone_deg=torch.zeros(count),
    )
    return face, batch, true


def measure(judges=None):
    return ColorErrors(judges or Judges({"one": judge()}), head(), face_skin(head()))


def test_a_perfect_rendering_has_no_error_and_is_the_same_person():
    face, batch, true = face_and_batch()
    errors = measure()(face, "albedo", batch, true)
    for key in ("photo_l1", "photo_l21", "albedo", "albedo_gain_free", "albedo_shown"):
        np.testing.assert_allclose(errors[key], 0, atol=2e-6, err_msg=key)
    for key in ("ssim", "coverage", "identity_cosine_one", "identity_cosine_render_one"):
        np.testing.assert_allclose(errors[key], 1, atol=2e-6, err_msg=key)
    np.testing.assert_allclose(errors["psnr"], 100)


def test_a_known_offset_has_the_error_that_it_should():
    face, batch, true = face_and_batch()
    off = 0.8 * batch.image + torch.tensor([0.03, 0.0, 0.04])[:, None, None]
    where = batch.skin_mask > 0
    shown = RasterRenderer()(
        face.vertices, face.faces, face.camera, (SIZE, SIZE), face.vertex_colors["albedo"],
        face.light,
    ).image.clamp(0, 1)  # fmt: skip
    batch = replace(batch, image=off)
    expected = (shown - off)[where.expand_as(off)].abs().mean()
    errors = measure()(face, "albedo", batch, true)
    pixels = where.flatten(1).sum(1).double().numpy()
    total = (errors["photo_l1"] * pixels).sum() / pixels.sum()
    assert total == pytest.approx(float(expected), rel=1e-4)
    length = (shown - off).norm(dim=1, keepdim=True)[where].mean()
    assert (errors["photo_l21"] * pixels).sum() / pixels.sum() == pytest.approx(
        float(length), rel=1e-4
    )


def test_a_gain_of_albedo_is_an_error_but_none_that_is_free_of_gain():
    face, batch, true = face_and_batch()
    brighter = linear_to_srgb(0.9 * srgb_to_linear(face.vertex_colors["albedo"]))
    errors = measure()(replace(face, vertex_colors={"albedo": brighter}), "albedo", batch, true)
    weight = face_skin(head())
    power = (true.diffuse.square().mean(-1) * weight).sum(1) / weight.sum()
    np.testing.assert_allclose(errors["albedo"], 0.1 * power.sqrt(), rtol=1e-3)
    np.testing.assert_allclose(errors["albedo_gain_free"], 0, atol=1e-5)


def test_skin_that_the_photo_hides_is_told_from_what_it_shows():
    face, batch, true = face_and_batch(1)
    shown = shown_vertices(head(), true, batch.skin_mask)[0]
    behind = head().mean[:, 2] < head().mean[:, 2].quantile(0.1)
    assert shown[behind].mean() < 0.05
    assert shown[face_skin(head()) > 0.5].mean() > 0.6
    nothing = shown_vertices(head(), true, torch.zeros_like(batch.skin_mask))
    assert not nothing.any()
    # An error on hidden skin is none on shown skin.
    colors = torch.where(shown[:, None] > 0, face.vertex_colors["albedo"], 0.0)
    errors = measure()(replace(face, vertex_colors={"albedo": colors}), "albedo", batch, true)
    assert errors["albedo_shown"][0] < 1e-6
    assert errors["albedo_hidden"][0] > 0.1


def test_faces_that_are_not_finite_fail_alone():
    face, batch, true = face_and_batch()
    colors = face.vertex_colors["albedo"].clone()
    colors[1, 7] = torch.nan
    errors = measure()(replace(face, vertex_colors={"albedo": colors}), "albedo", batch, true)
    assert np.isfinite(errors["photo_l1"]).tolist() == [True, False]


def test_who_trained_the_method_does_not_judge_it():
    class Method:
        training_embedder_digests = frozenset({weights_digest(judge(0))})

    face, batch, true = face_and_batch()
    both = Judges.of({"own": judge(0), "other": judge(1)}, Method(), "cpu")
    assert both.independent == ["other"]
    errors = measure(both)(face, "albedo", batch, true)
    assert {key for key in errors if key.startswith("identity_cosine_")} == {
        "identity_cosine_own_trained", "identity_cosine_render_own_trained",
        "identity_cosine_other", "identity_cosine_render_other",
    }  # fmt: skip
    lowered = errors | {"identity_cosine_own_trained": np.array([-1.0, -1.0])}
    assert both.summary(lowered)["identity_cosine"] == pytest.approx(1.0, abs=1e-5)
    assert "own, whose cosines are listed as 'trained'" in both.note()

    alone = Judges.of({"own": judge(0)}, Method(), "cpu")
    assert alone.summary(measure(alone)(face, "albedo", batch, true)) == {}
    assert "No independent judge is left" in alone.note()


class _Constant(nn.Module):
    """The mean face with the mean albedo; a refiner that changes nothing, or brightens."""

    training_embedder_digests = frozenset({weights_digest(judge(0))})

    def __init__(self, gain=1.0, refines=True):
        super().__init__()
        self.gain, self.refines = gain, refines

    def predict_step(self, batch, index=0):
        model, count = head(), len(batch)
        assert batch.camera is None
        camera = cameras(count, batch.image.shape[-1], yaw_deg=0.0)
        vertices = model.mean.expand(count, -1, -1)
        colors = model.albedo_mean.clamp(0, 1).expand(count, -1, -1)
        light = torch.zeros(count, 9, 3)
        light[:, 0] = 3.0
        fine = (self.gain * colors).clamp(0, 1)
        return Reconstruction(
            image_vertices=camera.project(vertices),
            vertices=vertices,
            faces=model.faces,
            uv=model.uv,
            landmarks=camera.project(model.landmarks(vertices)),
            camera=camera,
            light=light,
            vertex_colors={"albedo": fine} | ({"coarse_albedo": colors} if self.refines else {}),
        )


@pytest.fixture(scope="module")
def benchmark():
    return CelebASkinBenchmark(
        head(), miniature_images=12, judges={"own": judge(0), "other": judge(1)}, examples=1
    )


def test_a_refiner_that_changes_nothing_is_as_good_as_its_coarse_face(benchmark):
    result = benchmark.run(_Constant(), SIZE)
    found = result.metrics
    coarse = {k: v for k, v in found.items() if k.startswith("celeba/coarse/")}
    assert {"photo_l1", "photo_l21", "psnr", "ssim", "coverage", "albedo", "identity_cosine"} <= {
        key.removeprefix("celeba/coarse/") for key in coarse
    }
    for key, value in coarse.items():
        assert found[key.replace("/coarse", "")] == pytest.approx(value, abs=1e-9), key
    assert "celeba/identity_cosine_own_trained" in found
    assert found["celeba/identity_cosine"] == pytest.approx(found["celeba/identity_cosine_other"])
    assert found["celeba/albedo_std"] == pytest.approx(0, abs=1e-6)  # always the same
    assert found["celeba/mean_face/albedo"] == pytest.approx(found["celeba/albedo"], rel=1e-3)
    assert found["celeba/images"] == 4
    assert found["celeba/failures"] == 0
    assert result.headline in found
    assert [row for row in result.samples if row["coarse_photo_l1"] != row["photo_l1"]] == []
    assert [picture.shape for picture in result.pictures.values()] == [(2 * SIZE, 12 * SIZE, 3)] * 2


def test_a_method_that_refines_nothing_has_no_coarse_keys(benchmark):
    found = benchmark.run(_Constant(refines=False), SIZE).metrics
    assert "celeba/photo_l1" in found
    assert not [key for key in found if "/coarse/" in key]


def test_what_fails_counts_as_the_mean_face(benchmark):
    found = benchmark.run(_Constant(gain=float("nan")), SIZE).metrics
    assert found["celeba/failures"] == 4
    assert found["celeba/photo_l1"] == pytest.approx(found["celeba/mean_face/photo_l1"])


def test_methods_without_colors_are_told_so(benchmark):
    class Plain(_Constant):
        def predict_step(self, batch, index=0):
            return replace(super().predict_step(batch), vertex_colors=None)

    with pytest.raises(ValueError, match="no vertex_colors"):
        benchmark.run(Plain(), SIZE)
