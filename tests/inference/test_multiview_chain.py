"""One subject through the chain: files, skipping, interruptions, kinds of folders."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from lit_face.inference.multiview.chain import ChainOptions, MultiviewChain
from lit_face.inference.multiview.subject import find_subject
from lit_face.inference.multiview.subject_run import SubjectRun
from lit_face.io.displacement_maps import read_displacement_map
from lit_face.io.images import read_image, write_image
from lit_face.metrics.scan_distance import Surface, closest_points
from lit_face.morphable_models.facescape import facescape
from tests.helpers.facescape import edit_json, tiny_processed, tiny_raw
from tests.helpers.multiview_runs import (
    SUBJECT,
    displacement_run,
    implicit_run,
    own_capture,
    regularized_run,
)
from tests.helpers.tolerances import assert_close

STAGES = ["photos", "base mesh", "UV maps", "implicit", "regularized", "texture"]
STAGES += ["displacement", "meshes"]
SURFACES = ["base", "implicit", "regularized", "displacement"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    implicit = implicit_run(folder / "implicit")
    regularized = regularized_run(folder / "regularized", implicit)
    return implicit, regularized, displacement_run(folder / "displacement")


@pytest.fixture(scope="module")
def model():
    return facescape(None)


@pytest.fixture(scope="module")
def reconstruct(runs, model):
    """Take a subject through the chain."""

    def run(subject, out, displacement=True, **options):
        _, ckpt, relief = map(str, runs)
        options = ChainOptions(
            **{"texture_size": 64, "subdivisions": 1, "device": "cpu", **options}
        )
        chain = MultiviewChain.load(ckpt, relief if displacement else None, model, options)
        return SubjectRun(chain, subject, out, lambda *said: None).run()

    return run


@pytest.fixture(scope="module")
def subject():
    return find_subject(tiny_raw() / "imgs" / SUBJECT)


@pytest.fixture(scope="module")
def whole(reconstruct, subject, tmp_path_factory):
    """A subject that is done."""
    out = tmp_path_factory.mktemp("whole")
    return reconstruct(subject, out)


@pytest.fixture(scope="module")
def bare(subject):
    """The subject without its scan: quicker."""
    return replace(subject, scan=None)


@pytest.fixture(scope="module")
def done(reconstruct, bare, tmp_path_factory):
    return reconstruct(bare, tmp_path_factory.mktemp("bare")).folder


@pytest.fixture
def copied(done, tmp_path):
    """The folder of results without a scan, to be changed."""
    return shutil.copytree(done, tmp_path / "out")


def stamps(folder):
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "stages.json"
    }


def recorded(folder):
    return [entry["name"] for entry in json.loads((folder / "stages.json").read_text())]


def test_all_files_are_there_and_readable(whole):
    assert recorded(whole.folder) == [*STAGES, "errors"]
    assert whole.skipped == []
    counts = {}
    for name in SURFACES:
        mesh = trimesh.load(whole.meshes[name], process=False)
        assert isinstance(mesh, trimesh.Trimesh)
        assert np.isfinite(mesh.vertices).all()
        assert mesh.visual.uv.shape == (len(mesh.vertices), 2)
        counts[name] = len(mesh.faces)
    assert counts["displacement"] == 4 * counts["regularized"]
    scene = trimesh.load(whole.folder / "face.glb")
    assert [len(part.faces) for part in scene.geometry.values()] == [counts["regularized"]]
    assert read_image(whole.folder / "texture.png").shape == (64, 64, 3)


def test_meshes_are_in_head_space_and_mm(whole):
    """A face: some 15 cm high, nose in front, eyes left and right of the middle."""
    for path in whole.meshes.values():
        vertices = trimesh.load(path, process=False).vertices
        extent = np.ptp(vertices, axis=0)
        assert (extent > [90, 110, 40]).all(), extent
        assert (extent < [190, 240, 160]).all(), extent
        tip = vertices[vertices[:, 2].argmax()]
        assert abs(tip[0] - vertices[:, 0].mean()) < 15
        assert abs(tip[1] - vertices[:, 1].mean()) < 40


def test_the_base_mesh_stands_where_the_head_model_does(whole):
    """It is larger by what the given scale differs from the fit's, about the model's origin."""
    fit = json.loads((whole.folder / "stages/fit_mesh/fit_mesh_001_01.json").read_text())
    scale = find_subject(tiny_raw() / "imgs" / SUBJECT).scale
    assert abs(scale / fit["scale_mm"] - 1) > 0.01
    fitted = trimesh.load(whole.folder / "stages/fit_mesh/fit_mesh_001_01.obj", process=False)
    canonical = np.array(fit["canonical"])
    head = fitted.vertices * fit["scale_mm"] @ canonical[:, :3].T + canonical[:, 3]
    expected = Surface.of(scale / fit["scale_mm"] * np.asarray(head), fitted.faces)
    found = trimesh.load(whole.meshes["base"], process=False).vertices
    assert closest_points(np.asarray(found), expected).distance.max() < 0.05


def test_relief_reads_back_from_16_bits(whole):
    canvas = read_displacement_map(whole.folder / "displacement.png")
    assert canvas.shape == (4096, 4096)
    assert (canvas[:500] == 0).all()
    side = whole.relief.shape[0]
    core = torch.from_numpy(canvas[576:2624, 1024:3072])[None, None]
    found = torch.nn.functional.interpolate(core, (side, side), mode="bilinear")[0, 0]
    inner = (slice(2, -2), slice(2, -2))
    assert_close(found[inner], torch.from_numpy(whole.relief)[inner], atol=0.04)


def test_surfaces_are_compared_with_the_scan(whole):
    assert list(whole.errors) == SURFACES
    assert 0.3 < whole.errors["base"]["distance_mm"] < 3
    vertices = len(trimesh.load(whole.meshes["displacement"], process=False).vertices)
    assert whole.distances["displacement"].shape == (vertices,)
    assert whole.warnings(1.5) == []


def test_a_second_run_does_nothing(whole, reconstruct, subject):
    before = stamps(whole.folder)
    again = reconstruct(subject, whole.folder)
    assert again.skipped == [*STAGES, "errors"]
    assert stamps(whole.folder) == before
    assert again.errors == whole.errors
    assert again.features == whole.features


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"texture_size": 48}, "texture"),
        ({"subdivisions": 0}, "meshes"),
        ({"views": 3}, "photos"),
        ({"memory": 2.0}, None),
    ],
)
def test_an_option_redoes_what_comes_after_it(reconstruct, bare, copied, options, first):
    found = reconstruct(bare, copied, **options)
    assert found.skipped == STAGES[: None if first is None else STAGES.index(first)]
    assert recorded(copied) == STAGES
    if "views" in options:
        assert len(found.features) == 3


def test_without_relief_the_surface_stays(reconstruct, bare, copied):
    found = reconstruct(bare, copied, displacement=False)
    assert found.skipped == STAGES[: STAGES.index("displacement")]
    assert list(found.meshes) == SURFACES[:3]


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("stages/images/001/01/3.jpg", "photos"),
        ("stages/maps/eval/norm_map/norm_map_001_01.npy", "UV maps"),
        ("stages/regularized.npy", "regularized"),
        ("face.glb", "meshes"),
    ],
)
def test_a_deleted_file_is_made_again(reconstruct, bare, copied, file, stage):
    before = (copied / file).read_bytes()
    (copied / file).unlink()
    found = reconstruct(bare, copied)
    assert found.skipped == [name for name in STAGES if name != stage]
    assert (copied / file).read_bytes() == before
    assert recorded(copied) == STAGES
    assert reconstruct(bare, copied).skipped == STAGES


def test_an_interrupted_run_goes_on(reconstruct, bare, tmp_path, monkeypatch):
    class PowerCut(Exception):
        pass

    def cut(*arguments, **options):
        raise PowerCut

    def interrupted(target):
        with monkeypatch.context() as patch:
            patch.setattr(f"lit_face.inference.multiview.{target}", cut)
            with pytest.raises(PowerCut):
                reconstruct(bare, tmp_path)
        assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
        return recorded(tmp_path)

    assert interrupted("subject_run.write_maps") == STAGES[:2]
    assert interrupted("subject_run.write_displacement_map") == STAGES[:7]
    assert (tmp_path / "base.obj").is_file()
    assert not (tmp_path / "displacement.png").exists()
    found = reconstruct(bare, tmp_path)
    assert found.skipped == STAGES[:7]
    assert recorded(tmp_path) == STAGES


def test_what_another_option_has_begun_is_not_taken_for_done(
    reconstruct, bare, copied, monkeypatch
):
    def cut(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lit_face.inference.multiview.subject_run.write_displacement_map", cut)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(bare, copied, subdivisions=0)
    assert "meshes" not in reconstruct(bare, copied).skipped


def test_the_processed_layout_gives_the_same(whole, reconstruct, tmp_path):
    subject = find_subject(tiny_processed().root / "images" / "331" / "01")
    assert subject.scale == pytest.approx(tiny_processed().scale("331_01"))
    assert subject.scan.name == "scan_331_01.ply"
    found = reconstruct(replace(subject, scan=None), tmp_path, displacement=False)
    assert list(found.features) == list(whole.features)
    for name in ("base", "implicit", "regularized"):
        vertices, expected = (
            trimesh.load(each.meshes[name], process=False).vertices for each in (found, whole)
        )
        assert np.abs(vertices - expected).max() < 0.3


def test_a_capture_of_ones_own(whole, reconstruct, tmp_path):
    """Photos, cameras and landmarks alone: the head model says how large the face is."""
    folder = own_capture(tmp_path / "capture")
    subject = find_subject(folder)
    assert (subject.scale, subject.scan, subject.views) == (None, None, None)
    edit_json(folder / "params.json", **{f"view_{view}_distortion": None for view in range(5)})
    found = reconstruct(subject, tmp_path / "out", displacement=False)
    assert recorded(tmp_path / "out") == [*STAGES[:6], "meshes"]
    assert found.errors == {}
    scales = json.loads((tmp_path / "out" / "stages" / "Rt_scale_dict.json").read_text())
    assert scales["1"]["1"][0] == pytest.approx(
        find_subject(tiny_raw() / "imgs" / SUBJECT).scale, rel=0.05
    )
    sizes = [
        np.ptp(trimesh.load(each.meshes["base"], process=False).vertices, axis=0)
        for each in (found, whole)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.06)


def test_a_view_that_disagrees_is_named(reconstruct, tmp_path):
    """By its landmarks, and by its photo's brightness."""
    folder = own_capture(tmp_path / "capture")
    photo = read_image(folder / "3.jpg")
    write_image(folder / "3.jpg", (2.5 * photo.astype(float)).clip(0, 255).astype(np.uint8))
    params = json.loads((folder / "params.json").read_text())
    pose = np.array(params["1_Rt"])
    pose[0, 3] += 8 / find_subject(tiny_raw() / "imgs" / SUBJECT).scale
    edit_json(folder / "params.json", **{"1_Rt": pose.tolist()})
    found = reconstruct(find_subject(folder), tmp_path / "out", displacement=False)
    warnings = found.warnings(1.5)
    assert any("View 1 disagrees: its landmarks' rays" in text for text in warnings)
    assert any("View 3 disagrees: its photo is" in text for text in warnings)
    assert not any(f"View {view}" in text for view in (0, 4) for text in warnings)


def test_runs_of_other_methods_are_refused(runs, model):
    implicit, _, displacement = map(str, runs)
    with pytest.raises(ValueError, match=r"^ckpt=.* is of DisplacementModule; give a run of uv_r"):
        MultiviewChain.load(displacement, None, model, ChainOptions())
    with pytest.raises(ValueError, match=r"^displacement=.* is of UVImplicitModule; give a run of"):
        MultiviewChain.load(implicit, implicit, model, ChainOptions())
    with pytest.raises(FileNotFoundError, match=r"^ckpt: .*python train\.py method=uv_regularize"):
        MultiviewChain.load("nothing", None, model, ChainOptions())


def test_the_implicit_function_alone(runs, model, bare, tmp_path):
    chain = MultiviewChain.load(
        str(runs[0]), None, model, ChainOptions(texture_size=64, device="cpu")
    )
    found = SubjectRun(chain, bare, tmp_path, lambda *said: None).run()
    assert list(found.meshes) == ["base", "implicit"]
