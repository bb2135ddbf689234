"""The example of docs/add_a_method.md, copied from the page, trains and passes its own test."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.runs import REPO

_BLOCK = re.compile(r"^## [^\n]*?`([^`\n]+)`\n.*?^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the code with the page's files in it."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "conf", "datamodules", "callbacks", "tests/helpers"):
        shutil.copytree(REPO / name, folder / name, ignore=ignored)
    for name in ("train.py", "pyproject.toml", "tests/conftest.py", "tests/__init__.py"):
        shutil.copy(REPO / name, folder / name)
    page = (REPO / "docs" / "add_a_method.md").read_text(encoding="utf-8")
    files = dict(_BLOCK.findall(page))
    assert len(files) == 5
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(folder, *command):
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
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_trains(clone):
    small = ["data.renderer.picture_size=96", "data.image_size=32", "method.network.width=4"]
    text = run(clone, "train.py", "method=regress", "data=synthetic", "debug=fast", *small)
    assert "RegressModule" in text
    assert "Finished after 2 steps" in text
    assert list((clone / "runs").glob("*/checkpoints/best.ckpt"))


def test_its_test_passes_and_help_lists_it(clone):
    assert "passed" in run(clone, "-m", "pytest", "tests/methods/test_regress.py")
    assert "the example of docs/add_a_method.md" in run(clone, "train.py", "--help")
