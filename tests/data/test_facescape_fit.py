import json

import numpy as np
import pytest

from lit_face.data.facescape_fit import fit_base_meshes, read_view_points
from lit_face.io.obj import read_obj_topology
from tests.helpers.facescape_sheets import sheet_folder


@pytest.fixture
def small(tmp_path):
    return sheet_folder(tmp_path / "processed", scans=False)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def errors_mm(folder, truth):
    found = {}
    for name, vertices in truth.items():
        mesh = read_obj_topology(folder.base_mesh_file(name)).vertices * folder.scale(name)
        found[name] = float(np.linalg.norm(mesh - vertices, axis=1).mean())
    return found


def test_all_samples_are_fitted_in_one_batch(small):
    folder, model, truth = small
    seen = []
    reports = fit_base_meshes(folder, model, progress=lambda *told: seen.append(told))
    assert max(errors_mm(folder, truth).values()) < 0.8
    assert [told[:2] for told in seen] == [(1, 3), (2, 3), (3, 3)]
    for name, report in reports.items():
        assert report["scale_mm"] == pytest.approx(folder.scale(name), rel=0.02)
        assert report["disagreeing"] == report["without_face"] == []
        assert max(report["view_residual_mm"].values()) < 0.5


def test_what_is_there_stays_until_its_landmarks_change(small):
    folder, model, _ = small
    first = fit_base_meshes(folder, model)
    seen = []
    again = fit_base_meshes(folder, model, progress=lambda *told: seen.append(told))
    assert not seen
    assert again == first
    edit(folder.landmarks_file("002_01"), lambda content: content.update({"3": None}))
    fit_base_meshes(folder, model, progress=lambda *told: seen.append(told))
    assert [told[2] for told in seen] == ["002_01"]
    fit_base_meshes(folder, model, overwrite=True, progress=lambda *told: seen.append(told))
    assert len(seen) == 4


def test_views_without_a_face_and_unsure_ones_are_left_out(small):
    folder, model, truth = small

    def change(content):
        content["0"] = None
        content["4"]["score"] = 0.6
        content["4"]["points"] = [[5.0, 5.0]] * 68

    edit(folder.landmarks_file("001_01"), change)
    reports = fit_base_meshes(folder, model)
    assert reports["001_01"]["without_face"] == [0, 4]
    assert sorted(reports["001_01"]["view_residual_mm"]) == list("1235")
    assert max(errors_mm(folder, truth).values()) < 0.8


def test_fewer_than_two_faces_are_refused_by_file(small):
    folder, model, _ = small
    path = folder.landmarks_file("002_01")
    edit(path, lambda content: content.update({str(view): None for view in range(5)}))
    with pytest.raises(ValueError, match=r"002/01/landmarks.json: .* two views with a face"):
        fit_base_meshes(folder, model)
    assert not folder.base_mesh_file("001_01").exists()


def test_a_bad_landmark_in_one_view_does_little(small):
    folder, model, truth = small

    def change(content):
        for point in (3, 20, 45, 60):
            content["2"]["points"][point][0] += 60.0

    edit(folder.landmarks_file("001_01"), change)
    fit_base_meshes(folder, model)
    assert errors_mm(folder, truth)["001_01"] < 0.7


def test_a_camera_that_is_off_by_5_mm_is_named_and_does_little(small, caplog):
    folder, model, truth = small

    def change(content):
        content["2_Rt"][0][3] += 4 / folder.scale("001_01")
        content["2_Rt"][1][3] -= 3 / folder.scale("001_01")

    edit(folder.params_file("001_01"), change)
    reports = fit_base_meshes(folder, model)
    assert reports["001_01"]["disagreeing"] == [2]
    assert 4 < reports["001_01"]["view_residual_mm"]["2"] < 6
    assert "001_01: view 2 disagrees" in caplog.text
    assert errors_mm(folder, truth)["001_01"] < 0.8


def test_the_scale_is_written_where_there_is_none(small):
    folder, model, truth = small
    path = folder.root / "Rt_scale_dict.json"
    known = {name: folder.scale(name) for name in truth}
    edit(path, lambda content: content.pop("2"))
    reports = fit_base_meshes(folder, model)
    assert folder.scale("001_01") == known["001_01"]
    assert folder.scale("002_01") == pytest.approx(known["002_01"], rel=0.02)
    # Its transform leads from the cameras' world to the model's frame.
    transform = np.array(reports["002_01"]["canonical"])
    mesh = read_obj_topology(folder.base_mesh_file("002_01")).vertices * folder.scale("002_01")
    moved = mesh @ transform[:, :3].T + transform[:, 3]
    assert np.linalg.norm(moved - truth["002_01"], axis=1).mean() < 3
    path.unlink()
    fit_base_meshes(folder, model, overwrite=True)
    assert folder.scale("331_01") == pytest.approx(known["331_01"], rel=0.02)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"points": [[0, 0]] * 67, "score": 1}, "68 x 2"),
        ({"points": [[0, float("nan")]] * 68, "score": 1}, "68 x 2"),
        ({"points": "none", "score": 1}, "68 x 2"),
        ([1, 2], "or null"),
        ({"points": [[0, 0]] * 68, "score": None}, "or null"),
    ],
)
def test_broken_landmarks_are_refused_by_file_and_view(small, entry, message):
    path = small[0].landmarks_file("001_01")
    edit(path, lambda content: content.update({"3": entry}))
    with pytest.raises(ValueError, match=f"001/01/landmarks.json: .*'3'.*{message}"):
        read_view_points(path, range(6))
    edit(path, lambda content: content.pop("3"))
    with pytest.raises(ValueError, match="no entry '3'"):
        read_view_points(path, range(6))
