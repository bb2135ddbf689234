"""The models that come with lit_face work at once, on faces of another head than they saw."""

import hashlib

import numpy as np
import pytest
import torch
import yaml

import lit_face
from lit_face.data.random import sample_keys
from lit_face.data.synthetic import SyntheticRenderer
from lit_face.inference.loading import load_predictor, shipped_models
from lit_face.metrics.nme import nme
from lit_face.morphable_models.procedural import procedural_head
from lit_face.types import FaceBatch


@pytest.fixture(scope="module")
def photos():
    """Pictures of the procedural head, which prn_ict never saw."""
    renderer = SyntheticRenderer(procedural_head(), picture_size=256, yaw=(-50, 50), occlusion=0.0)
    empty = torch.empty(16, 3, 0, 0, dtype=torch.uint8)
    return renderer(FaceBatch(empty, random_key=sample_keys(4, 0, torch.arange(16))))


def test_each_is_small_licensed_and_whole():
    assert "prn_ict" in shipped_models()
    for folder in shipped_models().values():
        weights = (folder / "model.safetensors").read_bytes()
        assert len(weights) < 16 * 2**20
        record = yaml.safe_load((folder / "config.yaml").read_text())["record"]
        assert record["sha256"] == hashlib.sha256(weights).hexdigest()
        assert record["licence"] == "MIT"
    notice = (shipped_models()["prn_ict"] / "NOTICE.txt").read_text()
    assert "USC Institute for Creative Technologies" in notice


def test_faces_of_a_head_it_never_saw(photos):
    model = lit_face.load("prn_ict", passes=1)
    low, high = photos.landmarks[..., :2].amin(1), photos.landmarks[..., :2].amax(1)
    boxes = torch.cat([low, high], dim=1)[:, None].numpy()
    faces = model.reconstruct(list(photos.image), boxes=list(boxes))
    found = torch.stack([torch.from_numpy(one[0].landmarks) for one in faces])
    reader = load_predictor("prn_ict").reader
    mean = (reader.mean_face[reader.landmark_texels] * reader.landmark_weights[..., None]).sum(1)
    mean = mean[:, :2] * torch.tensor([1.0, -1.0])
    size = (high - low).sum(1) / (mean.amax(0) - mean.amin(0)).sum()
    guess = (mean - (mean.amax(0) + mean.amin(0)) / 2) * size[:, None, None]
    guess = guess + ((low + high) / 2)[:, None]
    error = nme(found, photos.landmarks).mean()
    baseline = nme(torch.cat([guess, guess[..., :1]], dim=-1), photos.landmarks).mean()
    assert error < 0.09
    assert error < 0.6 * baseline
    yaw = np.array([one[0].angles[1] for one in faces])
    assert yaw.max() - yaw.min() > 40  # heads turn


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"'?nobody'? .*prn_ict"):
        lit_face.load("nobody")
