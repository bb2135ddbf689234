"""The examples of docs/, copied from their pages, train and pass their own tests."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.runs import REPO

PAGES = {"add_a_method.md": 5, "add_a_dataset.md": 4}  # files a page
_BLOCK = re.compile(r"^## [^\n]*?`([^`\n]+)`\n.*?^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the code with the pages' files in it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("src", "conf", "datamodules", "callbacks", "tests/helpers"):
        shutil.copytree(REPO / name, folder / name)  # with what Python and numba compiled
    for name in ("train.py", "pyproject.toml", "tests/conftest.py", "tests/__init__.py"):
        shutil.copy(REPO / name, folder / name)
    for page, count in PAGES.items():
        files = dict(_BLOCK.findall((REPO / "docs" / page).read_text(encoding="utf-8")))
        assert len(files) == count
        for name, text in files.items():
            assert not (folder / name).exists(), f"{name} is in the repository already"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


def run(folder, *command, status=0):
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder / 'src'}:{folder}",
        "LIT_FACE_RUNS": str(folder / "runs"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_method_trains_on_the_dataset(clone):
    small = ["data.picture_size=96", "data.image_size=32", "method.network.width=4"]
    text = run(clone, "train.py", "method=regress", "data=landmark_folder", "debug=fast", *small)
    assert "RegressModule" in text
    assert "LandmarkFolderDataModule (" in text
    assert "Finished after 2 steps" in text
    assert list((clone / "runs").glob("*/checkpoints/best.ckpt"))


_REFUSED_THEN_TESTED = """
import sys
import pytest
from lit_face.cli import train
sys.argv = ["train.py", "method=prn_slim", "data=landmark_folder"]
try:
    train()
except SystemExit as stop:
    assert stop.code == 2
else:
    raise AssertionError("not refused")
sys.exit(pytest.main(["-o", "addopts=", "tests/methods/test_regress.py",
                      "tests/data/test_landmark_folder.py"]))
"""


def test_a_method_that_needs_more_is_refused_and_their_tests_pass(clone):
    """In one interpreter, as importing takes longer than both."""
    text = run(clone, "-c", _REFUSED_THEN_TESTED)
    assert "PRNModule needs the field 'coefficients', which LandmarkFolderDataModule" in text
    assert "data=w300lp" in text
    assert "passed" in text


def test_help_lists_them(clone):
    text = run(clone, "train.py", "--help")
    assert "the example of docs/add_a_method.md" in text
    assert "the example of docs/add_a_dataset.md" in text
