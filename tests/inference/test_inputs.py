"""Which photos a run finds, and that each gets a folder of its own."""

from pathlib import PurePosixPath

import pytest

from lit_face.inference.inputs import find_photos, result_folders


def folders(*names):
    found = result_folders([PurePosixPath(name) for name in names])
    return [found[PurePosixPath(name)] for name in names]


def test_each_photo_has_a_folder_of_its_own():
    assert folders("a.jpg", "b/a.jpg", "c.d.png") == ["a", "b/a", "c.d"]
    assert folders("a.jpg", "a.png", "b.jpg") == ["a.jpg", "a.png", "b"]
    assert folders("A.jpg", "a.png") == ["A.jpg", "a.png"]
    assert folders("a.jpg", "a/b.jpg") == ["a.jpg", "a/b"]  # a/ holds the other one's
    assert folders("summary.csv.jpg") == ["summary.csv.jpg"]
    assert folders("\u00e9.jpg", "e\u0301.png") == ["\u00e9.jpg", "e\u0301.png"]
    tricky = folders("a.jpg", "a.png", "a.jpg.png", "a.jpg/b.png")
    assert len(set(tricky)) == 4
    assert not any(one.startswith(f"{other}/") for one in tricky for other in tricky)


@pytest.fixture
def tree(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", "sub/deep/d.tiff", ".hidden/e.jpg", ".f.jpg",
                 "notes.txt", "out/a/overlay.jpg", "strange [1].png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(tree, given, out="out"):
    return [photo.name for photo in find_photos(given, tree / out)]


def test_files_folders_and_patterns(tree):
    everything = ["a.png", "b.JPG", "strange [1].png", "sub/c.webp", "sub/deep/d.tiff"]
    assert names(tree, tree) == everything
    assert names(tree, str(tree / "strange [1].png")) == ["strange [1].png"]
    assert names(tree, tree / "notes.txt") == ["notes.txt"]  # somebody asks for it
    assert names(tree, f"{tree}/*.png") == ["a.png", "strange [1].png"]
    assert names(tree, f"{tree}/sub/**/*") == ["c.webp", "deep/d.tiff"]
    assert names(tree, f"{tree}/s*/c.*") == ["sub/c.webp"]


def test_what_is_not_there(tree):
    for given, message in (
        (tree / "none", "no such file or folder"),
        (f"{tree}/*.gif", "no photo has such a name"),
        (tree / "out" / "a" / "b", "no such file"),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            find_photos(given, tree / "results")
    (tree / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no photo in it \(\.jpg"):
        find_photos(tree / "empty", tree / "out")
