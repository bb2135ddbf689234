"""The benchmark on the smallest miniature, with methods whose errors are known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_face.benchmarks import FFHQPhotometricBenchmark
from lit_face.benchmarks.photometric_baselines import MeanFace
from lit_face.benchmarks.photometric_render import render
from lit_face.benchmarks.photometric_samples import with_failures_filled
from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.five_points import five_point_box, five_points, standard_points
from lit_face.geometry.uv import uv_resampling
from lit_face.metrics.photometric import masked_l1
from lit_face.rendering.color import linear_to_srgb
from lit_face.rendering.material_renderer import RasterMaterialRenderer
from lit_face.types import FaceBatch, Reconstruction
from tests.helpers.ffhq import shared_miniature, write_json, write_tree
from tests.helpers.tolerances import assert_close

SIZE = 96


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    from lit_face.morphable_models.procedural import procedural_head

    root = shared_miniature(tmp_path_factory)
    return FFHQPhotometricBenchmark(procedural_head(), str(root), batch_size=8, examples=1)


class Oracle:
    """Says the truth; a subclass or a hook spoils it."""

    def __init__(self, benchmark, spoil=lambda face: face):
        self.benchmark, self.spoil = benchmark, spoil
        self.resampling = uv_resampling(benchmark.model.uv, benchmark.model.map_faces, 256)
        batches = benchmark._batches(benchmark.dataset, list(range(8)), SIZE, "cpu")
        self.cameras = {
            name: matrix
            for batch in batches
            for name, matrix in zip(batch.sample_id, batch.camera.matrix, strict=True)
        }

    def predict_step(self, batch, batch_idx):
        assert batch.camera is None
        assert batch.coefficients is None
        model, true = self.benchmark.model, self.benchmark.truth.read(batch.sample_id)
        camera = AffineCamera(torch.stack([self.cameras[name] for name in batch.sample_id]))
        points = camera.project(true.vertices)
        face = Reconstruction(
            image_vertices=points,
            vertices=true.vertices,
            faces=model.faces,
            uv=model.uv,
            landmarks=model.landmarks(points),
            unit="mm",
            camera=camera,
            light=true.light,
            coefficients={"identity": true.diffuse[:, ::500, 0]},
            textures={
                "diffuse": self.resampling(true.diffuse),
                "specular": 0.1 * self.resampling(true.specular),
                "roughness": torch.full((len(batch), 1, 1, 1), 0.4),
            },
        )
        return self.spoil(face)


@pytest.fixture(scope="module")
def oracle_result(benchmark):
    return benchmark.run(Oracle(benchmark), SIZE)


def test_the_truth_has_no_error_in_shape_albedo_and_light(oracle_result):
    found = oracle_result.metrics
    for key, most in {
        "landmarks_px": 1e-3, "nme": 1e-3, "vertices_mm": 1e-3, "vertices_rigid_mm": 1e-3,
        "normals_deg": 1e-2, "light_rel": 1e-6, "light_si_rel": 1e-4, "ita_error_deg": 0.2,
        "albedo_rmse": 0.01, "albedo_si_rmse": 0.01, "identity_std": 1e-6, "albedo_std": 1e-6,
    }.items():  # fmt: skip
        assert found[f"ffhq/{key}"] <= most, key
    assert found["ffhq/failures"] == 0
    assert found["ffhq/images"] == 8
    assert found["ffhq/skin_covered"] > 0.95


def test_the_mean_face_is_worse_than_the_truth_everywhere(oracle_result):
    found = oracle_result.metrics
    for key in (
        "photo_l1", "landmarks_px", "nme", "vertices_mm", "normals_deg", "albedo_rmse",
        "albedo_si_rmse", "light_rel", "light_si_rel", "ita_error_deg", "specular_si_rmse",
    ):  # fmt: skip
        assert found[f"ffhq/mean_face/{key}"] > 1.3 * found[f"ffhq/{key}"], key
    assert found["ffhq/mean_face/psnr"] < found["ffhq/psnr"]
    assert found["ffhq/mean_face_lit/photo_l1"] < 0.8 * found["ffhq/mean_face/photo_l1"]
    assert found["ffhq/mean_face/identity_std"] == 0
    assert 1 < found["ffhq/mean_face/vertices_mm"] < 8


def test_groups_of_skin_tone_add_up_to_all(oracle_result):
    found = oracle_result.metrics
    groups = {key.split("/")[1] for key in found if key.startswith("ffhq/tone_")}
    assert len(groups) >= 3
    counts = {group: found[f"ffhq/{group}/images"] for group in groups}
    assert sum(counts.values()) == 8
    mean = sum(counts[group] * found[f"ffhq/{group}/photo_l1"] for group in groups) / 8
    assert mean == pytest.approx(found["ffhq/photo_l1"], rel=1e-5)


def test_report_has_tables_strips_and_rows(oracle_result):
    titles = [table.title for table in oracle_result.tables]
    assert titles == ["Errors", "By skin tone"]
    assert len(oracle_result.samples) == 8
    assert oracle_result.headline == "ffhq/photo_l1"
    assert [caption[:5] for caption in oracle_result.pictures] == ["Best ", "Worst"]
    for picture in oracle_result.pictures.values():
        assert picture.shape == (SIZE, 5 * SIZE, 3)
        panels = picture.reshape(SIZE, 5, SIZE, 3).transpose(1, 0, 2, 3)
        assert all(panel.max() > 60 for panel in panels)
    says_no = any(note.startswith("No LPIPS") for note in oracle_result.notes)
    assert says_no != ("ffhq/lpips" in oracle_result.metrics)


def test_a_failed_picture_counts_with_the_mean_faces_error(benchmark, oracle_result):
    dark = benchmark.truth.read(benchmark.dataset.sample_ids[2:3]).light

    def spoil(face):
        is_third = (face.light == dark).flatten(1).all(1)[:, None, None]
        return replace(face, light=torch.where(is_third, torch.nan, face.light))

    result = benchmark.run(Oracle(benchmark, spoil), SIZE)
    assert result.metrics["ffhq/failures"] == 1
    row, baseline = result.samples[2], oracle_result.samples[2]
    assert row["failed"]
    assert np.isnan(row["photo_l1"])
    kept = [s["vertices_mm"] for s in result.samples if not s["failed"]]
    expected = (sum(kept) + baseline["mean_face_vertices_mm"]) / 8
    assert result.metrics["ffhq/vertices_mm"] == pytest.approx(expected, rel=1e-4)


def test_a_method_that_only_fails_is_the_mean_face(benchmark, oracle_result):
    result = benchmark.run(
        Oracle(benchmark, lambda face: replace(face, vertices=face.vertices * torch.nan)), SIZE
    )
    assert result.metrics["ffhq/failures"] == 8
    found = result.metrics["ffhq/landmarks_px"]
    assert found == pytest.approx(oracle_result.metrics["ffhq/mean_face/landmarks_px"])


def test_residual_maps_are_compared_with_the_statistical_ones(benchmark):
    def spoil(face):
        plain = {f"{n}_statistical": 0.5 * face.textures[n] for n in ("diffuse", "specular")}
        return replace(face, textures=face.textures | plain)

    result = benchmark.run(Oracle(benchmark, spoil), SIZE)
    found = result.metrics
    assert found["ffhq/statistical/photo_l1"] > found["ffhq/photo_l1"]
    gain = 1 - found["ffhq/photo_l1"] / found["ffhq/statistical/photo_l1"]
    assert found["ffhq/residual_gain"] == pytest.approx(gain)
    assert "Residual maps" in [table.title for table in result.tables]


def test_shadows_that_a_method_brings_are_in_its_picture(benchmark):
    half = torch.full((len(benchmark.model.mean), 1), 0.5)
    dimmed = Oracle(benchmark, lambda face: replace(face, transfer=half))
    brighter = Oracle(benchmark, lambda face: replace(face, transfer=half, light=2 * face.light))
    batch = next(benchmark._batches(benchmark.dataset, [0, 1], SIZE, "cpu"))
    renderer = RasterMaterialRenderer(specular="none")
    plain, dark, again = (
        render(renderer, method.predict_step(replace(batch, camera=None), 0), (SIZE, SIZE)).image
        for method in (Oracle(benchmark), dimmed, brighter)
    )
    assert_close(dark, 0.5 * plain)
    assert_close(again, plain)


def test_landmarks_alone_are_measured_of_a_method_without_light_and_maps(benchmark):
    def spoil(face):
        keep = slice(0, 4000)  # another topology
        return replace(
            face, light=None, textures=None, camera=None, coefficients=None,
            vertices=face.vertices[:, keep], image_vertices=face.image_vertices[:, keep],
            uv=face.uv[keep], faces=face.faces[(face.faces < 4000).all(1)],
        )  # fmt: skip

    result = benchmark.run(Oracle(benchmark, spoil), SIZE)
    own = {key for key in result.metrics if not key.startswith(("ffhq/mean_face", "ffhq/tone_"))}
    assert own == {
        f"ffhq/{k}" for k in ("landmarks_px", "landmarks_inner_px", "nme", "failures", "images")
    }
    assert result.headline == "ffhq/landmarks_px"
    assert any("not those of the truth's model" in note for note in result.notes)
    assert any("no maps, camera and light" in note for note in result.notes)


def test_photos_without_truth_are_measured_as_far_as_they_go(tmp_path, monkeypatch, benchmark):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path / "cache"))
    root = write_tree(tmp_path / "ffhq", side=SIZE)
    write_json(root, side=SIZE)
    photos = FFHQPhotometricBenchmark(benchmark.model, str(root), examples=1)
    mean = MeanFace(benchmark.model, 1.6)

    class Method:
        def predict_step(self, batch, batch_idx):
            return mean(batch)

    result = photos.run(Method(), SIZE)
    assert result.metrics["ffhq/photo_l1"] > 0
    assert result.metrics["ffhq/images"] == 2
    assert not any("vertices" in key or "tone" in key for key in result.metrics)
    assert any("no truth here" in note for note in result.notes)


def test_a_limit_spreads_over_the_held_out_pictures(benchmark, tmp_path_factory):
    root = shared_miniature(tmp_path_factory)
    few = FFHQPhotometricBenchmark(benchmark.model, str(root), limit=3, examples=1)
    result = few.run(Oracle(benchmark), SIZE)
    names = benchmark.dataset.sample_ids
    assert [sample["image"] for sample in result.samples] == [names[0], names[3], names[7]]
    with pytest.raises(ValueError, match="limit should be at least 1, found 0"):
        FFHQPhotometricBenchmark(benchmark.model, str(root), limit=0)


def test_fitted_light_finds_the_light_of_a_mean_face(benchmark):
    """A picture of the mean face itself, in a known light, is explained but for the ridge."""
    mean = MeanFace(benchmark.model, 1.6, exposure=0.7)
    blank = FaceBatch(torch.zeros(2, 3, SIZE, SIZE), skin_mask=torch.ones(2, 1, SIZE, SIZE))
    face = mean(blank)
    light = face.light.clone()
    light[:, 1] += 0.3  # from the left, reddish
    light[..., 0] *= 1.2
    picture = mean._compared(blank)[2]
    assert_close(picture, mean._renderer(
        face.vertices, face.faces, face.uv, face.camera, (SIZE, SIZE),
        _material(face), face.light,
    ).image)  # fmt: skip
    lit = mean._renderer(
        face.vertices, face.faces, face.uv, face.camera, (SIZE, SIZE), _material(face), light
    )
    photo = replace(blank, image=linear_to_srgb(lit.image.clamp(0, 1)))
    found = mean.lit(photo)
    again = mean._renderer(
        face.vertices, face.faces, face.uv, face.camera, (SIZE, SIZE), _material(face), found.light
    )
    assert (masked_l1(again.image, lit.image, lit.mask) < 0.01).all()
    assert (masked_l1(picture, lit.image, lit.mask) > 0.02).all()


def test_exposure_is_that_of_the_population(benchmark):
    mean = MeanFace(benchmark.model, 1.6)
    blank = FaceBatch(torch.zeros(2, 3, SIZE, SIZE), skin_mask=torch.ones(2, 1, SIZE, SIZE))
    bright = mean._compared(blank)[2]
    photo = replace(blank, image=linear_to_srgb(0.4 * bright.clamp(0, 1)))
    mean.calibrate([photo])
    assert mean.exposure == pytest.approx(0.4, rel=0.02)
    dark = MeanFace(benchmark.model, 1.6)
    dark.calibrate([blank])  # black pictures: no exposure to be had
    assert dark.exposure == 1.0


def test_failures_are_filled_error_by_error():
    errors = {"landmarks_px": np.array([1.0, np.nan]), "_identity": np.full((2, 3), np.nan)}
    errors["statistical/photo_l1"] = np.array([np.nan, 0.1])
    baseline = {"landmarks_px": np.array([5.0, 6.0]), "photo_l1": np.array([0.3, 0.4])}
    filled, failed = with_failures_filled(errors, baseline)
    assert filled["landmarks_px"].tolist() == [1.0, 6.0]
    assert failed.all()
    assert filled["statistical/photo_l1"].tolist() == [0.3, 0.1]


def _material(face):
    from lit_face.rendering.material import Material

    return Material(**{name: face.textures[name] for name in ("diffuse", "specular", "roughness")})


def test_crops_and_the_mean_face_are_aligned_as_the_method_says(benchmark):
    """By five points: both have those of the benchmark's mean face where Deep3D has them."""
    standard = standard_points(
        five_points(benchmark.model.landmarks(benchmark.model.mean[None]))[0]
    )

    benchmark._align_as(SimpleNamespace(alignment="five_points", standard_points=standard))
    batch = next(benchmark._batches(benchmark.dataset, [0, 1, 2], 224, "cpu"))
    box = five_point_box(five_points(batch.landmarks[..., :2]), standard)
    assert_close(box.centre, torch.full((3, 2), 111.5), atol=0.01, rtol=0)
    assert_close(box.size, torch.full((3,), 223.0), atol=0.05, rtol=0)
    face = MeanFace(benchmark.model, 1.6, alignment="five_points")(batch)
    found = five_points(face.landmarks[..., :2])
    expected = 111.5 + 102 * standard[:, :2] * torch.tensor([1.0, -1.0])
    assert_close(found, expected.expand(3, 5, 2), atol=0.01, rtol=0)
    benchmark._align_as(Oracle)  # has no alignment
    again = next(benchmark._batches(benchmark.dataset, [0, 1, 2], 224, "cpu"))
    size = (again.landmarks[..., :2].amax(1) - again.landmarks[..., :2].amin(1)).mean(1)
    assert_close(size, torch.full((3,), 223 / 1.6), atol=0.01, rtol=0)
