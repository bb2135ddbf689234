import json

import pytest

from lit_face.config.run_folder import (
    point_latest,
    read_run_config,
    write_metrics,
    write_run_files,
)


def test_the_config_comes_back_and_the_environment_is_named(tmp_path):
    config = {"seed": 7, "data": {"root": None, "size_jitter": [0.9, 1.1]}}
    write_run_files(tmp_path / "run", config)
    assert read_run_config(tmp_path / "run") == config
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert {"lit_face", "commit", "command", "python", "packages"} <= set(environment)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        read_run_config(tmp_path)


def test_latest_follows_trainings_only(tmp_path):
    """An evaluation of runs/latest must not make itself the latest run."""
    for name, method in (("first", "deep3d"), ("second", "gcn")):
        write_run_files(tmp_path / name, {})
        point_latest(tmp_path / name, method)
    write_run_files(tmp_path / "second-evaluate", {"ckpt": "latest"})
    assert (tmp_path / "latest").resolve() == tmp_path / "second"
    assert (tmp_path / "latest-deep3d").resolve() == tmp_path / "first"
    assert (tmp_path / "latest-gcn").resolve() == tmp_path / "second"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_metrics_are_merged_as_plain_numbers(tmp_path):
    write_metrics(tmp_path, {"val/nme": 7, "step": 3})
    write_metrics(tmp_path, {"val/nme": 6.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"step": 3.0, "val/nme": 6.5}
