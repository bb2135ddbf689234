"""One ONNX file is a predictor like the method's own."""

import numpy as np
import pytest
import torch

from lit_face.inference.onnx import OnnxPredictor, export_onnx
from tests.helpers.tolerances import assert_close
from tests.methods.test_prn import small_module

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def predictor():
    return small_module().eval().predictor()


@pytest.fixture(scope="module")
def file(predictor, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert export_onnx(predictor, path, {"licence": "MIT"}) < 1e-3  # pixels of the crop
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]  # weights inside
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_same_faces_for_any_batch(predictor, file, count):
    image = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
    found = OnnxPredictor(file)(image)
    with torch.no_grad():
        expected = predictor(image)
    # An untrained map is nearly flat, so its pose amplifies rounding.
    assert_close(found.image_vertices, expected.image_vertices, atol=1e-3, rtol=0)
    assert_close(found.landmarks, expected.landmarks, atol=1e-3, rtol=0)
    assert torch.equal(found.faces, expected.faces)
    assert torch.equal(found.uv, expected.uv)
    assert found.unit == expected.unit


def test_contract_of_predictors(predictor, file):
    loaded = OnnxPredictor(file)
    assert (loaded.image_size, loaded.margin) == (predictor.image_size, predictor.margin)
    assert loaded.record == {"licence": "MIT"}
    assert torch.equal(loaded.regions["mouth"], predictor.regions["mouth"])


def test_the_graph_runs_without_lit_face(predictor, file):
    session = onnxruntime.InferenceSession(str(file))
    image = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    (maps,) = session.run(None, {"image": image})
    with torch.no_grad():
        expected = predictor.position_maps(torch.from_numpy(image))
    assert_close(maps, expected, atol=1e-3, rtol=0)


def test_other_files_are_named(file, tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        OnnxPredictor(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ValueError, match=r"text\.onnx cannot be read as ONNX"):
        OnnxPredictor(tmp_path / "text.onnx")
    import onnx

    model = onnx.load(file)
    config = next(prop for prop in model.metadata_props if prop.key == "lit_face")
    config.value = config.value.replace(
        "lit_face.methods.prn.reader.PositionMapReader", "os.system"
    )
    onnx.save(model, tmp_path / "evil.onnx")
    with pytest.raises(ValueError, match=r"os\.system"):
        OnnxPredictor(tmp_path / "evil.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="not written by lit_face"):
        OnnxPredictor(tmp_path / "foreign.onnx")
