import numpy as np
import pytest
import torch

from lit_face.geometry.cameras import AffineCamera
from lit_face.geometry.uv import uv_resampling
from lit_face.morphable_models.bfm import load_bfm
from lit_face.morphable_models.position_maps import PositionMaps
from tests.helpers.faces import cameras, head
from tests.helpers.tolerances import assert_close


@pytest.fixture(scope="module")
def maps():
    return PositionMaps(head(), 48)


def test_one_product_equals_projecting_and_interpolating_each_face(maps):
    model = head()
    coefficients = model.sample(3, torch.Generator().manual_seed(1))
    camera = cameras(3, 256)
    result = maps(coefficients, camera)
    resampling = uv_resampling(model.uv, model.faces, 48)
    for row in range(3):
        vertices = model(coefficients["identity"], coefficients["expression"])[row]
        points = camera.project(vertices[None].expand(3, -1, -1))[row]
        points = torch.cat([points[:, :2], points[:, 2:].max() - points[:, 2:]], dim=1)
        expected = resampling(points)
        inside = maps.mask & resampling.mask
        assert inside.sum() == maps.mask.sum()
        assert_close(result[row][:, inside], expected[:, inside], atol=2e-3, rtol=0)
    assert (result[:, :, ~maps.mask] == 0).all()


def test_leading_coefficients_are_enough(maps):
    coefficients = head().sample(2, torch.Generator().manual_seed(2))
    short = {name: value[:, :5] for name, value in coefficients.items()}
    padded = {
        n: torch.nn.functional.pad(short[n], (0, v.shape[1] - 5)) for n, v in coefficients.items()
    }
    camera = cameras(2, 128)
    assert_close(maps(short, camera), maps(padded, camera), atol=1e-3, rtol=0)


def test_a_mirrored_camera_gives_the_mirrored_map(maps):
    """Mirroring the picture swaps the map's columns and sends x to W - 1 - x."""
    coefficients, camera = head().sample(2, torch.Generator().manual_seed(3)), cameras(2, 128)
    flip = torch.eye(3).repeat(2, 1, 1)
    flip[:, 0, 0], flip[:, 0, 2] = -1, 127
    plain, mirrored = maps(coefficients, camera), maps(coefficients, camera.warped(flip))
    expected = plain.flip(-1)
    expected[:, 0] = torch.where(maps.masks(camera.warped(flip)), 127 - expected[:, 0], 0)
    assert_close(mirrored, expected, atol=1e-3, rtol=0)


def test_bf16_autocast_does_not_touch_positions(maps):
    coefficients, camera = head().sample(2, torch.Generator().manual_seed(4)), cameras(2, 256)
    with torch.autocast("cpu", torch.bfloat16):
        inside = maps(coefficients, camera)
    assert inside.dtype == torch.float32
    assert_close(inside, maps(coefficients, camera))


@pytest.mark.parametrize("case", range(4))
def test_face3d_position_maps(reference, case):
    """face3d's own maps (specs: origin rule 'face3d'); the float32 rasteriser is its own test."""
    folder = reference / "prn"
    stored = np.load(folder / f"posmap_case{case}.npz")
    model = load_bfm(folder / "standin_BFM.mat")
    maps = PositionMaps(model, 256)
    pose = torch.as_tensor(stored["Pose_Para"]).double().reshape(-1)
    from lit_face.data.fit_parameters import pose_cameras

    camera = pose_cameras(pose[None], "face3d")
    to_crop = torch.as_tensor(stored["tform"])[None].float()
    raw = {"identity": stored["Shape_Para"], "expression": stored["Exp_Para"]}
    coefficients = {
        name: torch.as_tensor(value).float().reshape(1, -1)[:, : len(std)] / std
        for (name, value), std in zip(
            raw.items(), (model.identity_std, model.expression_std), strict=True
        )
    }
    ours = maps(coefficients, AffineCamera(camera.matrix).warped(to_crop))[0].permute(1, 2, 0)
    expected = torch.as_tensor(stored["uv_position_map"])
    inner = maps.mask.clone()
    inner[:3], inner[-3:], inner[:, :3], inner[:, -3:] = False, False, False, False
    difference = (ours - expected)[inner].abs().amax(dim=-1)
    # Texels on an edge that two folded triangles share may belong to either one.
    assert (difference < 2e-2).float().mean() > 0.998
    assert difference.median() < 1e-3
