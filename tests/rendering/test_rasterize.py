import math

import numpy as np
import pytest
import torch

from lit_face.rendering.rasterize import rasterize

KERNELS = ("numba", "torch")


def triangle_soup(seed, batch=2, vertices=200, faces=300, spread=60.0, log_range=1.0):
    """Random triangles of very different sizes, many partly or wholly off-screen."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(batch, vertices, 3, generator=generator) * spread
    points *= 10 ** (log_range * torch.randn(batch, vertices, 1, generator=generator))
    points[..., :2] += 30
    return points, torch.randint(0, vertices, (faces, 3), generator=generator)


def bumpy_sheet(side, size):
    """Mesh of two triangles a cell over a square image, with folds in depth."""
    line = torch.linspace(-0.1 * size, 1.1 * size, side)
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = torch.stack([x + 3 * torch.sin(y), y + 3 * torch.cos(x / 5), torch.sin(x / 9)], -1)
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)]).view(-1, 3)
    return points.view(1, -1, 3), faces


def slow_rasterize(points, faces, size):
    """The default rules in float64, one pixel and one triangle at a time."""
    face_index = np.full(size, -1)
    nearest = np.full(size, np.inf)
    for face, corners in enumerate(points.double().numpy()[faces.numpy()]):
        for row in range(size[0]):
            for column in range(size[1]):
                d = corners[:, :2] - (column, row)
                edges = np.array(
                    [d[i - 2, 0] * d[i - 1, 1] - d[i - 2, 1] * d[i - 1, 0] for i in range(3)]
                )
                if abs(np.sign(edges).sum()) < np.count_nonzero(edges) or edges.sum() == 0:
                    continue
                depth = edges @ corners[:, 2] / edges.sum()
                if depth < nearest[row, column]:
                    nearest[row, column], face_index[row, column] = depth, face
    return face_index


@pytest.mark.parametrize("kernel", KERNELS)
def test_default_rules_equal_a_loop_over_pixels_and_triangles(kernel):
    points, faces = triangle_soup(seed=1, batch=1, vertices=60, faces=40, log_range=0.2)
    fast = rasterize(points, faces, (20, 26), kernel=kernel)[0]
    assert torch.equal(fast, torch.from_numpy(slow_rasterize(points[0], faces, (20, 26))))


@pytest.mark.parametrize("rules", ["default", "face3d"])
@pytest.mark.parametrize("seed", range(6))
def test_kernels_agree_in_every_pixel_on_soups(rules, seed):
    points, faces = triangle_soup(seed)
    numba, scatter = (rasterize(points, faces, (61, 83), rules, kernel) for kernel in KERNELS)
    assert torch.equal(numba, scatter)
    assert (numba >= 0).any()


@pytest.mark.parametrize("rules", ["default", "face3d"])
def test_kernels_agree_in_every_pixel_on_meshes(rules, monkeypatch):
    monkeypatch.setattr("lit_face.rendering.kernels.torch_scatter.CHUNK_CPU", 5000)
    for side in (5, 90):  # triangles of many pixels, and of about one
        points, faces = bumpy_sheet(side, 96)
        numba, scatter = (rasterize(points, faces, (96, 96), rules, kernel) for kernel in KERNELS)
        assert torch.equal(numba, scatter)
        assert (numba[:, 5:-5, 5:-5] >= 0).all()


def test_threads_do_not_change_the_result():
    points, faces = triangle_soup(seed=7)
    one = rasterize(points, faces, (61, 83))
    try:
        torch.set_num_threads(3)
        assert torch.equal(rasterize(points, faces, (61, 83)), one)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_awkward_triangles_draw_nothing_and_break_nothing(kernel):
    points = torch.tensor([[
        [1, 1, 0], [1, 1, 0], [5, 5, 0],            # 0: two equal corners
        [2, 2, 0], [4, 4, 0], [6, 6, 0],            # 1: collinear through pixel centres
        [-9, -9, 0], [-3, -9, 0], [-9, -3, 0],      # 2: off-screen
        [math.nan, 1, 0], [5, 1, 0], [5, 5, 0],     # 3: not a number
        [0, 0, math.inf], [9, 0, 0], [9, 9, 0],     # 4: infinite depth
        [0.1, 0.1, 0], [0.3, 0.1, 0], [0.1, 0.3, 0],  # 5: between pixel centres
    ]])  # fmt: skip
    faces = torch.arange(18).view(6, 3)
    assert (rasterize(points, faces, (8, 8), kernel=kernel) == -1).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e12])
def test_a_huge_triangle_covers_the_whole_image(kernel, scale):
    points = scale * torch.tensor([[[-3.0, -1.0, 0.1], [1.0, -1.0, 0.2], [0.5, 4.0, 0.3]]])
    faces = torch.tensor([[0, 1, 2]])
    assert (rasterize(points, faces, (9, 7), kernel=kernel) == 0).all()
    assert (rasterize(points, faces.flip(1), (9, 7), kernel=kernel) == 0).all()  # either winding


@pytest.mark.parametrize("kernel", KERNELS)
def test_shared_edges_have_no_cracks_and_ties_go_to_the_lower_face(kernel):
    points = torch.tensor([[[0.0, 0, 5], [6, 0, 5], [0, 6, 5], [6, 6, 5]]])
    faces = torch.tensor([[2, 1, 3], [0, 1, 2]])  # the diagonal runs through pixel centres
    seen = rasterize(points, faces, (7, 7), kernel=kernel)[0]
    assert (seen >= 0).all()
    rows, columns = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    assert torch.equal(seen, (rows + columns < 6).long())


@pytest.mark.parametrize("kernel", KERNELS)
def test_smaller_depth_wins_whatever_the_order_and_the_sign(kernel):
    flat = torch.tensor([[0.0, 0], [9, 0], [0, 9]])
    depths = torch.tensor([2.0, -0.0, -7.5, 0.0, 1e-3, -7.25])
    points = torch.cat([torch.cat([flat, torch.full((3, 1), z)], 1) for z in depths.tolist()])[None]
    faces = torch.arange(18).view(6, 3)
    for kept, nearest in (([0, 1, 2, 3, 4, 5], 2), ([0, 1, 3, 4], 1), ([3, 1, 4], 0)):
        seen = rasterize(points, faces[kept], (4, 4), kernel=kernel)
        assert (seen == nearest).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_perspective_depth_follows_the_intersection_of_planes(kernel):
    # A wall at depth 2 and a floor-like triangle from depth 1 (left) to depth 10 (right): in
    # perspective they meet where 1/z is 1/2, at 4/9 of the way in 1/z, far right of the middle
    # that affine depth would give (1/9).
    far = torch.tensor([[0.0, 0, 2], [90, 0, 2], [0, 90, 2], [90, 90, 2]])
    tilted = torch.tensor([[0.0, 0, 1], [90, 0, 10], [0, 90, 1], [90, 90, 10]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]])
    points = torch.cat([far, tilted])[None]
    seen = rasterize(points, faces, (91, 91), kernel=kernel, perspective=True)[0]
    assert (seen[40] >= 2).sum() in (50, 51)  # 90 * (1 - 1/2) / (1 - 1/10) = 50
    behind = points.clone()
    behind[0, 5, 2] = -1.0
    seen = rasterize(behind, faces, (91, 91), kernel=kernel, perspective=True)
    assert (seen < 2).all()


def test_no_faces_no_pixels():
    faces = torch.empty(0, 3, dtype=torch.int64)
    for kernel in KERNELS:
        assert (rasterize(torch.zeros(2, 4, 3), faces, (3, 5), kernel=kernel) == -1).all()


def test_errors_say_what_is_wrong():
    points, faces = torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]])
    with pytest.raises(TypeError, match=r"bfloat16.*\.float\(\)"):
        rasterize(points.bfloat16(), faces, (4, 4))
    with pytest.raises(ValueError, match=r"\(B,V,3\)"):
        rasterize(points[0], faces, (4, 4))
    with pytest.raises(ValueError, match="int64"):
        rasterize(points, faces.int(), (4, 4))
    with pytest.raises(ValueError, match="vertices 0 to 3, but there are 3"):
        rasterize(points, faces + torch.tensor([0, 0, 1]), (4, 4))
    with pytest.raises(ValueError, match="'numba' or 'torch'"):
        rasterize(points, faces, (4, 4), kernel="cuda")
    with pytest.raises(ValueError, match="'default' or 'face3d'"):
        rasterize(points, faces, (4, 4), rules="opengl")


@pytest.mark.gpu
@pytest.mark.parametrize("rules", ["default", "face3d"])
def test_accelerator_and_cpu_agree_in_every_pixel(rules):
    for points, faces in (triangle_soup(seed=3), bumpy_sheet(90, 96)):
        found = rasterize(points.cuda(), faces.cuda(), (96, 96), rules)
        assert torch.equal(found.cpu(), rasterize(points, faces, (96, 96), rules, "numba"))
