"""The lazy torchvision repair and the lightness of `import lit_face`, in fresh interpreters."""

import subprocess
import sys

import pytest


def run(code, **environment):
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_importing_lit_face_is_light():
    done = run(
        "import lit_face, sys; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("first", ["lit_face", "datamodules", "callbacks"])
def test_lightning_imports_whatever_comes_first(first):
    done = run(
        f"import {first}, pytorch_lightning, torchvision; print(torchvision.__spec__.loader)"
    )
    assert done.returncode == 0, done.stderr
    assert "SourceFileLoader" in done.stdout  # the module's own loader is back


FAKE = """
import sys, types, pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp()); (folder / 'torchvision').mkdir()
(folder / 'torchvision' / '__init__.py').write_text({body!r})
sys.path.insert(0, str(folder))
import lit_face
import torchvision
print('value', torchvision.value)
"""


def test_the_exact_error_is_repaired_once():
    body = (
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\n"
        "def fake(dets, scores, iou_threshold): return dets\n"
        "value = 3\n"
    )
    done = run(FAKE.format(body=body))
    assert "value 3" in done.stdout, done.stderr
    assert "compiled operators do not fit" in done.stderr
    assert run(FAKE.format(body=body), LIT_FACE_NO_REPAIR="1").returncode != 0


def test_other_errors_pass_through():
    done = run(FAKE.format(body="raise RuntimeError('something else')"))
    assert "something else" in done.stderr
    assert "do not fit" not in done.stderr
