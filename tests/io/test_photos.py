"""Known colours through every kind of picture file."""

import cv2
import numpy as np
import pytest
from PIL import Image

from lit_face.io.photos import as_photo, is_photo, read_photo

RED, GREEN, BLUE, WHITE = (200, 30, 40), (30, 180, 60), (40, 50, 220), (255, 255, 255)
HEIGHT, WIDTH = 32, 48
LOSSY = 12  # levels that a JPEG or WebP of flat colours may be off


def quarters():
    """A picture whose quarters are red, green (top right), blue and white."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2], picture[: HEIGHT // 2, WIDTH // 2 :] = RED, GREEN
    picture[HEIGHT // 2 :, : WIDTH // 2], picture[HEIGHT // 2 :, WIDTH // 2 :] = BLUE, WHITE
    return picture


def corners(picture):
    """The colours of the middle of each quarter."""
    rows, columns = (int(picture.shape[0] * s) for s in (0.25, 0.75)), (0.25, 0.75)
    rows = list(rows)
    columns = [int(picture.shape[1] * s) for s in columns]
    return [tuple(int(v) for v in picture[r, c]) for r in rows for c in columns]


def assert_quarters(picture, tolerance=0, expected=(RED, GREEN, BLUE, WHITE)):
    assert picture.dtype == np.uint8
    assert np.abs(np.array(corners(picture)) - np.array(expected)).max() <= tolerance


@pytest.mark.parametrize(
    "name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.TIFF", "a.jpg", "a.JPEG", "a.webp"]
)
def test_formats_in_any_letter_case(tmp_path, name):
    assert is_photo(tmp_path / name)
    Image.fromarray(quarters()).save(tmp_path / name, quality=95)
    lossy = name.lower().endswith(("jpg", "jpeg", "webp"))
    picture = read_photo(tmp_path / name)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert_quarters(picture, LOSSY if lossy else 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled(tmp_path, suffix):
    wide = quarters().astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"a{suffix}"), wide[:, :, ::-1])
    assert_quarters(read_photo(tmp_path / f"a{suffix}"))
    grey = np.full((8, 8), 77 * 257 + 100, np.uint16)
    cv2.imwrite(str(tmp_path / f"g{suffix}"), grey)
    assert (read_photo(tmp_path / f"g{suffix}") == 77).all()
    clear = np.dstack([wide[:, :, ::-1], np.full((HEIGHT, WIDTH), 65535, np.uint16)])
    clear[: HEIGHT // 2, : WIDTH // 2, 3] = 0
    cv2.imwrite(str(tmp_path / f"c{suffix}"), clear)
    assert_quarters(read_photo(tmp_path / f"c{suffix}"), 0, (WHITE, GREEN, BLUE, WHITE))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey(tmp_path, mode):
    picture = Image.new("L", (10, 6), 255)
    picture.paste(0, (0, 0, 5, 6))
    picture.convert(mode).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.shape == (6, 10, 3)
    assert (found[:, :5] == 0).all()
    assert (found[:, 5:] == 255).all()


def test_transparency_lies_on_white(tmp_path):
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[: HEIGHT // 2, : WIDTH // 2] = 0
    alpha[: HEIGHT // 2, WIDTH // 2 :] = 128
    picture = Image.fromarray(np.dstack([quarters(), alpha]))
    half = tuple(round((v * 128 + 255 * 127) / 255) for v in GREEN)
    for name in ("a.png", "a.tif"):
        picture.save(tmp_path / name)
        assert_quarters(read_photo(tmp_path / name), 1, (WHITE, half, BLUE, WHITE))
    picture.save(tmp_path / "a.webp", lossless=True)
    assert_quarters(read_photo(tmp_path / "a.webp"), 1, (WHITE, half, BLUE, WHITE))


def test_palettes_with_and_without_transparency(tmp_path):
    picture = Image.fromarray(quarters()).quantize(8)
    picture.save(tmp_path / "a.png")
    assert_quarters(read_photo(tmp_path / "a.png"))
    red = picture.getpixel((1, 1))
    picture.save(tmp_path / "b.png", transparency=red)
    assert_quarters(read_photo(tmp_path / "b.png"), 0, (WHITE, GREEN, BLUE, WHITE))


def test_cmyk_jpegs(tmp_path):
    inks = [(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]
    picture = Image.new("CMYK", (WIDTH, HEIGHT))
    places = [(0, 0), (WIDTH // 2, 0), (0, HEIGHT // 2), (WIDTH // 2, HEIGHT // 2)]
    for ink, (x, y) in zip(inks, places, strict=True):
        picture.paste(ink, (x, y, x + WIDTH // 2, y + HEIGHT // 2))
    picture.save(tmp_path / "a.jpg", quality=100)
    cyan, magenta, yellow, black = (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)
    assert_quarters(read_photo(tmp_path / "a.jpg"), LOSSY, (cyan, magenta, yellow, black))
    picture.save(tmp_path / "a.tif")
    assert_quarters(read_photo(tmp_path / "a.tif"), LOSSY, (cyan, magenta, yellow, black))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(tmp_path, suffix, orientation):
    upright = quarters()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),  # turned back clockwise
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95}
    image = Image.fromarray(np.ascontiguousarray(stored))
    for mode in ("RGB", "CMYK") if suffix in (".jpg", ".tif") else ("RGB", "RGBA"):
        image.convert(mode).save(file, exif=exif, **options)
        picture = read_photo(file)
        assert picture.shape == upright.shape
        assert_quarters(picture, LOSSY if suffix == ".jpg" else 0)


def test_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    picture = quarters()
    floats = picture / np.float32(255)
    for given in (
        picture,
        floats,
        torch.from_numpy(floats).permute(2, 0, 1),
        picture * np.uint16(257),
    ):
        assert np.array_equal(as_photo(given), picture)
    assert as_photo(np.zeros((4, 5), np.uint8)).shape == (4, 5, 3)
    with pytest.raises(ValueError, match="divide by 255"):
        as_photo(picture.astype(np.float32))
    with pytest.raises(ValueError, match=r"found \(2, 4, 5, 3\)"):
        as_photo(np.zeros((2, 4, 5, 3), np.uint8))


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_text("hello")
    (tmp_path / "b.png").write_bytes(b"")
    whole = cv2.imencode(".png", quarters())[1].tobytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(quarters()).save(tmp_path / "d.jpg")
    (tmp_path / "d.jpg").write_bytes((tmp_path / "d.jpg").read_bytes()[:-40])
    for name in ("a.jpg", "b.png", "c.png", "d.jpg"):
        with pytest.raises(ValueError, match=name):
            read_photo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="none"):
        read_photo(tmp_path / "none.jpg")
