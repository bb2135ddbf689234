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
from tests.helpers.lit_photos import lit_photos, write_lit_photos
from tests.helpers.photos import portraits, write_portraits
from tests.helpers.runs import REPO, train_here

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


def test_paths_with_any_characters(run, trained, pictures, tmp_path):
    folder = tmp_path / "it's [a] {strange}, 家 = $x"
    table = write_portraits(folder, ["x, y = 'z'.png"], pictures[0][:1], pictures[1][:1])
    out = tmp_path / "Größe, 出 #1"
    given = options(trained, folder / "x, y = 'z'.png", out, table)
    assert run(*given)[0] == 0
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


def test_a_killed_run_continues(run, trained, pictures, tmp_path):
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
    status, text, _ = run(*arguments)
    assert status == 0
    assert f"24 of 24 photos, {len(complete)} of them done before, 24 faces" in text
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
        (["input=photos", "out=out", "refine=-1"], "refine should be a whole number of steps"),
        (["input=photos", "out=out", "refine=1.5"], "refine should be a whole number of steps"),
        (["input=photos", "out=out", "init=foo"], "init should be network or landmarks"),
        (["input=photos", "out=out", "shared_identity=true"], "give refine=200"),
        (["input=photos", "out=out", "refine=5"], "PRNPredictor cannot be refined"),
        (["input=a.mp4", "out=out", "refine=5"], "are for photos, not for videos"),
        (["input=a.mp4", "out=out", "init=landmarks"], "are for photos, not for videos"),
        (["input=photos", "out=out", "init=landmarks", "outputs=[relight]"], "'relit'"),
        (
            ["input=photos", "out=out", "init=landmarks", "refinement.weights.photos=1"],
            "did you mean",
        ),
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
    assert not (tmp_path / "out" / "summary.csv").exists()


@pytest.fixture(scope="module")
def lit():
    return lit_photos(2, size=140, angles_deg=((0.0, 0.0, 0.0), (5.0, 20.0, -4.0)))


QUICK = ("landmark_start.image_size=64", "landmark_start.map_size=32", "device=cpu")
REFLECTANCE = "outputs=[obj,glb,maps,light,strip,relit,reposed,landmarks,pose,overlay]"


def from_landmarks(folder, out, table, *more):
    finder = ("finder=file", f"finder.path={table}")
    return (f"input={folder}", f"out={out}", "init=landmarks", *finder, *QUICK, *more)


def test_from_landmarks_to_albedo_and_light(run, lit, tmp_path):
    table = write_lit_photos(tmp_path / "photos", ["a.png", "b.png"], *lit)
    given = from_landmarks(tmp_path / "photos", tmp_path / "out", table, "refine=4", REFLECTANCE)
    status, out, errors = run(*given)
    assert status == 0, errors
    assert "2 of 2 photos, 2 faces" in out
    expected = (
        "diffuse.png landmarks.json light.exr light.npz light.png mesh.glb mesh.mtl mesh.obj "
        "mesh_specular.png mesh_texture.png overlay.jpg pose.json record.json relit.jpg "
        "reposed.jpg roughness.png specular.png strip.jpg"
    )
    assert sorted(f.name for f in (tmp_path / "out" / "a").iterdir()) == expected.split()
    for row, truth in zip(rows(tmp_path / "out" / "summary.csv"), lit[1], strict=True):
        assert float(row["photo_l1_after"]) < float(row["photo_l1_before"])
        assert float(row["landmarks_px_after"]) < 5
        assert abs(float(row["yaw_deg"]) - truth.angles[1]) < 10
    light = np.load(tmp_path / "out" / "a" / "light.npz")["coefficients"]
    assert light.shape == (81, 3)
    assert "2 of them done before" in run(*given)[1]
    again = run(*from_landmarks(tmp_path / "photos", tmp_path / "out", table, "refine=2"))[1]
    assert "done before" not in again  # other settings


