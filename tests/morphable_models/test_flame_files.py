"""FLAME's files: found, read, checked, refused with one clear error."""

import pickle
import shutil

import numpy as np
import pytest
import scipy.sparse
import torch

from lit_face.io.unpickling import UnsafePickleError
from lit_face.morphable_models.flame import flame
from lit_face.morphable_models.flame.__main__ import main
from lit_face.morphable_models.flame.files import find_model, read_flame
from lit_face.morphable_models.flame.side_files import find_embedding, read_embedding
from tests.helpers.tolerances import assert_close


@pytest.fixture
def toy(reference, tmp_path):
    """A folder with the synthetic model's files under FLAME's names."""
    source, folder = reference / "flame" / "toy_model", tmp_path / "flame"
    folder.mkdir()
    for old, new in (
        ("toy_generic_model_chumpy_py2.pkl", "generic_model.pkl"),
        ("toy_landmark_embedding.npy", "landmark_embedding.npy"),
        ("toy_head_template.obj", "head_template_mesh.obj"),
        ("toy_FLAME_texture.npz", "FLAME_texture.npz"),
    ):
        shutil.copy(source / old, folder / new)
        (folder / new).chmod(0o644)
    return folder


def tiny(columns=400):
    """A tetrahedron with FLAME's keys."""
    rng = np.random.default_rng(0)
    return {
        "v_template": np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.1]]),
        "f": np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint32),
        "shapedirs": rng.normal(size=(4, 3, columns)),
        "posedirs": rng.normal(size=(4, 3, 36)),
        "J_regressor": scipy.sparse.csc_matrix(np.full((5, 4), 0.25)),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], range(5)], np.uint32),
        "weights": np.full((4, 5), 0.2),
        "bs_style": "lbs",
    }


def written(folder, name="generic_model.pkl", **changes):
    content = tiny() | changes
    path = folder / name
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if v is not None}, 2))
    return path


def test_seams_are_split_and_the_texture_fits(toy):
    model = flame(toy)
    assert len(model.mean) == 355
    raw = read_flame(toy / "generic_model.pkl")
    assert_close(model.mean, 1000 * raw.template[model.origin], atol=1e-4, rtol=0)
    assert torch.equal(model.origin[model.faces], raw.faces)
    assert model.albedo_size == 8
    (toy / "FLAME_texture.npz").unlink()
    plain = flame(toy)
    assert plain.albedo_size == 3
    first, second = (m.uv[m.faces].flatten(0, 1) for m in (model, plain))
    assert_close(first, second, atol=1e-6, rtol=0)
    assert_close(plain.mean[plain.faces], model.mean[model.faces])


def test_the_kept_columns_are_the_leading_ones(toy):
    whole, few = flame(toy), flame(toy, identity_size=20, expression_size=10)
    assert (whole.identity_size, whole.expression_size) == (300, 100)
    assert torch.equal(few.identity_basis, whole.identity_basis[..., :20])
    assert torch.equal(few.expression_basis, whole.expression_basis[..., :10])
    zero = torch.ones(1, 20), torch.ones(1, 10)
    joints = torch.full((1, 4, 3), 0.1)
    assert_close(few(*zero, joints=joints), whole(*zero, joints=joints), atol=1e-4, rtol=0)


def test_a_converted_model_is_read_in_the_place_of_its_source(toy, capsys):
    before = flame(toy)
    assert main([str(toy / "generic_model.pkl"), str(toy / "generic_model.npz")]) == 0
    (toy / "generic_model.pkl").unlink()
    source, plain = toy / "landmark_embedding.npy", toy / "landmark_embedding.npz"
    assert main([str(source), str(plain)]) == 0
    source.unlink()
    for name in ("generic_model.npz", "landmark_embedding.npz"):
        with np.load(toy / name, allow_pickle=False) as stored:
            assert all(stored[key].dtype.kind in "iufU" for key in stored.files)
    after = flame(toy)
    assert after.name == before.name
    assert torch.equal(after.identity_basis, before.identity_basis)
    vertices = before.mean[None]
    assert torch.equal(after.landmarks(vertices), before.landmarks(vertices))
    assert "is ready" in capsys.readouterr().out


def test_conversion_refuses_what_is_unsafe_or_something_else(reference, tmp_path, capsys):
    hostile = reference / "flame" / "toy_model" / "hostile_os.pkl"
    assert main([str(hostile), str(tmp_path / "a.npz")]) == 2
    assert "posix.getcwd" in capsys.readouterr().err
    assert main([str(tmp_path / "none.pkl"), str(tmp_path / "a.npz")]) == 2
    assert main([str(hostile), str(tmp_path / "a.pkl")]) == 2
    assert main([str(tmp_path / "x.txt"), str(tmp_path / "a.npz")]) == 2
    assert not list(tmp_path.iterdir())


