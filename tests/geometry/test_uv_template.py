import numpy as np
import pytest

from lit_face.geometry.uv_template import (
    attribute_map,
    base_maps,
    core_window,
    full_maps,
    rasterize_template,
    smoothed_normals,
    smoothing_kernel,
)


def sheet(cells=20, size=1.0):
    """A square grid of triangles whose uv are its x and y."""
    line = np.linspace(0, size, cells + 1)
    x, y = np.meshgrid(line, line)
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, -1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.stack([a, b, c, d, c, b], axis=-1).reshape(-1, 3)
    return np.stack([x.ravel(), y.ravel()], 1), faces


def test_a_texel_gets_what_lies_at_its_sample_one_row_lower():
    uv, faces = sheet()
    texels = rasterize_template(uv, faces, faces, 64)
    drawn = attribute_map(uv, texels, 64)
    rows, columns = np.mgrid[:64, :64]
    assert not drawn[0].any()  # its samples would lie above the sheet
    np.testing.assert_allclose(drawn[1:, :, 0], ((columns + 0.5) / 64)[1:], atol=1e-6)
    np.testing.assert_allclose(drawn[1:, :, 1], ((64 - rows + 0.5) / 64)[1:], atol=1e-6)


def test_texels_outside_of_the_map_are_dropped():
    uv, faces = sheet()
    texels = rasterize_template(uv * 1.2 - 0.1, faces, faces, 32)
    for positions in (texels.rows, texels.columns):
        assert positions.min() == 0
        assert positions.max() == 31


def test_triangles_across_a_seam_are_left_out():
    uv, faces = sheet()
    moved = uv.copy()
    corner = faces[100, 0]
    moved[corner] += 0.5
    with_seam = rasterize_template(moved, faces, faces, 64)
    touching = (faces == corner).any(axis=1)
    without = rasterize_template(uv, faces[~touching], faces[~touching], 64)
    np.testing.assert_array_equal(with_seam.rows, without.rows)


def test_later_triangles_are_drawn_over_earlier_ones():
    uv, faces = sheet()
    twice = np.concatenate([faces, faces])
    vertices = np.concatenate([faces, faces + len(uv)])
    texels = rasterize_template(uv, twice, vertices, 64)
    values = np.repeat([[1.0], [2.0]], len(uv), axis=0)
    assert set(np.unique(attribute_map(values, texels, 64))) == {0.0, 2.0}


def test_shapes_that_do_not_fit_are_refused():
    uv, faces = sheet()
    with pytest.raises(ValueError, match="vt"):
        rasterize_template(uv, faces[:-1], faces, 64)
    with pytest.raises(ValueError, match="faces_uv use other"):
        rasterize_template(uv[:-1], faces, faces, 64)


def test_core_window_and_kernel_scale_with_the_map():
    assert core_window(512) == (slice(72, 328), slice(128, 384))
    assert core_window(64) == (slice(9, 41), slice(16, 48))
    assert [smoothing_kernel(size) for size in (512, 256, 128, 64)] == [21, 11, 5, 3]
    with pytest.raises(ValueError, match="multiple of 64"):
        core_window(100)


def test_normals_of_a_plane_are_its_normal_and_have_length_one():
    uv, faces = sheet(40)
    slope = np.array([0.3, -0.2])
    vertices = np.column_stack([uv, uv @ slope]) * 100
    texels = rasterize_template(uv, faces, faces, 128)
    maps = full_maps(vertices, faces, texels, 128)
    there = maps.position.any(axis=2)
    expected = np.array([-slope[0], -slope[1], 1]) / np.linalg.norm([*slope, 1])
    np.testing.assert_allclose(
        maps.normal[there], np.broadcast_to(expected, (there.sum(), 3)), atol=1e-5
    )


def test_renormalised_normals_differ_from_smoothed_ones_only_in_length():
    uv, faces = sheet(40)
    vertices = np.column_stack([uv, 0.1 * np.sin(30 * uv[:, 0])]) * 100
    texels = rasterize_template(uv, faces, faces, 128)
    raw = full_maps(vertices, faces, texels, 128, renormalise=False).normal
    unit = full_maps(vertices, faces, texels, 128).normal
    length = np.linalg.norm(raw, axis=2)
    there = length > 0
    assert length[there].min() < 0.95
    np.testing.assert_allclose(unit[there] * length[there][:, None], raw[there], atol=1e-6)


def test_empty_surroundings_do_not_matter_to_smoothed_normals():
    generator = np.random.default_rng(0)
    normals = generator.normal(size=(40, 50, 3)).astype(np.float32)
    normals[12:15, 20:30] = 0
    normals[:, :3] = 0
    wide = np.zeros((160, 200, 3), np.float32)
    wide[60:100, 70:120] = normals
    padded = np.pad(normals, ((30, 30), (30, 30), (0, 0)))
    far, near = smoothed_normals(wide, 11), smoothed_normals(padded, 11)
    np.testing.assert_allclose(far[60:100, 70:120], near[30:-30, 30:-30], atol=1e-6)
    assert not far[72:75, 90:100].any()
    assert not smoothed_normals(np.zeros((20, 20, 3), np.float32), 5).any()


def test_the_core_is_cut_out_and_masked():
    uv, faces = sheet(40)
    vertices = np.column_stack([uv, 1 + 0 * uv[:, :1]])
    texels = rasterize_template(uv, faces, faces, 128)
    mask = np.zeros((64, 64), bool)
    mask[10:20, 30:50] = True
    maps = base_maps(vertices, faces, texels, 128, mask)
    whole = base_maps(vertices, faces, texels, 128)
    np.testing.assert_array_equal(maps.position.any(axis=2), mask)
    np.testing.assert_array_equal(maps.position[mask], whole.position[mask])
    rows, columns = core_window(128)
    full = full_maps(vertices, faces, texels, 128)
    np.testing.assert_array_equal(whole.normal, full.normal[rows, columns])
    with pytest.raises(ValueError, match="mask"):
        base_maps(vertices, faces, texels, 128, mask[1:])