def test_without_refinement_the_head_lies_on_the_landmarks(run, lit, tmp_path):
    table = write_lit_photos(tmp_path / "photos", ["a.png", "b.png"], *lit)
    given = from_landmarks(tmp_path / "photos", tmp_path / "out", table, "outputs=[landmarks]")
    assert run(*given)[0] == 0
    points = json.loads((tmp_path / "out" / "b" / "landmarks.json").read_text())["landmarks"]
    distance = (np.array(points) - lit[1][1].landmarks)[17:, :2]
    assert np.linalg.norm(distance, axis=1).mean() < 4
    row = rows(tmp_path / "out" / "summary.csv")[0]
    assert row["photo_l1_before"] == row["photo_l1_after"] != ""


def test_photos_of_one_person_share_their_albedo(run, lit, tmp_path):
    table = write_lit_photos(tmp_path / "photos", ["a.png", "b.png"], *lit)
    given = from_landmarks(tmp_path / "photos", tmp_path / "out", table, "outputs=[maps]")
    status, _, errors = run(*given, "refine=3", "shared_identity=true", "batch_size=1")
    assert status == 0, errors
    first, second = (read_image(tmp_path / "out" / name / "diffuse.png") for name in "ab")
    assert np.array_equal(first, second)


def test_landmarks_need_a_finder_that_has_them(run, tmp_path):
    shots, landmarks, *_ = portraits([[0, 0, 0]], size=200)
    table = write_portraits(tmp_path / "photos", ["a.png"], shots, landmarks)
    given = (f"input={tmp_path / 'photos'}", f"out={tmp_path / 'out'}", "init=landmarks", *QUICK)
    boxes = ("finder=file", f"finder.path={table}")
    # Cascades never have landmarks, which is said at once; a table of boxes has none for a photo.
    for finder, code, start in (((), 2, "lit_face cannot start"), (boxes, 1, "a.png")):
        status, _, errors = run(*given, *finder, "refine=2")
        assert status == code
        text = errors[errors.index(start) :]
        for words in ("68 landmarks", "finder=file", "face_alignment", "mediapipe"):
            assert words in text
        assert not (tmp_path / "out" / "a").exists()


def test_poor_photos_are_done_or_named(run, lit, tmp_path):
    photos, faces = lit
    half = np.ascontiguousarray(photos[0][:, :70])
    pictures, found = [0 * photos[0], half, photos[0]], [faces[0]] * 3
    table = write_lit_photos(
        tmp_path / "photos", ["black.png", "half.png", "c.png"], pictures, found
    )
    cv2.imwrite(str(tmp_path / "photos" / "nobody.png"), np.full((50, 50, 3), 99, np.uint8))
    given = from_landmarks(
        tmp_path / "photos", tmp_path / "out", table, "refine=4", "outputs=[maps,light,strip]"
    )
    status, out, errors = run(*given)
    assert status == 1
    assert "3 of 4 photos" in out
    assert "nobody.png: no face found" in errors
    table = {row["photo"]: row for row in rows(tmp_path / "out" / "summary.csv")}
    assert "face cut off" in table["half.png"]["warnings"]
    for row in table.values():
        assert np.isfinite(float(row["photo_l1_after"]))
        light = np.load(tmp_path / "out" / row["folder"] / "light.npz")["coefficients"]
        assert np.isfinite(light).all()


def test_albedo_of_a_method_without_it_is_a_problem_of_each_photo(run, trained, pictures, tmp_path):
    table = write_portraits(tmp_path / "photos", ["a.png"], pictures[0][:1], pictures[1][:1])
    given = options(trained, tmp_path / "photos", tmp_path / "out", table)
    status, _, errors = run(*given, "outputs=[obj,maps]")
    assert status == 1
    assert "a.png: outputs: maps, light, strip, relit and reposed need a method" in errors
    assert not (tmp_path / "out" / "a").exists()


def test_help_names_finders_outputs_and_keys(run):
    text = run("--help")[1]
    for part in ("finder:", "cascade", "mediapipe", "texture_size", "glb", "ckpt=runs/latest"):
        assert part in text
