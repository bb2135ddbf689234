import multiprocessing

import pytest

from lit_face.io.files import atomic_folder, atomic_write


def _half_write(path):
    path.write_text("half")
    raise RuntimeError("disk")


def test_target_appears_only_when_complete(tmp_path):
    target = tmp_path / "new" / "folder" / "array.npy"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".npy"
        temporary.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), atomic_write(target) as temporary:
        _half_write(temporary)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_writing_elsewhere_is_an_error_not_an_empty_success(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.txt"), atomic_write(tmp_path / "a.txt"):
        pass


def _fill(path: str, letter: str) -> None:
    for _ in range(50):
        with atomic_write(path) as temporary:
            temporary.write_text(letter * 10_000)


def test_two_processes_never_leave_a_mixture(tmp_path):
    target = tmp_path / "shared.txt"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(str(target), letter)) for letter in "ab"]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        if target.exists():
            content = target.read_text()
            assert len(content) == 10_000
            assert len(set(content)) == 1
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert list(tmp_path.iterdir()) == [target]


def test_the_first_finished_folder_stays(tmp_path):
    target = tmp_path / "set"
    with atomic_folder(target) as mine:
        (mine / "a").write_text("mine")
        with atomic_folder(target) as theirs:
            (theirs / "a").write_text("theirs")
    assert (target / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_folder_is_removed(tmp_path):
    with pytest.raises(RuntimeError, match="disk"), atomic_folder(tmp_path / "set") as folder:
        _half_write(folder / "a")
    assert not list(tmp_path.iterdir())
