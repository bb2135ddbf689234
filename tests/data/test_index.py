import multiprocessing
import os

import numpy as np
import pytest

from lit_face.data.index import fingerprint, packed_index, scan_files

DTYPE = np.dtype([("value", "<f4", (2,))])


@pytest.fixture
def root(tmp_path):
    """Twelve annotation files of two numbers; the fourth is broken."""
    folder = tmp_path / "root"
    folder.mkdir()
    for number in range(12):
        text = "not numbers" if number == 3 else f"{number} {2 * number}"
        (folder / f"{number:02d}.txt").write_text(text)
    return folder


def _open(root, cache, **options):
    reads = []

    def read(name, decode):
        reads.append((name, decode))
        return {"value": [float(word) for word in (root / f"{name}.txt").read_text().split()]}

    files = scan_files(root, ["."], (".txt",))
    names = sorted(name.removesuffix(".txt") for name in files)
    options = {"max_rejected": 0.1, "cache_folder": cache, **options}
    return packed_index("Numbers", root, names, files, DTYPE, read, **options), reads


def test_files_are_read_once_and_rows_keep_their_place(root, tmp_path):
    index, reads = _open(root, tmp_path)
    assert len(reads) == 12
    assert index.names() == [f"{n:02d}" for n in range(12) if n != 3]
    np.testing.assert_array_equal(index.rows["position"], [n for n in range(12) if n != 3])
    np.testing.assert_array_equal(index.rows["value"][:, 1], 2 * index.rows["position"])
    again, reads = _open(root, tmp_path)
    assert not reads
    assert again.folder == index.folder
    assert again.rejected == [("03", "could not convert string to float: 'not'")]


def test_a_changed_file_rebuilds_and_the_old_index_goes(root, tmp_path):
    first, _ = _open(root, tmp_path)
    (root / "05.txt").write_text("7 77")
    second, reads = _open(root, tmp_path)
    assert len(reads) == 12
    assert second.rows["value"][4, 1] == 77
    assert not first.folder.exists()
    os.utime(root / "05.txt", ns=(0, 0))
    assert _open(root, tmp_path)[0].folder != second.folder


def test_too_many_rejects_list_reasons_every_time(root, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"(?s)1 of 12 .*03: could not convert.*rejected\.csv"):
            _open(root, tmp_path, max_rejected=0.01)
    assert len(_open(root, tmp_path)[0]) == 11, "a higher limit needs no second reading"


def test_sample_and_full_verification_decode_as_they_say(root, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_face.data.index._SAMPLED_IMAGES", 3)
    _, reads = _open(root, tmp_path)
    assert sorted(name for name, decode in reads if decode) == ["00", "04", "08"]
    _, reads = _open(root, tmp_path, verify="full")
    assert all(decode for _, decode in reads)
    with pytest.raises(ValueError, match="'sample' or 'full'"):
        _open(root, tmp_path, verify="maybe")


def test_fingerprint_depends_on_names_sizes_times_and_options():
    files = {"a": (1, 2), "b": (3, 4)}
    assert fingerprint(files, {"x": 1}) == fingerprint({"b": (3, 4), "a": (1, 2)}, {"x": 1})
    others = [{"a": (1, 2)}, {"a": (2, 2), "b": (3, 4)}, {"a": (1, 3), "b": (3, 4)}]
    prints = {fingerprint(other, {"x": 1}) for other in others}
    assert len(prints | {fingerprint(files, {"x": 1}), fingerprint(files, {"x": 2})}) == 5


def _build_and_count(root, cache, queue):
    index, _ = _open(root, cache)
    queue.put((index.folder.name, len(index), float(index.rows["value"].sum())))


def test_processes_that_start_together_end_with_one_index(root, tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [
        context.Process(target=_build_and_count, args=(root, tmp_path, queue)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    found = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(found) == 1
    homes = list((tmp_path / "index").iterdir())
    assert len(homes) == 1
    assert [path.name for path in homes[0].iterdir()] == [found.pop()[0]]
