import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from lit_face.benchmarks import FaceScapeBenchmark
from lit_face.data.errors import DatasetNotFoundError
from tests.helpers.facescape import tiny_processed


class _Known(nn.Module):
    """Knows the truth but for an offset, mm."""

    def __init__(self, offsets, broken=False):
        super().__init__()
        self.offsets, self.broken = offsets, broken

    def surfaces(self, batch):
        true = batch.scan["displacement"]
        found = {name: true + offset for name, offset in self.offsets.items()}
        if self.broken:
            found[list(found)[-1]] = torch.full_like(true, torch.nan)
        return found


@pytest.fixture(scope="module")
def benchmark():
    return FaceScapeBenchmark(miniature="tiny", points=4000)


@pytest.fixture
def quick(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "examples", 0)
    monkeypatch.setattr(benchmark, "icp", False)
    return benchmark


def test_the_truth_has_nearly_no_error_and_an_offset_its_own(benchmark):
    result = benchmark.run(_Known({"implicit": 0.8, "regularized": 0.0}))
    found = result.metrics
    assert result.headline == "facescape/regularized/distance_mm"
    for stage in ("base", "implicit", "regularized"):
        for key in (
            "distance_mm", "accuracy_mm", "completeness_mm", "median_mm", "p90_mm", "below_0.5mm",
            "below_1mm", "below_2mm", "normal_deg", "displacement_error_mm", "excluded",
            "icp_distance_mm",
        ):  # fmt: skip
            assert np.isfinite(found[f"facescape/{stage}/{key}"]), (stage, key)
    assert found["facescape/regularized/displacement_error_mm"] == pytest.approx(0, abs=1e-5)
    assert found["facescape/implicit/displacement_error_mm"] == pytest.approx(0.8, abs=1e-4)
    # Texels of the miniature are 5 mm wide: a mesh cuts corners even where its vertices are true.
    assert found["facescape/regularized/accuracy_mm"] < 0.1
    assert 0.4 < found["facescape/implicit/accuracy_mm"] < 0.85
    assert (
        found["facescape/regularized/distance_mm"]
        < found["facescape/implicit/distance_mm"]
        < found["facescape/base/distance_mm"]
    )
    assert found["facescape/samples"] == len(result.samples) == 1
    assert found["facescape/failures"] == 0
    assert result.tables[0].columns == ["error", "base", "implicit", "regularized"]
    assert all(picture.dtype == np.uint8 for picture in result.pictures.values())
    assert result.pictures


def test_a_stage_that_is_not_finite_counts_with_the_base_mesh(quick):
    result = quick.run(_Known({"implicit": 0.0, "regularized": 0.0}, broken=True))
    found = result.metrics
    assert found["facescape/failures"] == 1
    base, broken = (found[f"facescape/{stage}/distance_mm"] for stage in ("base", "regularized"))
    assert broken == base
    assert result.samples[0]["failed"] == "regularized"
    assert "1 failures" in result.notes[0]


def test_relief_is_a_stage_of_its_own(quick, monkeypatch):
    class Raised:
        def detailed_mesh(self, batch, displacement):
            _, scan = quick._truth(batch)
            return [(scan.vertices, scan.faces)]

    monkeypatch.setattr(quick, "displacement", Raised())
    result = quick.run(_Known({"implicit": 0.5}))
    assert result.headline == "facescape/displacement/distance_mm"
    assert result.metrics[result.headline] == pytest.approx(0, abs=1e-9)
    assert result.metrics["facescape/displacement/normal_deg"] == pytest.approx(0, abs=1e-4)
    assert "facescape/displacement/displacement_error_mm" not in result.metrics


def test_what_cannot_be_compared_is_refused(benchmark, tmp_path):
    with pytest.raises(ValueError, match="Linear has none"):
        benchmark.run(nn.Linear(1, 1))
    method = _Known({"implicit": 0.0})
    method.surfaces = lambda batch: {"implicit": torch.zeros(1, 1, 4, 4)}
    with pytest.raises(ValueError, match="stage 'implicit' should have"):
        benchmark.run(method)
    with pytest.raises(ValueError, match="views"):
        FaceScapeBenchmark(miniature="tiny", views=40)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_processed().root, copy)
    shutil.rmtree(copy / "scans")
    with pytest.raises(DatasetNotFoundError, match=r"scan_331_01.ply: the benchmark compares"):
        FaceScapeBenchmark(root=str(copy))


def test_fewer_views_and_views_that_disagree(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_processed().root, copy)
    report = copy / "fit_mesh" / "fit_mesh_331_01.json"
    content = json.loads(report.read_text())
    view = next(iter(content["view_residual_mm"]))
    content["disagreeing"] = [int(view)]
    report.write_text(json.dumps(content))
    seen = []

    class Method(_Known):
        def surfaces(self, batch):
            seen.append(batch.image.shape[1])
            return super().surfaces(batch)

    benchmark = FaceScapeBenchmark(root=str(copy), views=3, icp=False, examples=0, points=500)
    result = benchmark.run(Method({"implicit": 0.0}))
    assert seen == [3]
    assert "icp_distance_mm" not in " ".join(result.metrics)
    assert any(f"331_01: view {view} disagrees" in note for note in result.notes)
    assert "built-in miniature" not in result.name
