"""What each method trains or fits with, written down: a changed default shows up as a changed file.

Refresh the files after a change on purpose, and commit them with it:

    LIT_FACE_REFRESH=1 python -m pytest tests/config/test_golden.py tests/test_api.py
"""

import pytest
import yaml
from omegaconf import OmegaConf

from lit_face.config.composition import compose_config
from lit_face.config.files import config_folder, group_options, is_trained
from tests.helpers.golden import FOLDER, compare

METHODS = sorted(group_options(config_folder())["method"])


@pytest.mark.parametrize("method", METHODS)
def test_config_of_a_method(method):
    if not is_trained(method):
        config = compose_config("reconstruct", [f"method={method}", "input=PHOTOS", "out=FACES"])
        compare(FOLDER / "conf" / f"{method}.yaml", OmegaConf.to_yaml(config.method))
        return
    config = compose_config("train", [f"method={method}"])
    for name in config.paths:  # folders depend on the machine
        config.paths[name] = f"PATHS.{name}"
    config.name = "NAME"  # the time
    plain = OmegaConf.to_container(config, resolve=True)
    del plain["paths"], plain["name"]
    compare(FOLDER / "conf" / f"{method}.yaml", yaml.safe_dump(plain, sort_keys=False))


def test_no_file_is_left_over():
    assert sorted(file.stem for file in (FOLDER / "conf").glob("*.yaml")) == METHODS