def test_the_pair_of_smplx_is_taken_too(toy):
    own = read_embedding(toy / "landmark_embedding.npy")
    static = {"lmk_face_idx": own["static_faces"].numpy().astype(np.uint32)}
    static["lmk_b_coords"] = own["static_weights"].numpy()
    (toy / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, 2))
    dynamic = np.empty((), dtype=object)
    dynamic[()] = {"lmk_face_idx": own["dynamic_faces"], "lmk_b_coords": own["dynamic_weights"]}
    np.save(toy / "flame_dynamic_embedding.npy", dynamic, allow_pickle=True)
    (toy / "landmark_embedding.npy").unlink()
    found = find_embedding(toy)
    for key in ("static_faces", "static_weights", "dynamic_faces", "dynamic_weights"):
        assert torch.equal(found[key], own[key]), key
    assert torch.equal(found["full_faces"][:17], own["dynamic_faces"][0])  # they have no fixed one
    (toy / "generic_model.pkl").rename(toy / "FLAME_NEUTRAL.pkl")
    assert flame(toy).name.startswith("flame-FLAME_NEUTRAL-")


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        (
            "generic_model.pkl",
            r"generic_model\.pkl.*morphable_model\.root.*LIT_FACE_FLAME.*flame\.is",
        ),
        ("landmark_embedding.npy", r"landmark_embedding\.npy.*morphable_model\.root.*flame\.is"),
        ("head_template_mesh.obj", r"head_template_mesh\.obj.*morphable_model\.root.*flame\.is"),
    ],
)
def test_a_missing_file_is_one_error_that_says_where_to_get_it(toy, missing, match):
    (toy / "FLAME_texture.npz").unlink()
    (toy / missing).unlink()
    with pytest.raises(FileNotFoundError, match=match):
        flame(toy)


def test_two_editions_in_one_folder_are_not_guessed(tmp_path):
    written(tmp_path)
    second = written(tmp_path, "flame2023.pkl")
    with pytest.raises(ValueError, match=r"several FLAME models.*generic_model.*flame2023"):
        find_model(tmp_path)
    assert find_model(second) == second


def test_the_edition_is_told_by_content_not_by_name(tmp_path):
    first, same = written(tmp_path), written(tmp_path, "flame2023.pkl")
    other = written(tmp_path, "flame2023_Open.pkl", shapedirs=tiny()["shapedirs"] + 1)
    editions = [read_flame(path).edition.split("-")[-1] for path in (first, same, other)]
    assert editions[0] == editions[1] != editions[2]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"shapedirs": np.zeros((4, 3, 20))}, "20 columns, expected 300 identities"),
        ({"weights": np.full((4, 5), 0.3)}, "'weights' should sum to 1"),
        ({"weights": np.full((4, 4), 0.25)}, r"'weights' should be \(4,5\)"),
        ({"posedirs": np.zeros((4, 3, 207))}, r"'posedirs' should be \(4,3,36\)"),
        ({"f": np.array([[0, 1, 4]], np.uint32)}, "'f' should name vertices 0 to 3"),
        ({"v_template": 1000 * tiny()["v_template"]}, "in millimetres, not metres"),
        ({"v_template": np.full((4, 3), np.nan)}, "not finite"),
        ({"kintree_table": np.array([[0, 0, 1, 1, 1], range(5)])}, "one root"),
        ({"kintree_table": np.array([[-1, 2, 1, 1, 1], range(5)])}, "one root"),
        ({"posedirs": None, "f": None}, "lacks f, posedirs"),
    ],
)
def test_what_is_misshapen_is_refused_by_name(tmp_path, changes, match):
    with pytest.raises(ValueError, match=rf"generic_model\.pkl.*{match}"):
        read_flame(written(tmp_path, **changes))


@pytest.mark.parametrize("root", [4294967295, -1])
def test_the_root_has_no_parent_in_either_notation(tmp_path, root):
    table = np.array([[root, 0, 1, 1, 1], range(5)], np.int64)
    assert read_flame(written(tmp_path, kintree_table=table)).parents == (-1, 0, 1, 1, 1)


def test_an_unsafe_model_is_refused(tmp_path):
    (tmp_path / "generic_model.pkl").write_bytes(b"\x80\x02cposix\ngetcwd\n)R.")
    with pytest.raises(UnsafePickleError, match=r"posix\.getcwd"):
        flame(tmp_path)


def test_files_of_different_meshes_are_noticed(toy):
    lines = (toy / "head_template_mesh.obj").read_text().splitlines()
    fewer = [line for line in lines if not line.startswith("f")]
    faces = [line for line in lines if line.startswith("f")]
    (toy / "FLAME_texture.npz").unlink()
    (toy / "head_template_mesh.obj").write_text("\n".join([*fewer, *faces[:-1]]))
    with pytest.raises(ValueError, match=r"head_template_mesh\.obj.*600 faces; found 599"):
        flame(toy)
    (toy / "head_template_mesh.obj").write_text("\n".join([*fewer, *faces[::-1]]))
    with pytest.raises(ValueError, match="another mesh"):
        flame(toy)
