"""Bad input ends in one clear message and status 2 before anything is trained."""

import shutil
import sys

import numpy as np
import pytest
import scipy.io
import torch

from lit_face.cli import evaluate, train
from lit_face.data.miniature_w300lp import miniature_w300lp
from lit_face.io.checkpoints import read_checkpoint
from tests.helpers.runs import TINY, train_here

W300LP = ["data.image_size=32", *[o for o in TINY if o.startswith(("method.", "trainer."))]]


@pytest.fixture(scope="module")
def original():
    return miniature_w300lp()


@pytest.fixture
def copy(original, tmp_path):
    """A private copy of the miniature, with its BFM beside it."""
    shutil.copytree(original.parent, tmp_path / "copy")
    return tmp_path / "copy" / original.name


@pytest.fixture
def refused(monkeypatch, tmp_path, capsys):
    """Run an entry point and return what it says when it refuses."""
    monkeypatch.setenv("LIT_FACE_RUNS", str(tmp_path / "runs"))

    def run(entry, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{entry.__name__}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            entry()
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert "lit_face cannot start" in message
        assert "Traceback" not in message
        assert not list((tmp_path / "runs").rglob("*.ckpt"))
        return message

    return run


def on(root, *more):
    model = f"morphable_model.root={root.parent / 'BFM'}"
    return [*W300LP, f"data.root={root}", model, "data.max_rejected=0", *more]


def spoil(root, field, change):
    """Change one field of one annotation; None removes it."""
    file = sorted((root / "AFW").glob("*.mat"))[0]
    content = {k: v for k, v in scipy.io.loadmat(file).items() if not k.startswith("__")}
    content[field] = change(content[field]) if change else None
    scipy.io.savemat(file, {k: v for k, v in content.items() if v is not None})
    return file.stem


def test_unknown_options_are_all_named(refused):
    message = refused(train, "data.batchsize=3", "method=prm", "trainer.max_epoch=2")
    assert "no such option; did you mean 'prn'" in message
    assert "did you mean 'trainer.max_epochs'" in message
    assert "did you mean 'data.batch_size'" in message


def test_wrong_root(refused, tmp_path):
    message = refused(train, *W300LP, f"data.root={tmp_path / 'nowhere'}")
    assert "nowhere" in message
    assert "data.root" in message


def test_half_a_dataset(refused, copy):
    shutil.rmtree(copy / "HELEN")
    message = refused(train, *on(copy))
    assert "no folder 'HELEN'" in message
    assert "expected AFW, HELEN, IBUG, LFPW" in message


def test_truncated_jpeg(refused, copy):
    picture = sorted((copy / "LFPW").glob("*.jpg"))[3]
    picture.write_bytes(picture.read_bytes()[:5000])
    message = refused(train, *on(copy))
    assert picture.stem in message
    assert "truncated" in message


@pytest.mark.parametrize(
    ("field", "change", "said"),
    [
        ("Shape_Para", None, "Shape_Para"),
        ("Shape_Para", lambda value: value[:40], "Shape_Para"),
        ("Pose_Para", lambda value: np.full_like(value, np.nan), "Pose_Para"),
    ],
)
def test_bad_annotations(refused, copy, field, change, said):
    name = spoil(copy, field, change)
    message = refused(train, *on(copy))
    assert name in message
    assert said in message


def test_bfm_without_uv(refused, copy):
    (copy.parent / "BFM" / "BFM_UV.mat").unlink()
    message = refused(train, *on(copy))
    assert "BFM_UV.mat" in message


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train_here(run, "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    return run / "checkpoints" / "last.ckpt"


def test_checkpoints_that_cannot_be_evaluated(refused, whole, tmp_path):
    cut = tmp_path / "cut.pt"
    for length in (0, 100, 20_000, whole.stat().st_size - 10):
        cut.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
            read_checkpoint(cut)
    assert "cannot be read as a checkpoint" in refused(evaluate, f"ckpt={cut}")
    assert "does not exist" in refused(evaluate, f"ckpt={tmp_path / 'none.ckpt'}")
    assert "Give a checkpoint, ckpt=RUN" in refused(evaluate)
    wide = [*TINY, "method.network.width=8", f"weights={whole}"]
    message = refused(train, *wide)
    assert "does not fit PRNModule" in message
    assert "in the file" in message


def test_a_checkpoint_cannot_name_its_own_trusted_modules(refused, whole, tmp_path):
    content = torch.load(whole, weights_only=True)
    stored = content["lit_face"]["config"]
    stored["trusted_modules"] = ["fractions"]
    stored["morphable_model"] = {"_target_": "fractions.Fraction", "numerator": 3}
    forged = tmp_path / "forged.ckpt"
    torch.save(content, forged)
    assert "outside the trusted packages" in refused(evaluate, f"ckpt={forged}")
