"""Arrays come out of pickles, programs do not."""

import contextlib
import io
import os
import pickle
import struct
import sys

import numpy as np
import pytest
import scipy.sparse
import torch

from lit_face.io.unpickling import (
    UnsafePickleError,
    read_npy,
    read_npz,
    read_pickle,
    unpickle,
)

MARK = "LIT_FACE_PICKLE_RAN"
PAYLOAD = f"__import__('os').environ.__setitem__('{MARK}', '1')"


class Hostile:
    def __reduce__(self):
        return eval, (PAYLOAD,)


@pytest.fixture(autouse=True)
def nothing_ran(monkeypatch):
    monkeypatch.delenv(MARK, raising=False)
    yield
    assert MARK not in os.environ


def loads(data):
    return unpickle(io.BytesIO(data), "model.pkl")


def refused(data, match="model"):
    with pytest.raises(ValueError, match=match) as caught:
        loads(data)
    assert "model.pkl" in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_arrays_come_back_as_they_were(protocol):
    content = {
        "f8": np.linspace(0, 1, 6).reshape(2, 3),
        "big": np.arange(4, dtype=">i4"),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "u4": np.array([[4294967295, 0]], np.uint32),
        "scalar": np.float32(2.5),
        "sparse": scipy.sparse.csc_matrix(np.array([[0, 2.0, 0], [1, 0, 3]])),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "text": "lbs",
        "set": {1, 2},
    }
    found = loads(pickle.dumps(content, protocol))
    for name in ("f8", "big", "fortran", "u4"):
        np.testing.assert_array_equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    assert found["scalar"] == content["scalar"]
    np.testing.assert_array_equal(found["sparse"], content["sparse"].toarray())
    assert found["objects"].tolist() == [{"a": 1}, None]
    assert (found["text"], found["set"]) == ("lbs", {1, 2})


@pytest.mark.parametrize("protocol", range(2, 6))
def test_tensors_become_arrays(protocol):
    whole = torch.arange(12.0).view(3, 4)
    found = loads(pickle.dumps({"view": whole[1:, ::2], "rows": torch.arange(3)}, protocol))
    np.testing.assert_array_equal(found["view"], whole[1:, ::2])
    np.testing.assert_array_equal(found["rows"], [0, 1, 2])


def test_one_object_used_twice_is_one_array():
    array = np.arange(3)
    found = loads(pickle.dumps([array, array]))
    assert found[0] is found[1]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda bad: bad,
        lambda bad: {"shapedirs": bad},
        lambda bad: np.array([{"x": bad}], dtype=object),
        lambda bad: [np.float64(1), {"deep": (bad,)}],
    ],
    ids=["bare", "dict", "object array", "nested"],
)
def test_reduce_is_refused_wherever_it_hides(protocol, wrap):
    refused(pickle.dumps(wrap(Hostile()), protocol), "eval")


STREAMS = {
    "GLOBAL": b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "INST": b"(S'true'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'true'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x011\x85R.",
    "getattr": b"\x80\x02c__builtin__\ngetattr\n.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__reduce\x93.",
    "dotted class": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "numpy testing": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n.",
    "numpy load": b"\x80\x02cnumpy\nload\n.",
    "torch load": b"\x80\x02ctorch\nload\n.",
    "real chumpy": b"\x80\x02cchumpy.ch_ops\nadd\n)\x81}b.",
    "encode with another codec": b"\x80\x02c_codecs\nencode\nU\x01aU\x03hex\x86R.",
    "array of another class": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc__builtin__\nset\nK\x00\x85U\x01b\x87R."
    ),
    "reconstructor of another class": (
        b"\x80\x02ccopy_reg\n_reconstructor\nc__builtin__\nobject\nc__builtin__\nobject\nN\x87R."
    ),
    "BUILD of a function": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."
    ),
    "BUILD of a stub class": b"\x80\x02cchumpy.ch\nCh\nN}X\x01\x00\x00\x00xK\x01s\x86b.",
    "persistent id": b"Pos.system\n.",
    "extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("name", STREAMS)
def test_hand_written_streams_are_refused(name):
    refused(STREAMS[name])


def test_the_refusal_names_file_and_global():
    refused(STREAMS["GLOBAL"], r"model\.pkl asks for 'posix\.system'.*nothing was run")
    refused(STREAMS["real chumpy"], r"chumpy\.ch_ops\.add.*numpy < 1\.24")


def chumpy_pickle(state):
    return b"\x80\x02cchumpy.ch\nCh\n)\x81" + state + b"b."


def test_nothing_hides_in_a_chumpy_state():
    inner = pickle.dumps({"x": Hostile()}, 2)[2:-1]
    refused(chumpy_pickle(inner), "eval")
    own = pickle.dumps({"x": np.arange(3.0), "__setstate__": 1}, 2)[2:-1]
    np.testing.assert_array_equal(loads(chumpy_pickle(own)), [0, 1, 2])
    refused(chumpy_pickle(pickle.dumps({"y": 1}, 2)[2:-1]), "no 'x'")


