import json
from collections import Counter

import cv2
import numpy as np
import pytest

from lit_face.data.facescape import main
from lit_face.data.facescape_cameras import view_array
from lit_face.data.facescape_raw import find_samples
from lit_face.data.miniature_facescape import MiniatureSize, miniature_facescape, plan_tuples
from lit_face.data.miniature_facescape_files import RELIEF_MM, Similarity
from lit_face.data.miniature_facescape_surface import (
    dense_topology,
    lookup,
    sample_skin,
    smooth_surface,
)
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from lit_face.morphable_models.facescape.writer import face_template
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.facescape import tiny_raw


@pytest.fixture(scope="module")
def raw():
    return tiny_raw()


def _projected(params, view, path, points):
    """Project points in units as OpenCV does, with the lens's distortion."""
    K, Rt = (view_array(params, view, k, s, path) for k, s in (("K", (3, 3)), ("Rt", (3, 4))))
    lens = view_array(params, view, "distortion", (5,), path)
    vector = cv2.Rodrigues(Rt[:, :3])[0]
    return cv2.projectPoints(points.astype(np.float64), vector, Rt[:, 3], K, lens)[0][:, 0]


def test_the_layout_is_facescapes(raw):
    samples = find_samples(raw)
    assert [sample.name for sample in samples] == ["001_01", "002_01", "331_01"]
    for sample in samples:
        params = json.loads(sample.params_file.read_text())
        views = Counter(key.split("_")[0] for key in params)
        assert set(views.values()) == {9}
        assert sorted(views) == sorted(map(str, sample.photos))
        assert sum(not params[f"{view}_valid"] for view in views) == 1
        assert all(params[f"{view}_valid"] for view in sample.chosen)
        for view, path in sample.photos.items():
            size = params[f"{view}_height"], params[f"{view}_width"]
            assert read_image(path).shape[:2] == size
            assert abs(params[f"{view}_distortion"][0]) > 0.03
    assert json.loads((raw / "id.json").read_text())["eval"] == ["331_01"]
    # portrait people and a landscape one
    assert [read_image(next(iter(s.photos.values()))).shape[:2] for s in samples] == [
        (96, 64), (96, 64), (64, 96),
    ]  # fmt: skip


def test_photos_landmarks_and_scan_agree(raw):
    head = procedural_head()
    for sample in find_samples(raw):
        params = json.loads(sample.params_file.read_text())
        marks = json.loads(sample.landmarks_file.read_text())
        scan = read_mesh(sample.scan).vertices
        entry = json.loads((raw / "Rt_scale_dict.json").read_text())[str(int(sample.name[:3]))]["1"]
        canonical = np.array(entry[1])
        in_mm = entry[0] * scan @ canonical[:, :3].T + canonical[:, 3]
        assert np.abs(in_mm.mean(0) - (0, 0, 75)).max() < 30  # head space: z out of the face
        with np.load(raw / "truth" / f"{sample.name}.npz") as truth:
            mm = truth["vertices_mm"][head.landmark_index.numpy()]
        units = (mm - canonical[:, 3]) @ canonical[:, :3] / entry[0]
        for view in sample.chosen:
            found = np.array(marks[str(view)]["points"])
            off = _projected(params, view, sample.params_file, units) - found
            assert np.sqrt((off**2).mean()) < 0.8  # noise of 0.3 pixels, relief of up to 0.7
            height, width = params[f"{view}_height"], params[f"{view}_width"]
            pixels = _projected(params, view, sample.params_file, scan[::37])
            inside = ((pixels > 0) & (pixels < (width, height))).all(1)
            assert inside.mean() > 0.9
            # the face is brighter than the grey behind it is even: skin is not grey
            photo = read_image(sample.photos[view]).astype(int)
            columns, rows = pixels[inside].astype(int).T
            redness = (photo[..., 0] - photo[..., 2])[rows, columns]
            assert np.median(redness) > 20


def test_the_scan_has_a_hole_in_a_brow(raw):
    head, sample = procedural_head(), find_samples(raw)[0]
    scan = read_mesh(sample.scan)
    entry = json.loads((raw / "Rt_scale_dict.json").read_text())["1"]["1"]
    canonical = np.array(entry[1])
    in_mm = entry[0] * scan.vertices @ canonical[:, :3].T + canonical[:, 3]
    with np.load(raw / "truth/001_01.npz") as truth:
        marks = truth["vertices_mm"][head.landmark_index.numpy()]
    centres = in_mm[scan.faces].mean(1)
    nearest = [np.linalg.norm(centres - mark, axis=1).min() for mark in marks]
    assert nearest[19] > 4.5
    assert np.delete(nearest, [18, 20, 19]).max() < 4.5


