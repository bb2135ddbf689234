import numpy as np
import pytest
import torch

from lit_face.geometry.uv import points_to_surface, uv_resampling
from tests.helpers.tolerances import assert_close

SIZE = 33


def warped_sheet(side=9):
    """UV layout of a bent grid in [0,1]; faces cover it once."""
    line = torch.linspace(0, 1, side)
    v, u = torch.meshgrid(line, line, indexing="ij")
    bump = torch.sin(np.pi * u) * torch.sin(np.pi * v)
    uv = torch.stack([u + 0.08 * bump, v - 0.06 * bump], -1).view(-1, 2)
    index = torch.arange(side * side).view(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return uv, torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).view(-1, 3)


@pytest.mark.parametrize("rules", ["default", "face3d"])
def test_a_linear_function_of_uv_is_reproduced_at_every_texel(rules):
    uv, faces = warped_sheet()
    resampling = uv_resampling(uv, faces, SIZE, rules, border_rule=False)
    if rules == "default":
        assert resampling.mask.all()  # the layout fills the square, borders included
    assert_close(resampling.apply(uv), resampling.uv, atol=1e-6)
    assert_close(resampling.weights.sum(1), torch.ones(len(resampling.texels)))


def test_row_zero_of_a_map_is_the_top_and_column_zero_the_left():
    uv, faces = warped_sheet()
    maps = uv_resampling(uv, faces, SIZE)(uv)
    assert_close(maps[:, 0, 0], torch.tensor([0.0, 1.0]))
    assert_close(maps[:, 0, -1], torch.tensor([1.0, 1.0]))
    assert_close(maps[:, -1, 0], torch.tensor([0.0, 0.0]))


def test_weights_do_not_change_what_is_interpolated_in_any_batch_shape():
    uv, faces = warped_sheet()
    resampling = uv_resampling(uv, faces, SIZE)
    basis = torch.randn(2, 5, len(uv), 3, generator=torch.Generator().manual_seed(0))
    dense = torch.zeros(len(resampling.texels), len(uv))
    dense.scatter_add_(1, resampling.vertex_index, resampling.weights)
    assert_close(resampling.apply(basis), dense @ basis, atol=1e-5)
    assert resampling(basis).shape == (2, 5, 3, SIZE, SIZE)


def test_the_first_of_overlapping_faces_has_the_texel():
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).repeat(2, 1)
    faces = torch.tensor([[3, 4, 5], [0, 1, 2]])
    for rules in ("default", "face3d"):
        resampling = uv_resampling(uv, faces, 17, rules)
        assert (resampling.vertex_index >= 3).all()


def test_default_rules_equal_a_loop_over_faces():
    generator = torch.Generator().manual_seed(4)
    uv = torch.rand(30, 2, generator=generator).double() * 1.4 - 0.2
    faces = torch.randint(0, 30, (12, 3), generator=generator)
    resampling = uv_resampling(uv, faces, 21)
    expected = np.full((21, 21), -1)
    for row in range(21):
        for column in range(21):
            point = np.array([column / 20, 1 - row / 20])
            for face in range(11, -1, -1):
                d = uv[faces[face]].numpy() - point
                areas = [d[i - 2, 0] * d[i - 1, 1] - d[i - 2, 1] * d[i - 1, 0] for i in range(3)]
                if (min(areas) >= 0 or max(areas) <= 0) and abs(sum(areas)) > 1e-12:
                    expected[row, column] = face
    assert torch.equal(resampling.mask, torch.from_numpy(expected >= 0))
    chosen = torch.from_numpy(expected[expected >= 0])
    assert torch.equal(resampling.vertex_index, faces[chosen])


def test_surface_points_of_texels_and_of_points_outside():
    uv, faces = warped_sheet()
    resampling = uv_resampling(uv, faces, SIZE)
    index, weights = points_to_surface(resampling.uv, uv, faces)
    assert_close((weights[..., None] * uv[index]).sum(1), resampling.uv, atol=1e-6)
    outside = torch.tensor([[1.5, 0.5], [0.25, -3.0], [-1.0, 2.0]])
    index, weights = points_to_surface(outside, uv, faces)
    closest = (weights[..., None] * uv[index]).sum(1)
    assert_close(closest, torch.tensor([[1.0, 0.5], [0.25, 0.0], [0.0, 1.0]]), atol=1e-6)


def test_buffers_stay_out_of_checkpoints():
    assert not uv_resampling(*warped_sheet(), SIZE).state_dict()


def test_errors_say_what_is_wrong():
    uv, faces = warped_sheet()
    with pytest.raises(ValueError, match="'default' or 'face3d'"):
        uv_resampling(uv, faces, SIZE, rules="opengl")
    with pytest.raises(ValueError, match="uv has 80 rows"):
        uv_resampling(uv[:80], faces, SIZE)
    with pytest.raises(ValueError, match="at least 2"):
        uv_resampling(uv, faces, 1)
    with pytest.raises(ValueError, match="finite"):
        points_to_surface(torch.full((1, 2), float("nan")), uv, faces)
