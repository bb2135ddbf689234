import numpy as np
import pytest

from lit_face.io.obj import read_obj, read_obj_topology

SEAM = """v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0.1 0.1
vt 0.9 0.1
vt 0.9 0.9
vt 0.2 0.2
vt 0.1 0.9
f 1/1 2/2 3/3
f 1/4 3/3 4/5
"""


def test_seams_stay_seams(tmp_path):
    path = tmp_path / "template.obj"
    path.write_text(SEAM)
    found = read_obj_topology(path)
    assert found.vertices.shape == (4, 3)
    np.testing.assert_array_equal(found.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(found.faces_uv, [[0, 1, 2], [3, 2, 4]])
    np.testing.assert_allclose(found.uv[3], [0.2, 0.2])
    assert len(read_obj(path).vertices) == 5  # where every vertex has one coordinate


def test_corners_without_coordinates_and_broken_lines(tmp_path):
    path = tmp_path / "plain.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert (read_obj_topology(path).faces_uv == -1).all()
    path.write_text("v 0 0 0\nv 1 0 zero\n")
    with pytest.raises(ValueError, match=r"plain.obj, line 2"):
        read_obj_topology(path)
