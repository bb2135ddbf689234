import torch

from lit_face.rendering.interpolate import barycentric, fragments_of, interpolate
from lit_face.rendering.rasterize import rasterize
from tests.helpers.tolerances import assert_close

SIZE = (9, 11)


def two_triangles(dtype=torch.float64):
    """Two overlapping triangles a picture whose edges stay clear of pixel centres."""
    points = torch.tensor(
        [[[0.3, 0.4, 3], [9.3, 1.2, 4], [2.2, 7.6, 5], [8.7, 7.3, 2]],
         [[1.3, 0.4, 9], [9.6, 0.2, 4], [0.2, 7.6, 5], [8.7, 6.4, 7]]], dtype=dtype)  # fmt: skip
    return points, torch.tensor([[0, 1, 2], [1, 3, 2]])


def pixel_grid():
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    return torch.stack([columns, rows]).double()


def test_weights_reproduce_the_pixel_and_sum_to_one():
    points, faces = two_triangles()
    seen = rasterize(points, faces, SIZE)
    weights = barycentric(points, faces, seen)
    mask = (seen >= 0).unsqueeze(1)
    assert 60 < mask.sum() < 198
    where = interpolate(points, faces, seen, weights)
    assert_close(where[:, :2], pixel_grid() * mask)
    assert_close(weights.sum(-1), mask[:, 0].double())
    assert weights.min() > -1e-12


def test_perspective_weights_are_those_of_the_point_in_space():
    points, faces = two_triangles()
    seen = rasterize(points, faces, SIZE, perspective=True)
    space = torch.cat([points[..., :2] * points[..., 2:], points[..., 2:]], -1)  # pinhole, f = 1
    weights = barycentric(points, faces, seen, perspective=True)
    where = interpolate(space, faces, seen, weights)
    mask = (seen >= 0).unsqueeze(1)
    assert_close(where[:, :2], pixel_grid() * where[:, 2:] * mask)
    corners = space[:, faces]
    normals = torch.linalg.cross(
        corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    )
    planes = (normals * corners[:, :, 0]).sum(-1)
    for image in range(2):
        for face in range(2):
            on_plane = torch.einsum("c,chw->hw", normals[image, face], where[image])
            covered = seen[image] == face
            assert_close(on_plane[covered], planes[image, face].expand(int(covered.sum())))


def test_gradients_equal_finite_differences():
    points, faces = two_triangles()
    attributes = torch.randn(
        2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    for perspective in (False, True):
        seen = rasterize(points, faces, SIZE, perspective=perspective)

        def picture(vertices, values, seen=seen, perspective=perspective):
            weights = barycentric(vertices, faces, seen, perspective)
            return interpolate(values, faces, seen, weights)

        inputs = (points.clone().requires_grad_(), attributes.clone().requires_grad_())
        assert torch.autograd.gradcheck(picture, inputs)


def test_fragments_and_dense_buffers_say_the_same():
    points, faces = two_triangles(torch.float32)
    seen = rasterize(points, faces, SIZE)
    fragments = fragments_of(points, faces, seen)
    dense = interpolate(points, faces, seen, barycentric(points, faces, seen))
    assert_close(fragments.to_image(fragments.interpolate(points)), dense)


def test_an_empty_picture_has_zero_gradients():
    points, faces = two_triangles()
    points = (points + 100).requires_grad_()
    seen = rasterize(points, faces, SIZE)
    barycentric(points, faces, seen).sum().backward()
    assert torch.equal(points.grad, torch.zeros_like(points))