def test_the_toolkits_model_carries_the_fine_relief(raw):
    folder = raw / "tu/331"
    relief = cv2.imread(str(folder / "dpmap/1_neutral.png"), cv2.IMREAD_UNCHANGED)
    assert relief.dtype == np.uint16
    assert relief.shape == (256, 256)
    mm = (relief.astype(float) - 32768) / 32768 * RELIEF_MM
    assert 0.1 < mm[mm != 0].std() < 0.5
    template = read_mesh(raw / "predefined/1_neutral.obj")
    model = read_mesh(folder / "models_reg/1_neutral.obj")
    assert (model.faces == template.faces).all()
    np.testing.assert_allclose(model.uv, template.uv, atol=1e-6)
    texture = read_image(folder / "models_reg/1_neutral.jpg")
    assert texture[relief != 32768].mean() > 60
    assert texture[:40].max() < 10  # nothing outside of the window


def test_a_person_has_one_identity_and_the_same_seed_the_same_files(raw, tmp_path):
    again = miniature_facescape(MiniatureSize(2, 1, 2, 2, (48, 32), 1, 256, 4, 3), tmp_path)
    for person in ("001", "331"):
        first, second = (np.load(path) for path in sorted(again.glob(f"truth/{person}_*")))
        with first, second:
            np.testing.assert_array_equal(first["identity"], second["identity"])
            assert np.abs(first["expression"] - second["expression"]).max() > 0.5
    with np.load(again / "truth/001_01.npz") as new, np.load(raw / "truth/001_01.npz") as old:
        np.testing.assert_array_equal(new["vertices_mm"], old["vertices_mm"])
    assert len(list(again.glob("imgs/*/*/params.json"))) == 4


def test_the_default_is_the_experiments():
    tuples = plan_tuples(MiniatureSize())
    assert len(tuples) == 18
    held_out = [item for item in tuples if item.person >= 331]
    assert len(held_out) == 4
    assert {item.person for item in held_out}.isdisjoint(t.person for t in tuples[:14])
    assert all(len(set(item.view_numbers.tolist())) == 11 for item in tuples)
    assert {item.is_rolled for item in tuples} == {True, False}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"people": 2, "held_out": 2}, "people to evaluate"), ({"views": 11}, "2 to 10 views")],
)
def test_sizes_that_make_no_dataset_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MiniatureSize(**options)
    with pytest.raises(ValueError, match="default, tiny"):
        miniature_facescape("huge")


def test_the_command_refuses_to_write_over_a_folder(tmp_path, capsys):
    assert main(["miniature", str(tmp_path), "--size", "tiny"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["miniature", str(tmp_path / "new"), "--size", "tiny", "--views", "12"]) == 2
    assert "2 to 10 views, found 1 and 12" in capsys.readouterr().err


def test_relief_has_the_amplitudes_it_should():
    skin = sample_skin(np.random.default_rng(0), 512)
    assert np.isclose(skin.low.std(), 1.2, atol=0.01)
    assert 0.2 < skin.meso.std() < 0.45
    assert -2 < skin.meso.min() < -0.7
    assert 0.05 < skin.color.std() < 0.3
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    middles = (np.arange(64) + 0.5) / 64
    found = lookup(ramp, np.stack([middles, np.full(64, 0.3)], 1).astype(np.float32))
    np.testing.assert_allclose(found, ramp[0], atol=1e-5)


def test_splitting_triangles_keeps_the_surface_and_rounds_it():
    head = procedural_head()
    dense = dense_topology(head, 1)
    assert len(dense.faces) == 4 * len(head.faces)
    vertices = head.mean.numpy()
    np.testing.assert_array_equal(dense.carry(vertices)[: len(vertices)], vertices)
    np.testing.assert_allclose(dense.weights.sum(1), 1, atol=1e-6)
    points, normals = smooth_surface(vertices, head.faces.numpy(), dense)
    np.testing.assert_allclose(points[: len(vertices)], vertices, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    away = np.linalg.norm(points - dense.carry(vertices), axis=1)
    assert 0.02 < away[face_template(head).vertex.numpy().max() :].max() < 6


def test_the_similarity_moves_cameras_with_points():
    rng = np.random.default_rng(3)
    frame = Similarity.sample(rng)
    assert np.isclose(np.linalg.det(frame.rotation), 1)
    points = rng.normal(0, 80, (5, 3))
    back = frame.scale * frame.to_units(points) @ frame.rotation.T + frame.translation
    np.testing.assert_allclose(back, points, atol=1e-9)
