import json

import numpy as np
import pytest
import torch

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.facescape_fit import fit_base_meshes
from lit_face.data.facescape_maps import (
    MapOptions,
    maps_digest,
    read_template,
    sample_maps,
    write_maps,
)
from lit_face.io.meshes import Mesh, write_mesh
from tests.helpers.facescape_sheets import SIZE, relief, sheet_folder

OPTIONS = MapOptions(SIZE)
KINDS = ("pos_map", "norm_map", "mv_map", "valid_map", "visibility_map")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, model, truth = sheet_folder(tmp_path_factory.mktemp("maps") / "processed")
    fit_base_meshes(folder, model)
    assert write_maps(folder, options=OPTIONS) == folder.ids()
    return folder, model, truth


def read(folder, name):
    return {kind: np.load(folder.map_file(kind, name)) for kind in KINDS}


def test_maps_lead_from_the_base_mesh_to_the_scan(made):
    folder, _, _ = made
    maps, unit_mm = read(folder, "331_01"), folder.scale("331_01")
    half = SIZE // 2
    shapes = {kind: array.shape for kind, array in maps.items()}
    assert shapes == {
        "pos_map": (half, half, 3), "norm_map": (half, half, 3), "mv_map": (half, half),
        "valid_map": (half, half), "visibility_map": (6, half, half),
    }  # fmt: skip
    there = maps["pos_map"].any(axis=2)
    valid = maps["valid_map"]
    assert there.mean() > 0.5
    assert valid[there].mean() > 0.9  # but for the sheet's border
    assert not maps["mv_map"][~valid].any()
    moved = unit_mm * (maps["pos_map"] + maps["mv_map"][..., None] * maps["norm_map"])[valid]
    from lit_face.data.facescape_maps import read_scan
    from lit_face.morphable_models.mesh_hierarchy.surface import closest_on_mesh

    vertices, faces = read_scan(folder.scan_file("331_01"))
    face, weights = closest_on_mesh(moved / unit_mm, vertices, faces)
    closest = (vertices[faces[face]] * weights[..., None]).sum(1)
    assert np.linalg.norm(moved - unit_mm * closest, axis=1).max() < 1e-3


def test_the_displacement_of_a_known_relief_is_found(made):
    folder, model, truth = made
    vertices = truth["001_01"]
    template = read_template(folder.template_file, SIZE)
    cameras = folder.cameras("001_01", folder.views("001_01"))
    raised = vertices + relief(vertices)[:, None] * [0, 0, 1]
    maps = sample_maps(vertices, template, cameras, (raised, model.faces.numpy()), 50.0, OPTIONS)
    height = relief(maps.position[maps.valid]) * maps.normal[maps.valid][:, 2]
    error = np.abs(maps.displacement[maps.valid] - height)
    assert np.median(error) < 0.1
    near = sample_maps(vertices, template, cameras, (raised, model.faces.numpy()), 0.5, OPTIONS)
    assert 0.1 < near.valid.sum() / maps.valid.sum() < 0.7
    assert np.abs(near.displacement).max() <= 0.5


def test_views_see_what_faces_them(made):
    folder, _, _ = made
    maps = read(folder, "001_01")
    there = maps["pos_map"].any(axis=2)
    seen = maps["visibility_map"]
    assert not seen[:, ~there].any()
    # The cameras stand on an arc from one side to the other; the sheet is bent.
    centre = seen[2:4, there].mean()
    assert centre > 0.95
    x = maps["pos_map"][..., 0]
    left, right = there & (x < np.quantile(x[there], 0.1)), there & (x > np.quantile(x[there], 0.9))
    assert seen[0, left].mean() > seen[0, right].mean() + 0.3
    assert seen[-1, right].mean() > seen[-1, left].mean() + 0.3


def test_maps_stay_until_something_that_they_are_made_of_changes(tmp_path):
    folder, model, _ = sheet_folder(tmp_path / "processed", samples=("001_01", "331_01"))
    fit_base_meshes(folder, model)
    told = []
    write_maps(folder, options=OPTIONS, progress=lambda *args: told.append(args))
    assert told == [(1, 2, "001_01"), (2, 2, "331_01")]
    first = maps_digest(folder, "001_01")
    assert write_maps(folder, options=OPTIONS) == []
    folder.map_file("norm_map", "001_01").unlink()
    assert write_maps(folder, options=OPTIONS) == ["001_01"]
    assert maps_digest(folder, "001_01") == first
    # Another scan, then none at all.
    vertices, faces = torch.rand(30, 3), torch.arange(30).view(-1, 3)
    write_mesh(folder.scan_file("001_01"), Mesh(vertices, faces))
    assert write_maps(folder, options=OPTIONS) == ["001_01"]
    folder.scan_file("001_01").unlink()
    assert write_maps(folder, options=OPTIONS) == ["001_01"]
    assert not folder.map_file("mv_map", "001_01").exists()
    assert folder.map_file("pos_map", "001_01").exists()
    # Another base mesh, other options.
    landmarks = json.loads(folder.landmarks_file("331_01").read_text())
    landmarks["1"] = None
    folder.landmarks_file("331_01").write_text(json.dumps(landmarks))
    fit_base_meshes(folder, model)
    assert write_maps(folder, options=OPTIONS) == ["331_01"]
    assert len(write_maps(folder, options=MapOptions(SIZE, renormalise=False))) == 2


@pytest.mark.slow
def test_processes_write_the_same_maps(made, tmp_path):
    folder, _, _ = made
    before = read(folder, "002_01")
    write_maps(folder, samples=["002_01"], workers=1, options=OPTIONS, overwrite=True)
    for kind, array in read(folder, "002_01").items():
        np.testing.assert_array_equal(array, before[kind])


def test_what_is_broken_is_named(tmp_path):
    folder, model, _ = sheet_folder(tmp_path / "processed", samples=("001_01", "331_01"))
    with pytest.raises(DatasetNotFoundError, match=r"fit_mesh_001_01.obj: no base mesh"):
        write_maps(folder, options=OPTIONS)
    fit_base_meshes(folder, model)
    vertices = torch.rand(30, 3)
    vertices[7, 1] = torch.nan
    path = folder.scan_file("001_01")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"scan_001_01.ply"):
        write_maps(folder, options=OPTIONS)
    import trimesh

    trimesh.Trimesh(vertices.numpy(), np.arange(30).reshape(-1, 3), process=False).export(path)
    with pytest.raises(ValueError, match=r"scan_001_01.ply: 1 of 30 vertices are not finite.* 7"):
        write_maps(folder, options=OPTIONS)
    path.unlink()
    lines = folder.base_mesh_file("001_01").read_text().splitlines(keepends=True)
    folder.base_mesh_file("001_01").write_text("".join(lines[1:]))
    with pytest.raises(ValueError, match=r"fit_mesh_001_01.obj: .*625.*624|corner"):
        write_maps(folder, options=OPTIONS)
    folder.template_file.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match=r"1_neutral.obj: every corner"):
        write_maps(folder, options=OPTIONS)
    folder.template_file.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1_neutral.obj: no template"):
        write_maps(folder, options=OPTIONS)
