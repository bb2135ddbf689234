import json

import numpy as np
import pytest

from lit_face.morphable_models.ict_obj import (
    find_obj_folder,
    packed,
    read_obj_folder,
    write_packed,
)

MICROMETRES_10 = 1e-3  # in centimetres: what half precision leaves of 42 mm
IDENTITIES, EXPRESSIONS = (0, 37), ("browDown_L", "jawOpen")


@pytest.fixture(scope="module")
def npz(reference):
    with np.load(reference / "ict_facekit" / "ict_facekit.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def write_obj(path, vertices, tail):
    lines = "\n".join("v {:.6f} {:.6f} {:.6f}".format(*row) for row in vertices)
    path.write_text(f"# a comment\nmtllib ICTFaceModelMaterial.mtl\n{lines}\n{tail}")


@pytest.fixture(scope="module")
def released(npz, tmp_path_factory):
    """The npz written back as the release has it: quads and triangles, some of the shapes."""
    folder = tmp_path_factory.mktemp("ict") / "FaceXModel"
    folder.mkdir()
    faces = []
    for vertices, texture in zip(npz["polygons"], npz["uv_polygons"], strict=True):
        pairs = [f"{v + 1}/{t + 1}" for v, t in zip(vertices, texture, strict=True) if v >= 0]
        faces.append("f " + " ".join(pairs))
    tail = "\n".join([*(f"vt {u:.6f} {v:.6f}" for u, v in npz["uv"]), "usemtl skin", *faces]) + "\n"
    neutral = npz["neutral"].astype(np.float64)
    write_obj(folder / "generic_neutral_mesh.obj", neutral, tail)
    for row, number in enumerate(IDENTITIES):
        write_obj(folder / f"identity{row:03d}.obj", neutral + npz["identity_deltas"][number], tail)
    names = npz["expression_names"].tolist()
    for name in EXPRESSIONS:
        delta = npz["expression_deltas"][names.index(name)]
        write_obj(folder / f"{name}.obj", neutral + delta, tail)
    content = {
        "expressions": list(EXPRESSIONS),
        "idx_to_landmark_verts": npz["landmarks68"].tolist(),
    }
    (folder / "vertex_indices.json").write_text(json.dumps(content))
    return folder


def test_the_folder_gives_the_arrays_of_the_npz(npz, released):
    found = read_obj_folder(released)
    for name in ("faces", "uv_faces", "landmarks68"):
        assert np.array_equal(found[name], npz[name])
    np.testing.assert_allclose(found["neutral"], npz["neutral"], atol=1e-6)
    np.testing.assert_allclose(found["uv"], npz["uv"], atol=1e-6)
    assert found["expression_names"].tolist() == list(EXPRESSIONS)
    names = npz["expression_names"].tolist()
    wanted = npz["expression_deltas"][[names.index(name) for name in EXPRESSIONS]]
    for have, want in (
        (found["expression_deltas"], wanted),
        (found["identity_deltas"], npz["identity_deltas"][list(IDENTITIES)]),
    ):
        assert np.abs(have.astype(np.float64) - want).max() < MICROMETRES_10


def test_the_packed_file_is_made_once_and_again_when_the_folder_changes(
    released, tmp_path, monkeypatch
):
    monkeypatch.setenv("LIT_FACE_CACHE", str(tmp_path))
    assert find_obj_folder(released.parent) == released
    assert find_obj_folder(tmp_path) is None
    first = packed(released)
    written = first.stat().st_mtime_ns
    assert packed(released) == first
    assert first.stat().st_mtime_ns == written
    with np.load(first, allow_pickle=False) as stored:
        assert stored["identity_deltas"].shape == (2, 26719, 3)
    (released / "identity002.obj").write_text((released / "identity001.obj").read_text())
    try:
        assert packed(released) != first
    finally:
        (released / "identity002.obj").unlink()


def test_missing_and_truncated_files_are_named(released, tmp_path):
    with pytest.raises(FileNotFoundError, match="ICT-VGL/ICT-FaceKit"):
        read_obj_folder(tmp_path)
    for name in ("generic_neutral_mesh.obj", "vertex_indices.json"):
        (tmp_path / name).symlink_to(released / name)
    with pytest.raises(FileNotFoundError, match=r"browDown_L\.obj, jawOpen\.obj, identity000\.obj"):
        read_obj_folder(tmp_path)
    for name in ("browDown_L.obj", "jawOpen.obj"):
        (tmp_path / name).symlink_to(released / name)
    (tmp_path / "identity000.obj").write_text((released / "identity000.obj").read_text()[:99999])
    with pytest.raises(ValueError, match=r"identity000\.obj: \d+ vertices, .* has 26719"):
        read_obj_folder(tmp_path)
    (tmp_path / "generic_neutral_mesh.obj").unlink()
    text = (released / "generic_neutral_mesh.obj").read_text()
    (tmp_path / "generic_neutral_mesh.obj").write_text(
        text[: text.index("vt ")] + "f 1/1 2/2 3/3\n"
    )
    with pytest.raises(ValueError, match="truncated"):
        read_obj_folder(tmp_path)
    (tmp_path / "vertex_indices.json").unlink()
    (tmp_path / "vertex_indices.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not ICT-FaceKit's vertex_indices\.json"):
        read_obj_folder(tmp_path)


def test_packing_keeps_every_field(released, tmp_path):
    arrays = read_obj_folder(released)
    write_packed(arrays, tmp_path / "ict_facekit.npz")
    with np.load(tmp_path / "ict_facekit.npz", allow_pickle=False) as stored:
        assert set(stored.files) == set(arrays)
        assert all(np.array_equal(stored[name], value) for name, value in arrays.items())
