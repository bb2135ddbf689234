"""Extracted textures, parts of the completion's losses, components: against reference numbers."""

import numpy as np
import pytest
import torch

from lit_face.geometry.uv import UVResampling
from lit_face.methods.texture_completion.losses import confidence_weights, weighted_l1
from lit_face.methods.texture_completion.mrf import id_mrf
from lit_face.rendering.texture_extraction import TextureExtractor, divide_shading
from lit_face.texture_space.pca import IncrementalComponents, exact_components

PHOTO = 224
# Terms of the light in the reference's order, with its factors (the spec's table).
FACTORS = [0.2820947918, *[1.0233267079] * 3, *[0.8580855308] * 3, 0.4290427654, 0.2477079561]


@pytest.fixture(scope="module")
def golden(reference):
    def load(name):
        with np.load(reference / "flame" / "set_a" / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored.files}

    return load


@pytest.fixture(scope="module")
def extracted(golden):
    """The golden's photos read with its own texels, and what it found."""
    want, scene = golden("uv_extraction"), golden("render")
    faces = torch.from_numpy(scene["faces"])
    face = torch.from_numpy(want["texel_face"]).long().flatten()
    texels = (face >= 0).nonzero()[:, 0]
    weights = torch.from_numpy(want["texel_bary"]).view(-1, 3)[texels]
    resampling = UVResampling(int(want["uv_size"]), texels, faces[face[texels]], weights)
    ndc = torch.from_numpy(scene["image_space_vertices_after_call"])
    pixels = torch.cat([(ndc[..., :2] + 1) * PHOTO / 2 - 0.5, ndc[..., 2:] * PHOTO / 2], dim=-1)
    photo = torch.from_numpy(want["image"]).permute(0, 3, 1, 2)
    found = TextureExtractor(resampling, faces)(photo, pixels, erosion=0)
    return found, want, torch.from_numpy(scene["sh_coeff"])


def test_visible_texels(extracted):
    found, want, _ = extracted
    assert (found.visible[:, 0].numpy() == want["visible"]).mean() >= 0.999


def test_colours_of_visible_texels(extracted):
    found, want, _ = extracted
    both = want["visible"] & found.visible[:, 0].numpy()
    color = found.color.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(color[both], want["extracted_rgb"][both], atol=1e-4)


def test_albedo(extracted):
    found, want, light = extracted
    x, y, z = (found.normals * torch.tensor([1.0, -1.0, -1.0])[:, None, None]).unbind(1)
    one = torch.ones_like(x)
    terms = [one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1]
    basis = torch.stack(terms, dim=1) * torch.tensor(FACTORS)[:, None, None]
    shading = torch.einsum("bkhw,bkc->bchw", basis, light)
    albedo = divide_shading(found.color, shading).permute(0, 2, 3, 1).numpy()
    both = want["visible"] & found.visible[:, 0].numpy()
    np.testing.assert_allclose(albedo[both], want["albedo"][both], atol=1e-4)


def test_confidence(golden):
    want = golden("gmcnn_pieces")
    found = confidence_weights(torch.from_numpy(want["mask"]))
    np.testing.assert_allclose(found.numpy(), want["confidence"], atol=1e-4)


def test_id_mrf(golden):
    want = golden("gmcnn_pieces")
    features = [torch.from_numpy(want[key]) for key in ("feat_gen", "feat_target")]
    assert id_mrf(*features).item() == pytest.approx(want["id_mrf_sum_over_batch"].item(), abs=1e-4)
    assert id_mrf(features[1], features[1]).item() == pytest.approx(0, abs=1e-4)


def test_weighted_l1(golden):
    want = golden("gmcnn_pieces")
    mask, predicted, true = (torch.from_numpy(want[key]) for key in ("mask", "pred", "gt"))
    completed = mask * predicted + (1 - mask) * true
    found = weighted_l1(completed - true, torch.from_numpy(want["confidence"]), mask).item()
    assert found == pytest.approx(want["l1_confidence_rec"].item(), abs=1e-5)
    found = weighted_l1(predicted - true, 1 - mask, 1 - mask).item()
    assert found == pytest.approx(want["l1_visible_ae"].item(), abs=1e-5)


def _incremental(maps):
    running = IncrementalComponents(maps.shape[1], kept=len(maps), dtype=maps.dtype)
    for part in np.array_split(maps, 7):
        running.update(part)
    return running.components(8)


@pytest.mark.parametrize("find", [lambda maps: exact_components(maps, 8), _incremental])
def test_components(golden, find):
    want = golden("texture_pca")
    maps = want["textures"].astype(np.float64).reshape(len(want["textures"]), -1)
    found = find(maps)
    np.testing.assert_allclose(found.mean, want["mean"].ravel(), atol=1e-9)
    directions = want["tex_dir"].reshape(-1, 8).T
    scale = np.abs(directions[0]).max()
    for k in range(6):  # beyond them there is only noise
        sign = np.sign((found.directions[k] * directions[k]).sum())
        np.testing.assert_allclose(sign * found.directions[k], directions[k], atol=1e-5 * scale)
        assert found.variance[k] == pytest.approx(want["explained_variance"][k], rel=1e-5)
    assert found.total_variance == pytest.approx(want["total_variance"].item(), rel=1e-9)
    codes = found.codes(maps, 6)
    signs = np.sign((codes * want["codes"][:, :6]).sum(0))
    np.testing.assert_allclose(codes * signs, want["codes"][:, :6], atol=1e-4)
