"""Textures swapped between faces of a batch: labels stay, and so do all other pixels."""

import pytest
import torch

from lit_face.data.random import sample_keys
from lit_face.data.texture_swap import TextureSwap
from lit_face.data.transforms import FaceTransform
from lit_face.geometry.cameras import AffineCamera
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from tests.helpers.faces import faces, head
from tests.helpers.tolerances import assert_close

SIDE = 96
STILL = {
    "center_jitter": 0.0, "size_jitter": (1.0, 1.0), "rotation": 0.0, "translation": 0.0,
    "scale": (1.0, 1.0), "color": (1.0, 1.0), "occlusion": 0.0, "mirror": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    return faces(4, size=SIDE, seed=5, yaw_deg=20.0)


def swap(batch, region, probability=1.0, keys=None):
    keys = batch.random_key if keys is None else keys
    swapping = TextureSwap(probability, (region,))
    return swapping(batch.image, batch.coefficients, batch.camera, head(), keys)


def region_pixels(batch, region):
    """Return (B,1,H,W) where a region is seen."""
    points = batch.camera.project(
        head()(*(batch.coefficients[n] for n in ("identity", "expression")))
    )
    fragments = fragments_of(points, head().faces, rasterize(points, head().faces, (SIDE, SIDE)))
    weight = head().regions[region].expand(len(batch), -1)[..., None]
    return fragments.to_image(fragments.interpolate(weight)) >= 0.5


@pytest.mark.parametrize("region", ["eyes", "nose", "mouth", "face"])
def test_only_the_region_changes(batch, region):
    changed = (swap(batch, region) != batch.image).any(dim=1, keepdim=True)
    inside = region_pixels(batch, region)
    assert not (changed & ~inside).any()
    share = (changed & inside).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    assert (share > 0.4).all()


def test_the_texture_comes_from_the_same_place_of_the_next_face(batch):
    """With lips painted green in one picture only, green arrives on another's lips."""
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    lips = region_pixels(batch, "mouth")
    image = batch.image.clone()
    image[1] = torch.where(lips[1], green, image[1])
    painted = type(batch)(**{**vars(batch), "image": image})
    result = swap(painted, "mouth")
    difference = (result - swap(batch, "mouth")).abs().amax(dim=1)
    assert difference[0].max() > 0.1  # the next one of 0 is 1
    assert not difference[2:].any()
    middle = batch.landmarks[0, [51, 57, 62, 66], :2].mean(dim=0).round().long()
    x, y = middle.tolist()
    color = result[0, :, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))
    assert color[1] > color[0]
    assert color[1] > color[2]


def test_a_picture_swapped_with_its_double_does_not_change(batch):
    doubled = batch.map(lambda tensor: tensor[:1].repeat(2, *[1] * (tensor.ndim - 1)))
    doubled.random_key = sample_keys(0, 0, torch.arange(2))
    assert_close(swap(doubled, "face"), doubled.image, atol=1e-4, rtol=0)


def test_mirrored_faces_take_part(batch):
    mirror = torch.eye(3).repeat(4, 1, 1)
    mirror[:, 0, 0], mirror[:, 0, 2] = -1, SIDE - 1
    mirrored = type(batch)(**{**vars(batch), "image": batch.image.flip(-1),
                              "camera": batch.camera.warped(mirror)})  # fmt: skip
    expected = swap(batch, "eyes").flip(-1)
    # Ties between pixels of equal depth fall to other sides.
    different = (swap(mirrored, "eyes") - expected).abs().amax(dim=1) > 0.02
    assert different.float().mean() < 2e-3


def test_probability_and_batches_of_one(batch):
    assert torch.equal(swap(batch, "face", probability=0.0), batch.image)
    alone = batch.map(lambda tensor: tensor[:1])
    assert torch.equal(swap(alone, "face"), alone.image)
    keys = sample_keys(1, 0, torch.arange(4))
    half = (swap(batch, "face", 0.5, keys) != batch.image).flatten(1).any(1)
    again = (swap(batch, "face", 0.5, keys) != batch.image).flatten(1).any(1)
    assert torch.equal(half, again)


def test_labels_stay_in_the_transform(batch):
    plain, swapping = (
        FaceTransform(SIDE, morphable_model=head(), texture_swap=chance, **STILL)(batch)
        for chance in (0.0, 1.0)
    )
    assert (plain.image != swapping.image).any()
    assert torch.equal(plain.landmarks, swapping.landmarks)
    assert torch.equal(plain.camera.matrix, swapping.camera.matrix)
    for name, value in plain.coefficients.items():
        assert torch.equal(value, swapping.coefficients[name])
    assert isinstance(swapping.camera, AffineCamera)
    without = type(batch)(**{**vars(batch), "coefficients": None})
    with pytest.raises(ValueError, match="texture_swap"):
        FaceTransform(SIDE, morphable_model=head(), texture_swap=1.0, **STILL)(without)
