"""Released weights to a portable folder, with and without TensorFlow."""

import json

import cv2
import numpy as np
import pytest
import torch

from lit_face.inference.portable import load_portable
from lit_face.methods.prn.import_tf import (
    bfm_layout,
    checkpoint_prefix,
    convert,
    main,
    read_weights,
)
from lit_face.methods.prn.network import PRNNetwork
from lit_face.methods.prn.prnet_layout import read_prnet_layout
from lit_face.methods.prn.tensorflow_weights import expected_variables
from tests.helpers.tolerances import assert_close


class Arrays:
    """A checkpoint in memory, with what Adam leaves behind."""

    def __init__(self, arrays):
        slots = {
            name: np.zeros(shape, np.float32)
            for name, shape in expected_variables(PRNNetwork()).items()
            if name not in arrays and ("Adam" in name or "power" in name)
        }
        self.arrays = {**arrays, **slots}

    def get_variable_to_shape_map(self):
        return {name: list(array.shape) for name, array in self.arrays.items()}

    def get_tensor(self, name):
        assert "Adam" not in name
        return self.arrays[name]


@pytest.fixture(scope="module")
def weights(reference):
    return dict(np.load(reference / "prn" / "net_weights_s101.npz"))


@pytest.fixture(scope="module")
def uv_folder(reference, tmp_path_factory):
    """PRNet's Data/uv-data, as its repository has it."""
    folder = tmp_path_factory.mktemp("uv-data")
    data = np.load(reference / "prn" / "uv_data.npz")
    np.savetxt(folder / "face_ind.txt", data["face_ind"])
    np.savetxt(folder / "uv_kpt_ind.txt", data["uv_kpt_ind"])
    np.savetxt(folder / "triangles.txt", data["triangles_grid"][:, ::-1])
    np.save(folder / "canonical_vertices.npy", data["canonical_vertices"])
    cv2.imwrite(str(folder / "uv_weight_mask.png"), data["uv_weight_mask"])
    return folder


@pytest.fixture
def files(tmp_path):
    for suffix in (".index", ".data-00000-of-00001"):
        (tmp_path / f"weights{suffix}").touch()
    return tmp_path / "weights"


def test_the_expected_list_is_the_released_checkpoints(reference):
    released = json.loads((reference / "prn" / "tf_checkpoint_variables.json").read_text())
    ours = expected_variables(PRNNetwork())
    assert len(ours) == 545
    assert {name: tuple(shape) for name, shape in released.items()} == ours


def test_folder_with_the_released_weights(reference, weights, uv_folder, files, tmp_path):
    layout = read_prnet_layout(uv_folder)
    folder = convert(files, tmp_path / "prnet", layout, opener=lambda _: Arrays(weights))
    predictor = load_portable(folder)
    assert (predictor.image_size, predictor.margin) == (256, 1.6)
    assert "Basel" in predictor.record["licence"]
    forward = np.load(reference / "prn" / "net_forward_s101.npz")
    image = torch.as_tensor(forward["x_u8"][:1]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        maps = predictor.position_maps(image).permute(0, 2, 3, 1)
    assert_close(maps / 281.6, forward["y"][:1], atol=1e-4, rtol=0)


def test_layout_of_prnet(reference, uv_folder):
    layout = read_prnet_layout(uv_folder)
    data = np.load(reference / "prn" / "uv_data.npz")
    assert np.array_equal(layout.texels, data["face_ind"])
    corners = layout.mean_face[layout.faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert normals[:, 2].sum() > 0  # outwards although the file winds them inwards
    points = (layout.mean_face[layout.landmark_texels] * layout.landmark_weights[..., None]).sum(1)
    assert points[8, 1] < points[30, 1] < points[27, 1]  # chin, nose tip, bridge: y up
    assert points[30, 2] > points[[0, 16], 2].max()  # z out of the face
    column, row = layout.texel_uv[layout.landmark_texels[:, 0]].T * 255
    assert np.array_equal(column.round(), data["uv_kpt_ind"][0])
    assert np.array_equal(255 - row.round(), data["uv_kpt_ind"][1])
    eyes = layout.regions["eyes"].bool().numpy()
    assert eyes[data["eye_edit_mask"]].all()
    for name, landmarks in (("eyes", range(36, 48)), ("nose", range(27, 36)),
                            ("mouth", range(48, 68))):  # fmt: skip
        u, v = data["uv_kpt_ind"][:, list(landmarks)]
        assert layout.regions[name][v, u].all(), name


def test_layout_from_a_basel_face_model(reference):
    layout = bfm_layout(reference / "prn" / "standin_BFM.mat")
    assert (layout.uv_size, layout.unit) == (256, "mm")


def test_problems_are_named(weights, files):
    broken = dict(weights)
    del broken["resfcn256/Conv/weights"]
    broken["resfcn256/resBlock/Conv_2/weights"] = np.zeros((1, 1, 2, 2))
    broken["vgg/conv"] = np.zeros(3)
    with pytest.raises(ValueError, match="my file") as error:
        read_weights(Arrays(broken), "my file")
    for part in ("1 missing: resfcn256/Conv/weights", "1 unknown: vgg/conv",
                 "resBlock/Conv_2/weights (1, 1, 2, 2) instead of (1, 1, 16, 32)"):  # fmt: skip
        assert part in str(error.value)
    assert checkpoint_prefix(f"{files}.index") == checkpoint_prefix(files.parent) == files
    (files.parent / "weights.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match="data-00000"):
        checkpoint_prefix(files)


def test_command_line_says_what_is_missing(tmp_path, capsys):
    arguments = [str(tmp_path / "none"), str(tmp_path / "out"), "--uv-data", str(tmp_path)]
    assert main(arguments) == 2
    assert "face_ind.txt" in capsys.readouterr().err


def test_a_checkpoint_of_tensorflow_itself(weights, uv_folder, tmp_path, capsys):
    tensorflow = pytest.importorskip("tensorflow")
    v1 = tensorflow.compat.v1
    content = Arrays(weights).arrays
    with v1.Graph().as_default(), v1.Session() as session:
        for name, value in content.items():
            # Values are assigned, not put into the graph, which may not exceed 2 GB.
            variable = v1.get_variable(name, np.shape(value), initializer=v1.zeros_initializer())
            session.run(variable.initializer)
            variable.load(value, session)
        v1.train.Saver().save(session, str(tmp_path / "weights"))
    out = tmp_path / "prnet"
    assert main([str(tmp_path / "weights"), str(out), "--uv-data", str(uv_folder)]) == 0
    assert "reconstruct.py" in capsys.readouterr().out
    expected = read_weights(Arrays(weights), "memory").state_dict()
    found = load_portable(out).network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
