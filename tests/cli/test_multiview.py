"""reconstruct.py method=uv_implicit as people use it."""

import json
import shutil
import sys

import numpy as np
import pytest

from lit_face import cli
from lit_face.io.images import read_image
from lit_face.morphable_models.facescape.writer import write_bilinear
from lit_face.morphable_models.procedural import procedural_head
from tests.helpers.facescape import edit_json, tiny_raw
from tests.helpers.multiview_runs import (
    SUBJECT,
    displacement_run,
    implicit_run,
    own_capture,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return implicit_run(folder / "implicit"), displacement_run(folder / "displacement")


@pytest.fixture
def run(monkeypatch, capfd, runs, tmp_path):
    """Run reconstruct.py in this process; return exit status, stdout and stderr."""

    def call(*arguments, subject=None):
        subject = subject or tiny_raw() / "imgs" / SUBJECT
        usual = [f"ckpt={runs[0]}", f"displacement={runs[1]}", "device=cpu"]
        usual += ["texture_size=64", "subdivisions=0"]
        given = {argument.split("=")[0] for argument in arguments}
        usual = [argument for argument in usual if argument.split("=")[0] not in given]
        out = tmp_path / "out"
        command = ["method=uv_implicit", f"input={subject}", f"out={out}", *usual, *arguments]
        monkeypatch.setattr(sys, "argv", ["reconstruct.py", *command])
        status = 0
        try:
            cli.reconstruct()
        except SystemExit as stop:
            status = stop.code
        return (status, *capfd.readouterr())

    return call


def test_a_subject_and_once_more(run, tmp_path):
    status, text, log = run()
    out = tmp_path / "out"
    assert status == 0, log
    for part in ("Distance to the scan, mm", "Time and memory", "Which view disagrees"):
        assert part in text
    assert "All views agree." in text
    assert f"Report: {out / 'report.html'}" in text
    picture = read_image(out / "pictures" / "distance-to-the-scan.jpg")
    assert picture.std() > 10
    report = (out / "report.html").read_text()
    assert all(word in report for word in ("implicit", "peak MiB", "landmarks", "brightness"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["multiview/base/distance_mm"] > 0.3
    assert metrics["multiview/seconds"] == pytest.approx(
        sum(entry["seconds"] for entry in json.loads((out / "stages.json").read_text()))
    )
    files = {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*")}
    status, again, log = run()
    assert status == 0
    assert log.count("done before") == 8
    assert {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*")} == files
    assert again.split("Time and memory")[0] == text.split("Time and memory")[0]


def test_refusals(run, runs, tmp_path):
    """Exit status 2, one line, and no stage has begun."""
    displacement = runs[1]
    bilinear = tmp_path / "model"
    write_bilinear(procedural_head(), bilinear, 6, 4)
    core = next(bilinear.glob("core_*.npy"))
    np.save(core, np.load(core)[..., :-3])
    no_camera = own_capture(tmp_path / "no_camera")
    edit_json(no_camera / "params.json", **{"3_K": None})
    no_points = own_capture(tmp_path / "no_points", "landmarks.json")
    tiny = tiny_raw() / "imgs" / SUBJECT
    for arguments, subject, message in (
        ((), no_camera, f"{no_camera / 'params.json'}: no key '3_K'"),
        ((f"morphable_model.root={bilinear}",), tiny, f"{core.name} has"),
        (("finder=cascade",), no_points, f"{no_points} has no landmarks.json, and finder: Cascade"),
        ((f"ckpt={tmp_path / 'nothing'}",), tiny, "python train.py method=uv_regularize"),
        ((f"ckpt={displacement}",), tiny, "is of DisplacementModule; give a run of uv_regularize"),
        (("views=9",), tiny, "views=9, but"),
    ):
        status, _, log = run(*arguments, subject=subject)
        assert status == 2, (arguments, log)
        lines = log[log.index("lit_face cannot start:") :].strip().splitlines()
        assert message in lines[1]
        assert len(lines) == 2, lines
        assert not (tmp_path / "out" / "stages").exists()


def test_a_missing_finder_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    subject = own_capture(tmp_path / "no_points", "landmarks.json")
    status, _, log = run(subject=subject)
    assert status == 2
    assert "has no landmarks.json, and finder=face_alignment needs the package" in log
    shutil.rmtree(subject)
    status, _, log = run(subject=subject)
    assert status == 2
    assert "should be a folder with the photos of one subject" in log
