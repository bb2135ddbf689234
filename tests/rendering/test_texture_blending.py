import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lit_face.geometry.surface_maps import enlarged_maps
from lit_face.rendering.exposure import exposure_gains
from lit_face.rendering.texture_blending import Blending, blend_texture, filled
from tests.helpers.view_sphere import RADIUS, paint, view_sphere

SIZE = 128
PLAIN = Blending(feather=0, border=0, is_even=False)
GAINS = torch.tensor([[0.8, 0.85, 0.8], [1.2, 1.1, 1.15], [1.0, 1.05, 1.1]])


@pytest.fixture(scope="module")
def sphere():
    return view_sphere()


@pytest.fixture(scope="module")
def surface(sphere):
    return enlarged_maps(sphere.position, sphere.normal, sphere.mask, SIZE)


def truth(surface):
    points = RADIUS * F.normalize(surface.position, dim=0)
    return paint(points.movedim(0, -1)).movedim(-1, 0)


def steps(error, mask):
    """The largest differences between neighbouring texels, which is what a seam is."""
    across = (error[:, :, 1:] - error[:, :, :-1]).abs().mean(0)[mask[:, 1:] & mask[:, :-1]]
    return across.quantile(0.999)


def test_enlarged_maps_keep_their_place_and_do_not_bleed(sphere, surface):
    assert (surface.position.norm(dim=0) - RADIUS)[surface.mask].abs().max() < 0.08
    direction = F.normalize(surface.position, dim=0)
    assert (direction * surface.normal).sum(0)[surface.mask].min() > 0.9998
    back = F.avg_pool2d(surface.position, 2) - sphere.position
    inner = F.avg_pool2d(sphere.mask[None].float(), 3, 1, 1)[0] == 1
    assert back[:, inner].abs().max() < 0.06
    with pytest.raises(ValueError, match="mask of the maps is empty"):
        enlarged_maps(sphere.position, sphere.normal, 0 * sphere.mask, SIZE)


def test_a_texture_is_what_the_photos_show(sphere, surface):
    found = blend_texture(surface, sphere.images, sphere.camera)
    error = (found.color - truth(surface))[:, surface.mask]
    assert error.abs().mean() < 2.5e-3  # photos of 1 mm a pixel; half a pixel off makes 0.01
    torch.testing.assert_close(found.gains, torch.ones(3, 3), atol=2e-3, rtol=0)


def test_uneven_photos_leave_no_seams(sphere, surface):
    images = (sphere.images * GAINS[:, :, None, None]).clamp(0, 1)
    visibility = torch.ones(3, 64, 64)
    visibility[0, :, 30:], visibility[1, :20] = 0, 0
    want = truth(surface)

    def error(**changes):
        options = dataclasses.replace(PLAIN, **changes)
        found = blend_texture(surface, images, sphere.camera, visibility, options)
        tone = (found.color / want)[:, surface.mask].median(dim=1).values  # is anybody's guess
        return found.color / tone[:, None, None] - want

    plain, even = error(), error(is_even=True)
    both = error(is_even=True, feather=0.03)
    assert both[:, surface.mask].abs().mean() < 0.15 * plain[:, surface.mask].abs().mean()
    assert steps(even, surface.mask) < 0.4 * steps(plain, surface.mask)
    assert steps(both, surface.mask) < 0.3 * steps(plain, surface.mask)


def test_what_no_view_sees(sphere, surface):
    visibility = torch.ones(3, 64, 64)
    visibility[:, 20:30, 20:30] = 0
    found = blend_texture(surface, sphere.images, sphere.camera, visibility)
    hidden = found.weight == 0
    assert hidden[42:58, 42:58].all()
    assert not hidden[64:96, 64:96].any()
    assert found.color[:, 42:58, 42:58].min() > 0.2  # filled from around
    bad = visibility[:2]
    with pytest.raises(ValueError, match="found 3, 3 and 2"):
        blend_texture(surface, sphere.images, sphere.camera, bad)


def test_points_outside_of_a_photo_do_not_count(sphere, surface):
    moved = dataclasses.replace(
        sphere.camera, translation=sphere.camera.translation + torch.tensor([2000.0, 0, 0])
    )
    found = blend_texture(surface, sphere.images, moved)
    assert not found.weight.any()
    behind = dataclasses.replace(
        sphere.camera, translation=sphere.camera.translation * torch.tensor([1, 1, -1.0])
    )
    assert not blend_texture(surface, sphere.images, behind).weight.any()


def test_gains_are_found_beside_highlights():
    generator = torch.Generator().manual_seed(0)
    colors = (0.2 + 0.3 * torch.rand(1, 500, 3, generator=generator)) * GAINS[:, None]
    colors[1, :60] += 0.3  # a highlight that only one view sees
    weights = (torch.rand(3, 500, generator=generator) > 0.3).float()
    found = exposure_gains(colors, weights).log() + GAINS.log()
    torch.testing.assert_close(found, found.mean(0).expand(3, 3), atol=0.02, rtol=0)
    alone = exposure_gains(colors, torch.eye(3).repeat_interleave(167, 1)[:, :500])
    torch.testing.assert_close(alone, torch.ones(3, 3), atol=1e-4, rtol=0)


def test_filling_keeps_what_is_known():
    color = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(9, 9, dtype=torch.bool)
    known[2:5, 3:7] = True
    found = filled(color, known)
    assert torch.equal(found[:, known], color[:, known])
    assert found.min() >= color[:, known].min() - 1e-6
    assert found.max() <= color[:, known].max() + 1e-6
    assert torch.equal(filled(color, torch.zeros_like(known)), torch.zeros_like(color))
