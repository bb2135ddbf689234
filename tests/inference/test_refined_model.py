"""Photos refined, from a finder's landmarks or a network; photos of one person together."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_face.inference.finders.base import Detection
from lit_face.inference.finders.file import FileFinder
from lit_face.inference.folder import FolderRun, RunSettings
from lit_face.inference.inputs import find_photos
from lit_face.inference.model import FaceModel
from lit_face.inference.onnx import export_onnx
from lit_face.inference.outputs import ExportSettings
from lit_face.inference.portable import load_portable, save_portable
from lit_face.inference.records import COLUMNS
from tests.helpers.lit_photos import (
    detections,
    landmark_predictor,
    lit_photos,
    network_predictor,
    refinement,
    write_lit_photos,
)
from tests.methods.test_prn import small_module

FIT = ("photo_l1_before", "photo_l1_after", "landmarks_px_before", "landmarks_px_after")


@pytest.fixture(scope="module")
def scene():
    return lit_photos(2, size=120, angles_deg=((0.0, 0.0, 0.0), (4.0, -15.0, 3.0)))


@pytest.fixture(scope="module")
def start():
    return landmark_predictor()


@pytest.fixture(scope="module")
def network():
    return network_predictor()


def model_of(predictor, steps=2, finder=None, **options):
    return FaceModel(predictor, finder, "cpu", refinement=refinement(steps, **options))


def test_landmarks_alone_bring_the_head_to_the_face(scene, start):
    """Pixels of the photo, whatever the crop; the head was fitted to 51 of the 68 landmarks."""
    photos, faces = scene
    results = model_of(start, steps=0).reconstruct_found(photos, detections(faces), 2)
    for (found,), truth in zip(results, faces, strict=True):
        inner = slice(17, 68)
        distance = (found.landmarks - truth.landmarks)[inner, :2]
        size = np.ptp(truth.landmarks[:, :2], axis=0).mean()
        assert np.linalg.norm(distance, axis=1).mean() < 0.04 * size  # kept near the mean face
        assert np.abs(np.subtract(found.angles, truth.angles)).max() < 8
        camera, head = found.reconstruction.camera, found.reconstruction.vertices
        mapped = camera.project(head)[0, :, :2].numpy()
        assert np.abs(mapped - found.points[:, :2]).max() < 0.01
        assert (found.box, found.confidence) == (truth.box, 0.9)


def test_errors_before_and_after_are_told(scene, start):
    photos, faces = scene
    results = model_of(start, steps=12).reconstruct_found(photos, detections(faces), 2)
    for (face,) in results:
        assert set(face.fit) == set(FIT)
        assert face.fit["photo_l1_after"] < face.fit["photo_l1_before"]
        # Of the crop (64 pixels), not of the photo.
        assert 0 < face.fit["landmarks_px_after"] < 3
    plain = FaceModel(network_predictor(), device="cpu").reconstruct(
        photos, [[f.box] for f in faces]
    )
    assert all(face.fit == {} for (face,) in plain)


def test_the_finders_landmarks_count_more_than_the_networks(scene, network):
    photos, faces = scene
    with_points = detections(faces)
    without = [[replace(found, landmarks=None) for found in row] for row in with_points]
    moved = [
        [replace(f, landmarks=f.landmarks + np.array([6, 0])) for f in row] for row in with_points
    ]
    errors = [
        [face.fit["landmarks_px_before"] for (face,) in model.reconstruct_found(photos, found, 2)]
        for model in [model_of(network, steps=0)]
        for found in (with_points, moved, without)
    ]
    given, shifted, own = torch.tensor(errors)
    assert (own < 1e-3).all()  # the network agrees with itself
    assert (given > 0.3).all()
    assert ((shifted - given).abs() > 0.3).all()


def test_refinement_starts_from_the_networks_estimate(scene, network):
    photos, faces = scene
    boxes = [[face.box] for face in faces]
    plain = FaceModel(network, device="cpu", passes=1).reconstruct(photos, boxes)
    model = FaceModel(network, device="cpu", passes=1, refinement=refinement(0))
    same = model.reconstruct(photos, boxes)
    for (first,), (second,) in zip(plain, same, strict=True):
        vertices = first.reconstruction.vertices
        assert (second.reconstruction.vertices - vertices).abs().max() < 1e-4
        assert (second.reconstruction.light - first.reconstruction.light).abs().max() < 1e-5
    refined = FaceModel(network, device="cpu", passes=1, refinement=refinement(10))
    for (face,) in refined.reconstruct(photos, boxes):
        assert face.fit["photo_l1_after"] < face.fit["photo_l1_before"]


def test_what_cannot_be_refined_is_said_before_any_photo(start):
    with pytest.raises(ValueError, match=r"PRNPredictor cannot be refined.*sh_brdf.*init=landm"):
        FaceModel(small_module().eval().predictor(), device="cpu", refinement=refinement())
    with pytest.raises(ValueError, match="LandmarkPredictor has no network"):
        FaceModel(start, device="cpu")


def test_faces_without_landmarks_name_the_finders_that_have_them(scene, start):
    photos, faces = scene
    boxes = [[Detection(face.box)] for face in faces]
    with pytest.raises(ValueError, match=r"68 landmarks.*finder=file.*face_alignment.*mediapipe"):
        model_of(start).reconstruct_found(photos, boxes)


def spoiled(photos, faces):
    """Photos and landmarks that no method can like."""
    half = np.ascontiguousarray(photos[0][:, :60])
    small = replace(detections(faces)[0][0], landmarks=faces[0].landmarks[:, :2] * 0.02)
    return {
        "black": (np.zeros_like(photos[0]), detections(faces)[0]),
        "half": (half, detections(faces)[0]),
        "tiny": (photos[0], [replace(small, box=(20.0, 20.0, 22.0, 22.0))]),
        "elsewhere": (
            photos[0],
            [
                replace(f, landmarks=f.landmarks + 500, box=(520.0, 520.0, 560.0, 560.0))
                for f in detections(faces)[0]
            ],
        ),
    }


@pytest.mark.parametrize("case", ["black", "half", "tiny", "elsewhere"])
@pytest.mark.parametrize("kind", ["start", "network"])
def test_poor_photos_give_finite_faces(request, scene, case, kind):
    photo, found = spoiled(*scene)[case]
    model = model_of(request.getfixturevalue(kind), steps=4)
    ((face,),) = model.reconstruct_found([photo], [found])
    reconstruction = face.reconstruction
    for value in (reconstruction.vertices, reconstruction.light, *reconstruction.textures.values()):
        assert value.isfinite().all()
    assert np.isfinite(face.points).all()
    assert all(np.isfinite(error) for error in face.fit.values())
    if case == "half":
        assert any("face cut off" in text for text in face.warnings)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((68, 2), 60.0), "landmarks of face 0 lie in one line or place"),
        (np.full((68, 2), np.nan), "landmarks of face 0 hold NaN"),
    ],
)
def test_useless_landmarks_are_refused_by_name(scene, start, points, message):
    photos, faces = scene
    found = [Detection(faces[0].box, landmarks=points)]
    with pytest.raises(ValueError, match=message):
        model_of(start).reconstruct_found(photos[:1], [found])


def settings(**options):
    return RunSettings(["maps", "pose"], ExportSettings(), "v1", 1, workers=1, **options)


def run(folder, table, start, steps=1, together=True):
    model = model_of(start, steps, FileFinder(str(table)), shared_identity=together)
    photos = find_photos(str(folder / "photos"), folder / "out")
    return FolderRun(model, photos, folder / "out", settings(together=together)).run()


@pytest.fixture
def person(tmp_path, scene):
    photos, faces = scene
    return write_lit_photos(tmp_path / "photos", ["a.png", "b.png"], photos, faces)


def stamps(folder):
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("out/*/record.json")}


def test_photos_of_one_person_are_one_batch(tmp_path, person, start, scene):
    result = run(tmp_path, person, start)
    assert not result.problems
    maps = [(tmp_path / "out" / name / "diffuse.png").read_bytes() for name in "ab"]
    assert maps[0] == maps[1]
    first = stamps(tmp_path)
    assert len(run(tmp_path, person, start).done_before) == 2
    assert stamps(tmp_path) == first
    photos, faces = scene
    write_lit_photos(
        tmp_path / "photos", ["a.png", "b.png", "c.png"], [*photos, photos[0]], [*faces, faces[0]]
    )
    assert not run(tmp_path, person, start).done_before  # a new photo: all are done again
    assert all(stamps(tmp_path)[name] != first[name] for name in "ab")
    with (tmp_path / "out" / "summary.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3


def test_one_bad_photo_stops_its_person_and_says_so(tmp_path, person, start):
    run(tmp_path, person, start)
    first = stamps(tmp_path)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    result = run(tmp_path, person, start)
    assert sorted(result.problems) == ["a.png", "b.png", "broken.png"]
    for name in ("a.png", "b.png"):
        assert "a problem with broken.png" in result.problems[name].message
        assert "fitted together" in result.problems[name].message
    assert not result.rows
    assert stamps(tmp_path) == first  # nothing new, and nothing lost
    (tmp_path / "photos" / "broken.png").unlink()
    assert len(run(tmp_path, person, start).done_before) == 2


def test_nothing_half_written_where_the_fit_fails(tmp_path, person, start, monkeypatch):
    def fail(*arguments):
        raise ValueError("refine: the loss is nan after 3 steps.")

    monkeypatch.setattr(type(start), "refine", fail)
    result = run(tmp_path, person, start)
    assert set(result.problems) == {"a.png", "b.png"}
    assert all("the loss is nan" in problem.message for problem in result.problems.values())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["problems.csv", "summary.csv"]


def test_apart_a_bad_photo_costs_only_itself(tmp_path, person, start):
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    result = run(tmp_path, person, start, together=False)
    assert list(result.problems) == ["broken.png"]
    assert set(result.rows) == {"a.png", "b.png"}


def test_the_summary_tells_the_errors_and_is_still_a_finders_table(tmp_path, person, start, scene):
    run(tmp_path, person, start)
    table = tmp_path / "out" / "summary.csv"
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert COLUMNS[-8:-4] == FIT  # before what flame_fit alone measures
    assert all(0 < float(row[name]) < 100 for row in rows for name in FIT)
    (found,) = FileFinder(str(table))(scene[0][0], Path("a.png"))
    assert found.box == pytest.approx(scene[1][0].box, abs=0.01)
    boxes = FileFinder(str(table))
    plain = FaceModel(network_predictor(), boxes, "cpu")
    photos = find_photos(str(tmp_path / "photos"), tmp_path / "plain")
    FolderRun(plain, photos, tmp_path / "plain", settings()).run()
    with (tmp_path / "plain" / "summary.csv").open() as stream:
        assert all(row[name] == "" for row in csv.DictReader(stream) for name in FIT)


@torch.no_grad()
def test_portable_folders_hold_all_of_it(tmp_path, network):
    save_portable(network, tmp_path / "model", {"licence": "MIT"})
    loaded = load_portable(tmp_path / "model")
    image = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found, expected = loaded(image), network(image)
    assert torch.equal(found.image_vertices, expected.image_vertices)
    assert torch.equal(found.light, expected.light)
    assert all(torch.equal(found.textures[k], v) for k, v in expected.textures.items())
    assert (loaded.image_size, loaded.margin) == (network.image_size, network.margin)
    with torch.enable_grad():  # refinement needs nothing else
        points = expected.landmarks[..., :2]
        refined = loaded.refine(image, points, refinement(1), False)
    assert refined.face.vertices.isfinite().all()


def test_onnx_is_refused_by_name(tmp_path, network):
    with pytest.raises(
        ValueError, match=r"SHBRDFPredictor cannot be exported.*no stages.*out=FOLDER"
    ):
        export_onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
