import pytest
import torch

from lit_face.geometry.uv import centred_resampling
from lit_face.morphable_models.texture_space import sample_texture
from lit_face.rendering.interpolate import fragments_of
from lit_face.rendering.rasterize import rasterize
from lit_face.rendering.texture_extraction import TextureExtractor, divide_shading, extractor_of

SIZE = (64, 64)


def square(count=9, side=48.0, depth=0.0):
    """A square of count^2 vertices that faces the camera, UV as it stands in the picture."""
    line = torch.linspace(0, 1, count)
    v, u = torch.meshgrid(line, line, indexing="ij")
    uv = torch.stack([u, 1 - v], dim=-1).view(-1, 2)
    points = torch.stack([7.5 + side * u, 7.5 + side * v, torch.full_like(u, depth)], dim=-1)
    number = torch.arange(count * count).view(count, count)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = torch.stack([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).view(-1, 3)
    return points.view(1, -1, 3), uv, faces


def test_a_rendered_texture_comes_back():
    vertices, uv, faces = square(side=47.0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(3)), (32, 32), mode="bicubic"
    )
    found = rasterize(vertices, faces, SIZE)
    fragments = fragments_of(vertices, faces, found)
    colors = sample_texture(smooth, fragments.interpolate(uv[None])[None])[0].mT
    photo = fragments.to_image(colors)
    got = extractor_of(uv, faces, faces, 32)(photo, vertices)
    assert got.visible[:, :, 2:-2, 2:-2].all()
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert (got.color - smooth)[inner].abs().max() < 0.02
    torch.testing.assert_close(got.confidence[inner], torch.ones_like(got.confidence[inner]))


def test_the_back_is_invisible():
    vertices, uv, faces = square()
    mirrored = vertices * torch.tensor([-1.0, 1.0, 1.0]) + torch.tensor([63.0, 0.0, 0.0])
    extractor = extractor_of(uv, faces, faces, 16)
    assert extractor.locate(vertices, SIZE).visible.all()
    assert not extractor.locate(mirrored, SIZE).visible.any()


def test_what_lies_behind_is_invisible():
    far, uv, faces = square(depth=30.0)
    near, _, _ = square(side=24.0, depth=0.0)
    vertices = torch.cat([far, near], dim=1)
    both = torch.cat([faces, faces + far.shape[1]])
    resampling = centred_resampling(uv, faces, 32)
    visible = TextureExtractor(resampling, both).locate(vertices, SIZE, erosion=0).visible[0, 0]
    assert not visible[:15, :15].any()  # the near square covers a quarter
    assert visible[18:].all()
    assert visible[:, 18:].all()


def test_mask_and_erosion():
    vertices, uv, faces = square()
    extractor = extractor_of(uv, faces, faces, 48)
    mask = torch.ones(1, 1, *SIZE)
    mask[..., 32:] = 0
    whole = extractor.locate(vertices, SIZE, mask, erosion=0).visible[0, 0]
    less = extractor.locate(vertices, SIZE, mask, erosion=2).visible[0, 0]
    assert int(whole.sum(1)[0]) - int(less.sum(1)[0]) == 2
    assert not whole[:, 26:].any()


def test_outside_of_the_picture_is_invisible():
    vertices, uv, faces = square()
    moved = vertices - torch.tensor([30.0, 0.0, 0.0])
    visible = extractor_of(uv, faces, faces, 48).locate(moved, SIZE, erosion=0).visible[0, 0]
    assert not visible[:, :22].any()
    assert visible[:, 24:].all()


def test_colours_are_differentiable():
    vertices, uv, faces = square(count=3)
    extractor = extractor_of(uv, faces, faces, 4)
    photo = torch.rand(1, 1, *SIZE, dtype=torch.float64).requires_grad_()
    points = (vertices.double() + torch.tensor([0.3, 0.2, 0.0])).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, v: extractor(p, v).color, (photo, points), fast_mode=True, eps=1e-5, atol=1e-3
    )


def test_a_batch_is_its_samples():
    vertices, uv, faces = square()
    turned = torch.cat([vertices, vertices + torch.tensor([3.0, -2.0, 5.0])])
    photos = torch.rand(2, 3, *SIZE)
    extractor = extractor_of(uv, faces, faces, 16)
    both = extractor(photos, turned)
    for row in range(2):
        alone = extractor(photos[row : row + 1], turned[row : row + 1])
        assert torch.equal(both.color[row : row + 1], alone.color)
        assert torch.equal(both.visible[row : row + 1], alone.visible)


def test_dark_shading_does_not_blow_up():
    assert divide_shading(torch.tensor(0.05), torch.tensor(-0.2)).item() == pytest.approx(0.5)
