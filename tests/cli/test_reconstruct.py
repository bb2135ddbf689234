"""reconstruct.py as people use it: good folders, bad ones, interrupted ones."""

import csv
import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from lit_face import cli
from lit_face.io.images import read_image
from lit_face.io.meshes import read_mesh
from tests.helpers.photos import portraits, write_portraits
from tests.helpers.runs import REPO, command, train_here

ALL = "outputs=[obj,ply,glb,texture,landmarks,points,pose,depth,overlay]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A toy model's run folder."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train_here(folder, "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    return folder


@pytest.fixture(scope="module")
def pictures():
    shots, landmarks, *_ = portraits([[0, 0, 0], [0, 25, 5], [5, -20, 0]], size=160)
    return shots, landmarks


@pytest.fixture
def run(monkeypatch, capfd):
    """Run reconstruct.py in this process; return exit status, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reconstruct.py", *arguments])
        status = 0
        try:
            cli.reconstruct()
        except SystemExit as stop:
            status = stop.code
        return (status, *capfd.readouterr())

    return call


def options(trained, folder, out, table):
    finder = ("finder=file", f"finder.path={table}")
    return (f"ckpt={trained}", f"input={folder}", f"out={out}", *finder, "device=cpu")


def rows(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_output_of_a_folder(run, trained, pictures, tmp_path):
    names = ["one.png", "sub/two.jpg", "sub/three.png"]
    table = write_portraits(tmp_path / "photos", names, *pictures)
    with table.open("a") as stream:  # a second face in the last photo
        stream.write("sub/three.png,10,10,60,60\n")
    given = options(trained, tmp_path / "photos", tmp_path / "out", table)
    status, out, _ = run(*given, ALL)
    assert status == 0
    assert "3 of 3 photos, 4 faces" in out
    summary = rows(tmp_path / "out" / "summary.csv")
    assert [row["folder"] for row in summary] == [
        "one", "sub/three/face1", "sub/three/face2", "sub/two"
    ]  # fmt: skip
    assert all(0 <= float(row["visibility_share"]) <= 1 for row in summary)
    one = tmp_path / "out" / "one"
    expected = (
        "depth.json depth.png depth_view.png landmarks.json mesh.glb mesh.mtl mesh.obj mesh.ply "
        "mesh_texture.png overlay.jpg points.npz pose.json record.json texture.png "
        "texture_visible.png"
    )
    assert sorted(file.name for file in one.iterdir()) == expected.split()
    arrays = np.load(one / "points.npz")
    heights = 159 - read_mesh(one / "mesh.obj").vertices[:, 1]
    assert np.allclose(heights, arrays["image_vertices"][:, 1], atol=1e-4)
    pose = json.loads((one / "pose.json").read_text())
    mapped = np.c_[arrays["vertices"], np.ones(len(arrays["vertices"]))]
    mapped = mapped @ np.array(pose["camera_matrix"]).T
    assert np.allclose(mapped, arrays["image_vertices"], atol=1e-2)
    assert read_image(one / "overlay.jpg").shape == (160, 160, 3)


def test_a_bad_folder_costs_only_its_bad_photos(run, trained, pictures, tmp_path):
    shots, landmarks = pictures
    folder = tmp_path / "photos"
    names = ["im Garten (1).png", "写真 été.png", "a.png"]
    table = write_portraits(folder, names, shots, landmarks)
    for name in ("b/a.PNG", "a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    with table.open("a") as stream:
        low, high = landmarks[2, :, :2].amin(0).tolist(), landmarks[2, :, :2].amax(0).tolist()
        stream.writelines(
            f"{name},{low[0]},{low[1]},{high[0]},{high[1]}\n" for name in ("a.PNG", "a.jpg")
        )
        stream.write("large.jpg,2000,1500,4000,3500\n")
    (folder / "text.jpg").write_text("not a picture\n")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:2000])
    cv2.imwrite(str(folder / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    cv2.imwrite(str(folder / "nobody.png"), np.full((50, 50, 3), 99, np.uint8))
    cv2.imwrite(str(folder / "large.jpg"), np.full((5200, 7700, 3), 99, np.uint8))  # 40 megapixels
    (folder / "notes.txt").write_text("no photo")
    (folder / "gone.jpg").symlink_to(folder / "nothing.jpg")
    status, _, errors = run(*options(trained, folder, tmp_path / "out", table))
    assert status == 1, errors
    problems = {row["photo"]: row["problem"] for row in rows(tmp_path / "out" / "problems.csv")}
    assert sorted(problems) == [
        "cut.png",
        "dot.png",
        "empty.png",
        "gone.jpg",
        "nobody.png",
        "text.jpg",
    ]
    assert problems["gone.jpg"] == "the file has disappeared"
    assert problems["nobody.png"] == "no face found"
    assert "not a picture" in problems["text.jpg"]
    lines = [
        line for line in errors.splitlines() if "torchvision" not in line and "_retry" not in line
    ]
    assert sorted(line.split(": ")[0] for line in lines) == sorted(problems)
    summary = {row["photo"]: row["folder"] for row in rows(tmp_path / "out" / "summary.csv")}
    assert summary == {
        "im Garten (1).png": "im Garten (1)",
        "写真 été.png": "写真 été",
        "a.png": "a.png",
        "a.jpg": "a.jpg",
        "b/a.PNG": "b/a",
        "large.jpg": "large",
    }
    assert all((tmp_path / "out" / place / "mesh.obj").is_file() for place in summary.values())


def test_paths_with_any_characters(trained, pictures, tmp_path):
    folder = tmp_path / "it's [a] {strange}, 家 = $x"
    table = write_portraits(folder, ["x, y = 'z'.png"], pictures[0][:1], pictures[1][:1])
    out = tmp_path / "Größe, 出 #1"
    given = options(trained, folder / "x, y = 'z'.png", out, table)
    command("reconstruct.py", *given, runs=tmp_path)
    assert (out / "x, y = 'z'" / "mesh.obj").is_file()


def test_what_is_done_is_not_done_again(run, trained, pictures, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    table = write_portraits(folder, ["a.png", "b.png", "c.png"], *pictures)
    given = options(trained, folder, out, table)
    assert run(*given)[0] == 0
    times = {name: (out / name / "mesh.obj").stat().st_mtime_ns for name in "abc"}
    (folder / "a.png").touch()  # the same picture
    (folder / "b.png").write_bytes((folder / "c.png").read_bytes())  # another picture
    (out / "c" / "mesh.obj").unlink()
    (folder / "d.png").write_text("broken")
    status, text, _ = run(*given)
    assert status == 1
    assert "3 of 4 photos, 1 of them done before, 3 faces; 1 with a problem" in text
    again = {name: (out / name / "mesh.obj").stat().st_mtime_ns for name in "abc"}
    assert [name for name in "abc" if again[name] != times[name]] == ["b", "c"]
    assert len(rows(out / "summary.csv")) == 3
    (folder / "d.png").unlink()
    assert "3 of 3 photos, 3 faces:" in run(*given, "texture_size=64", "batch_size=1")[1]
    assert read_image(out / "a" / "mesh_texture.png").shape == (64, 64, 3)


def test_a_killed_run_continues(trained, pictures, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    names = [f"{number:02}.png" for number in range(24)]
    shots, landmarks = pictures
    order = [number % 3 for number in range(24)]
    table = write_portraits(folder, names, shots[order], landmarks[order])
    arguments = (*options(trained, folder, out, table), "batch_size=1", ALL)
    process = subprocess.Popen(
        [sys.executable, str(REPO / "reconstruct.py"), *arguments], cwd=tmp_path
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("[!.]*/record.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    complete = {file.parent.name for file in out.glob("[!.]*/record.json")}
    visible = {place.name for place in out.glob("[!.]*") if place.is_dir()}
    assert 3 <= len(complete) < 24
    assert visible == complete  # half-written folders are hidden
    done = command("reconstruct.py", *arguments, runs=tmp_path)
    assert f"24 of 24 photos, {len(complete)} of them done before, 24 faces" in done.stdout
    assert not [file for file in out.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=none.ckpt", "input=photos", "out=out"], "none.ckpt does not exist"),
        (["ckpt=photos", "input=photos/*.jpg", "out=out"], "no photo has such a name"),
        (["ckpt=photos", "input=empty", "out=out"], "no photo in it"),
        (["ckpt=photos", "input=nowhere", "out=out"], "no such file or folder"),
        (["ckpt=photos", "input=photos", "out=out", "outputs=[glbb]"], "did you mean 'glb'"),
        (["ckpt=photos", "input=photos", "out=out", "pose=front"], "pose should be"),
        (["ckpt=photos", "input=photos", "out=photos/a.png"], "is a file"),
        (["ckpt=photos", "input=photos", "out=out", "batch_sise=3"], "did you mean 'batch_size'"),
        (["ckpt=photos", "input=photos", "out=out", "finder=cascad"], "did you mean 'cascade'"),
        (["ckpt=photos", "input=photos", "out=out", "batch_size=0"], "batch_size should be"),
        (["input=photos"], "a value is required"),
    ],
)
def test_what_cannot_start_says_why(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    status, _, errors = run(*arguments)
    assert status == 2, errors
    assert message in errors
    assert "Traceback" not in errors


def test_help_names_finders_outputs_and_keys(run):
    text = run("--help")[1]
    for part in ("finder:", "cascade", "mediapipe", "texture_size", "glb", "ckpt=runs/latest"):
        assert part in text
