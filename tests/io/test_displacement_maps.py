import cv2
import numpy as np
import pytest

from lit_face.io.displacement_maps import (
    RANGE_MM,
    core_box,
    decode_displacement,
    encode_displacement,
    facial_window,
    on_canvas,
    read_displacement_map,
    write_displacement_map,
)


def test_levels():
    assert list(encode_displacement(np.array([0, RANGE_MM, -RANGE_MM, 9, -9]))) == [
        32768, 65535, 0, 65535, 0,
    ]  # fmt: skip
    levels = np.arange(0, 65536, 7).astype(np.uint16)
    np.testing.assert_array_equal(encode_displacement(decode_displacement(levels)), levels)
    assert decode_displacement(np.array([49152], np.uint16))[0] == pytest.approx(RANGE_MM / 2)


def test_files_keep_every_level(tmp_path):
    levels = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    write_displacement_map(tmp_path / "map.png", levels)
    found = read_displacement_map(tmp_path / "map.png", 64)
    np.testing.assert_array_equal(encode_displacement(found), levels)


def test_boxes():
    assert facial_window() == (slice(600, 2500), slice(1100, 3000))
    assert core_box() == (slice(576, 2624), slice(1024, 3072))
    assert core_box(512) == (slice(72, 328), slice(128, 384))
    with pytest.raises(ValueError, match="multiple of 1024"):
        facial_window(512)
    with pytest.raises(ValueError, match=r"\(1900, 1900\)"):
        on_canvas(np.zeros((1024, 1024), np.uint16))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((64, 64), np.uint8), "16 bits, found 8"),
        (np.zeros((64, 64, 3), np.uint16), "one channel, found 3"),
        (np.zeros((64, 48), np.uint16), r"found \(64, 48\)"),
        (np.zeros((32, 32), np.uint16), r"expected \(64, 64\)"),
    ],
)
def test_other_pictures_are_refused(tmp_path, array, message):
    cv2.imwrite(str(tmp_path / "map.png"), array)
    with pytest.raises(ValueError, match=message):
        read_displacement_map(tmp_path / "map.png", 64)


def test_broken_and_absent_files(tmp_path):
    (tmp_path / "map.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"map\.png: not a picture"):
        read_displacement_map(tmp_path / "map.png")
    with pytest.raises(FileNotFoundError, match=r"other\.png"):
        read_displacement_map(tmp_path / "other.png")
    with pytest.raises(ValueError, match="uint16"):
        write_displacement_map(tmp_path / "map.png", np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="no other suffix"):
        write_displacement_map(tmp_path / "map.jpg", np.zeros((4, 4), np.uint16))
