"""Blended and relocated textures against the reference's numbers."""

import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import PerspectiveCamera
from lit_face.rendering.released_blending import released_texture, relocated


@pytest.fixture(scope="module")
def golden(reference):
    def load(name):
        with np.load(reference / "mvfr" / "texture" / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored.files}

    return load


@pytest.mark.parametrize("name", ["gen_tex_S24_T96_s11", "gen_tex_S16_T64_s12"])
def test_blended_texture(golden, name):
    want = golden(name)
    cams = torch.from_numpy(want["cams"]).float()
    camera = PerspectiveCamera(cams[:, 1, :3, :3], cams[:, 0, :3, :3], cams[:, 0, :3, 3])
    images = torch.from_numpy(want["images_bgr_u8"]).float().movedim(-1, 1)
    position, normal = (torch.from_numpy(want[key]) for key in ("pos_map", "norm_map"))
    found = released_texture(position, normal, images, camera, want["texture"].shape[0])
    np.testing.assert_allclose(found.movedim(0, -1), want["texture"], atol=2e-3)


@pytest.mark.parametrize("case", ["s11", "s12"])
def test_facial_window(golden, case):
    want = golden(f"relocate_{case}")
    repeat, step = int(want["repeat"]), int(want["step"])
    whole = want["low_res"].repeat(repeat, axis=0).repeat(repeat, axis=1)
    found = relocated(whole)
    np.testing.assert_array_equal(found[::step, ::step], want["relocated_samples"])
    assert found.mean() == pytest.approx(float(want["relocated_mean"]), abs=1e-9)
