"""mvfr's chamfer distance: shared/reference/mvfr/metric."""

import numpy as np
import pytest

from lit_face.metrics.scan_distance import Surface, chamfer, closest_points


@pytest.mark.parametrize("case", [11, 12])
def test_chamfer(reference, case):
    with np.load(reference / "mvfr" / "metric" / f"chamfer_s{case}.npz") as stored:
        golden = {key: stored[key] for key in stored.files}
    first = Surface.of(golden["verts_a"], golden["faces_a"])
    second = Surface.of(golden["verts_b"], golden["faces_b"])
    a_to_b = closest_points(first.vertices, second).distance
    np.testing.assert_allclose(a_to_b, golden["a_to_b"], atol=1e-12)
    b_to_a = closest_points(second.vertices, first).distance
    np.testing.assert_allclose(b_to_a, golden["b_to_a"], atol=1e-12)
    assert chamfer(first, second) == pytest.approx(float(golden["chamfer"]), abs=1e-12)