def tensor_pickle(storage):
    body = pickle.dumps(storage, 2)[2:-1]
    size, stride = pickle.dumps((1,), 2)[2:-1], pickle.dumps((1,), 2)[2:-1]
    storage_call = b"ctorch.storage\n_load_from_bytes\n" + body + b"\x85R"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + storage_call + b"K\x00" + size + stride + b"I00\nNtR."
    )  # fmt: skip


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_hides_in_a_torch_storage(new_format):
    buffer = io.BytesIO()
    torch.save(Hostile(), buffer, _use_new_zipfile_serialization=new_format)
    refused(tensor_pickle(buffer.getvalue()))
    refused(tensor_pickle(pickle.dumps(Hostile(), 2)))


def test_a_tensor_cannot_read_past_its_storage():
    good = pickle.dumps(torch.arange(4.0)[:2], 2)
    assert loads(good).tolist() == [0, 1]
    refused(good.replace(b"K\x02\x85", b"K\x7f\x85"))


def array_pickle(kind, flags, content):
    """An array whose type claims `flags`: with 0, numpy would take bytes for object pointers."""
    dtype = (
        b"cnumpy\ndtype\n" + pickle.dumps((kind, False, True), 2)[2:-1] + b"R("
        + b"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + bytes([75, flags]) + b"tb"
    )  # fmt: skip
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
        + b"K\x01K\x01\x85" + dtype + b"I00\n" + pickle.dumps(content, 2)[2:-1] + b"tb."
    )  # fmt: skip


def test_forged_object_pointers_are_refused():
    refused(array_pickle("O8", 0, struct.pack("<Q", 0x41414141)), "objects")
    assert loads(array_pickle("O8", 63, ["fine"])).tolist() == ["fine"]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_broken_files_are_errors_that_name_the_file(cut):
    refused(pickle.dumps({"a": np.arange(30)})[:cut])
    refused(b"")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_end_in_an_error_or_in_arrays():
    rng = np.random.default_rng(0)
    content = {"a": np.arange(5.0), "o": np.array([{"x": 1}], object), "t": torch.arange(3.0)}
    for _ in range(400):
        data = bytearray(pickle.dumps(content, 2))
        for place in rng.integers(2, len(data), size=rng.integers(1, 5)):
            data[place] = rng.integers(256)
        with contextlib.suppress(ValueError):  # nothing else, and no crash
            loads(bytes(data))


def test_self_containing_and_too_deep_objects_end():
    loop = []
    loop.append(loop)
    refused(pickle.dumps(loop), "contains itself")
    refused(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "too deeply")


def test_sparse_entries_stay_inside():
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = 70_000
    refused(pickle.dumps(matrix, 2), "outside")


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "plain.npy", np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(read_npy(tmp_path / "plain.npy"), [[0, 3], [1, 4], [2, 5]])
    np.save(tmp_path / "bad.npy", np.array([Hostile()], dtype=object))
    with pytest.raises(UnsafePickleError, match=r"bad\.npy.*eval"):
        read_npy(tmp_path / "bad.npy")
    np.savez(tmp_path / "mixed.npz", a=np.arange(2), b=np.array({"k": 1}, dtype=object))
    found = read_npz(tmp_path / "mixed.npz")
    assert found["b"] == {"k": 1}
    np.savez(tmp_path / "bad.npz", b=np.array([Hostile()], dtype=object))
    with pytest.raises(UnsafePickleError, match=r"bad\.npz: b\.npy.*eval"):
        read_npz(tmp_path / "bad.npz")
    (tmp_path / "no.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no\.npz"):
        read_npz(tmp_path / "no.npz")


@pytest.mark.parametrize("name", ["hostile_eval.pkl", "hostile_os.pkl"])
def test_reference_hostile_pickles_are_refused(reference, name):
    with pytest.raises(UnsafePickleError, match=name):
        read_pickle(reference / "flame" / "toy_model" / name)


def test_reference_hostile_nested_tensor_is_refused(reference):
    name = "hostile_nested_torch_embedding.npy"
    with pytest.raises(UnsafePickleError, match=rf"{name}.*eval"):
        read_npy(reference / "flame" / "toy_model" / name)


def test_reference_chumpy_objects_are_read_without_chumpy(reference):
    folder = reference / "flame" / "toy_model"
    found = read_pickle(folder / "chumpy_objects_py2.pkl")
    with np.load(folder / "chumpy_objects_expected.npz") as expected:
        for name in ("plain", "select", "select1", "arr"):
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(found["csc"], expected["csc_dense"])
    assert "chumpy" not in sys.modules
