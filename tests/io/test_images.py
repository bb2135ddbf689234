import os

import cv2
import numpy as np
import pytest
import scipy.io

from lit_face.io.images import (
    decode_image,
    read_image,
    write_exr,
    write_image,
    write_linear_png,
)
from lit_face.io.matlab import read_fields


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture whose corners tell red from blue and top from bottom, (40,60,3)."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, columns * 4, 255 - rows * 6], axis=2).astype(np.uint8)


def test_png_round_trip_is_exact_and_jpeg_close(tmp_path, picture):
    write_image(tmp_path / "a.png", picture)
    write_image(tmp_path / "deep" / "a.jpg", picture, quality=95)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    found = read_image(tmp_path / "deep" / "a.jpg").astype(int)
    assert np.abs(found - picture).max() < 12


def test_truncated_jpegs_are_refused_wherever_they_end(tmp_path, picture):
    write_image(tmp_path / "a.jpg", picture)
    data = (tmp_path / "a.jpg").read_bytes()
    for length in [0, 2, 30, len(data) // 2, len(data) - 1]:
        (tmp_path / "cut.jpg").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.jpg: (empty|truncated).*again"):
            read_image(tmp_path / "cut.jpg")


def test_a_thumbnails_end_marker_does_not_hide_a_truncation(tmp_path, picture):
    write_image(tmp_path / "a.jpg", picture)
    data = (tmp_path / "a.jpg").read_bytes()
    thumbnail = b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data
    with_thumbnail = data[:2] + thumbnail + data[2:]
    np.testing.assert_array_equal(
        decode_image(with_thumbnail + b"camera junk", "whole"), decode_image(data, "plain")
    )
    with pytest.raises(ValueError, match="cut: truncated"):
        decode_image(with_thumbnail[:-40], "cut")


def test_other_undecodable_files_are_named(tmp_path, picture):
    write_image(tmp_path / "a.png", picture)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "page.jpg").write_text("<html>quota exceeded</html>")
    for name in ("half.png", "page.jpg"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        read_image(tmp_path / "absent.jpg")


def test_exif_orientation_only_on_request(tmp_path, picture):
    write_image(tmp_path / "a.jpg", picture)
    data = (tmp_path / "a.jpg").read_bytes()
    # One EXIF entry: tag 0x0112 (orientation) = 6, turn a quarter clockwise.
    tiff = (
        b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
        + bytes(4)
    )
    exif = b"Exif\x00\x00" + tiff
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    stored = decode_image(turned, "a")
    np.testing.assert_array_equal(stored, decode_image(data, "a"))
    np.testing.assert_array_equal(decode_image(turned, "a", exif=True), np.rot90(stored, -1))


def test_write_refuses_what_would_be_written_wrong(tmp_path, picture):
    with pytest.raises(ValueError, match="uint8"):
        write_image(tmp_path / "a.png", picture / 255.0)
    with pytest.raises(ValueError, match=r"uint8 \(H,W,3\)"):
        write_image(tmp_path / "a.png", picture.transpose(2, 0, 1))
    with pytest.raises(ValueError, match="no encoder"):
        write_image(tmp_path / "a.face", picture)


@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7)])
def test_linear_pngs_keep_sixteen_bits(tmp_path, shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    values[0, 0], values[0, 1] = -0.5, 1.5  # beyond the range of the file
    write_linear_png(tmp_path / "a.png", values)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    found = stored if len(shape) == 2 else stored[..., ::-1]
    assert np.abs(found / 65535 - values.clip(0, 1)).max() < 0.51 / 65535


def test_exr_keeps_float32_and_its_channels(tmp_path):
    values = np.random.default_rng(1).normal(0, 10, (6, 8, 3)).astype(np.float32)
    values[0, 0], values[1, 1] = 1e-6, 1e6
    write_exr(tmp_path / "a.exr", values)
    assert os.environ["OPENCV_IO_ENABLE_OPENEXR"] == "1"
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    found = cv2.imread(str(tmp_path / "a.exr"), flags)[..., ::-1]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_an_opencv_without_exr_says_what_to_do(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise cv2.error("codec is disabled")

    monkeypatch.setattr("lit_face.io.images.cv2.imwrite", refuse)
    with pytest.raises(OSError, match=r"a\.exr.*OPENCV_IO_ENABLE_OPENEXR.*'light'"):
        write_exr(tmp_path / "a.exr", np.zeros((2, 2, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_mat_fields_come_back_cast_and_in_shape(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"Exp_Para": np.zeros((29, 1), np.uint8), "pt2d": np.ones((2, 68))})
    found = read_fields(path, {"Exp_Para": 29, "pt2d": (2, 68)}, np.float32)
    assert found["Exp_Para"].dtype == np.float32
    assert found["Exp_Para"].shape == (29,)
    assert found["pt2d"].shape == (2, 68)


def test_every_problem_of_a_mat_file_is_listed_at_once(tmp_path):
    path = tmp_path / "broken.mat"
    content = {"a": np.zeros(40), "b": np.array([1.0, np.nan]), "c": "text", "d": np.zeros((68, 2))}
    scipy.io.savemat(path, content)
    fields = {"a": 199, "b": 2, "c": 1, "d": (2, 68), "e": 3}
    with pytest.raises(ValueError, match=r"broken\.mat") as caught:
        read_fields(path, fields)
    text = str(caught.value)
    for part in ("'a' should be 199 values", "'b' has 1 NaN", "'c' should be numbers",
                 "'d' should be (2, 68), found (68, 2)", "no field 'e'"):  # fmt: skip
        assert part in text


def test_damaged_mat_files_are_value_errors_naming_the_file(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"a": np.arange(1000.0)})
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "cut.mat").write_bytes(data[:300])
    (tmp_path / "page.mat").write_text("<html>" * 100)
    for name in ("cut.mat", "page.mat"):
        with pytest.raises(ValueError, match=name):
            read_fields(tmp_path / name, {"a": 1000})
