"""Portable folders: the same predictions, nothing executed, clear words about damage."""

import hashlib

import pytest
import torch
import yaml

from lit_face.config.instantiate import ConfigError
from lit_face.inference.portable import is_portable_folder, load_portable, save_portable
from tests.methods.test_prn import small_module

RECORD = {"licence": "MIT", "nme": {"aflw2000": 7.5}, "notice": "Copyright somebody.\nMIT"}


@pytest.fixture(scope="module")
def predictor():
    return small_module().eval().predictor()


@pytest.fixture
def folder(predictor, tmp_path):
    return save_portable(predictor, tmp_path / "my model", RECORD)


def change(folder, **predictor):
    content = yaml.safe_load((folder / "config.yaml").read_text())
    content["predictor"].update(predictor)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))


@torch.no_grad()
def test_round_trip(predictor, folder):
    loaded = load_portable(folder)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, expected = loaded(image), predictor(image)
    assert torch.equal(found.image_vertices, expected.image_vertices)
    assert torch.equal(found.landmarks, expected.landmarks)
    assert torch.equal(found.faces, expected.faces)
    assert torch.equal(loaded.regions["eyes"], predictor.regions["eyes"])
    assert is_portable_folder(folder)
    assert (folder / "NOTICE.txt").read_text() == "Copyright somebody.\nMIT\n"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert loaded.record == {"licence": "MIT", "nme": {"aflw2000": 7.5}, "sha256": digest}


def test_what_is_there_is_not_overwritten(predictor, folder):
    with pytest.raises(FileExistsError, match="my model"):
        save_portable(predictor, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["my model"]  # no temporary rest


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.nn.Linear",
        "lit_face.io.files.cache_root",
        "lit_face.methods.prn.postprocess.write_prnet_obj",  # a function: it would write a file
        "lit_face.methods.prn.WeightMask",
    ],
)
def test_a_config_can_name_networks_of_methods_only(folder, target):
    change(folder, _target_=target)
    with pytest.raises(ConfigError, match=target):
        load_portable(folder)
    change(
        folder, _target_="lit_face.methods.prn.predictor.PRNPredictor", network={"_target_": target}
    )
    with pytest.raises(ConfigError, match=r"predictor\.network"):
        load_portable(folder)


def test_python_in_yaml_is_refused(folder):
    (folder / "config.yaml").write_text("predictor: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"config\.yaml is not plain YAML"):
        load_portable(folder)


def test_damage_is_named(folder):
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-10])
    with pytest.raises(ValueError, match="sha256"):
        load_portable(folder)
    weights.write_bytes(data)
    change(folder, reader={"_target_": "lit_face.methods.prn.reader.PositionMapReader",
                           "uv_size": 32, "texels": 5, "faces": 3})  # fmt: skip
    with pytest.raises(ValueError, match="do not fit the config"):
        load_portable(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        load_portable(folder)
