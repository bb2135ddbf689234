"""Read and check one picture of the RGBA set: pixels, skin mask, landmarks, person, split."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lit_face.data.celeba_layout import LANDMARKS, SEGMENT, CelebALayout
from lit_face.data.ffhq_records import picture_size
from lit_face.data.index import Record
from lit_face.geometry.five_points import DEEP3D_SIZE
from lit_face.io.images import read_rgba

UNKNOWN = -1
DTYPE = np.dtype([("points", "<f4", (68, 2)), ("person", "<i8"), ("split", "i1")])
_RAW_BYTES = 68 * 2 * 4
_BOX = (-1.0, 2.0)  # landmarks lie in this multiple of the picture
_EYES, _MOUTH = slice(36, 48), slice(48, 68)
_NO_ALPHA = "no alpha: run the segmentation step (docs/data/celeba_skin.md)"


class RecordReader:
    """Reads and checks one picture's annotations."""

    def __init__(self, layout: CelebALayout) -> None:
        self.layout = layout

    def __call__(self, name: str, decode: bool) -> Record:
        """Return the record of a picture; ValueError or FileNotFoundError reject it."""
        layout, stem = self.layout, PurePosixPath(name).stem
        check_picture(layout.root / SEGMENT / name, decode)
        record = {
            "points": np.zeros((68, 2)),
            "person": _listed(layout.person, stem, "identity_CelebA.txt"),
            "split": _listed(layout.split, stem, "list_eval_partition.txt"),
        }
        if layout.has_landmarks:
            record["points"] = read_raw_landmarks(layout.root / LANDMARKS / f"{stem}.npy")
        return record


def check_picture(path: Path, decode: bool) -> None:
    """Check that a picture is a whole square with a skin mask.

    Args:
        path: of the PNG.
        decode: decode it and look at the mask too.

    Raises:
        FileNotFoundError, ValueError: what is wrong.
    """
    width, height = picture_size(path, decode=False, is_stored=True)
    if width != height:
        raise ValueError(f"{path.name} should be a square, found {width} x {height} pixels")
    try:
        with Image.open(path) as picture:
            mode = picture.mode
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path.name}: not a picture that can be read") from error
    if mode != "RGBA":
        raise ValueError(f"{path.name}: {_NO_ALPHA}; found the mode {mode}")
    if decode:
        check_alpha(read_rgba(path), path.name)


def check_alpha(pixels: NDArray[np.uint8], name: str) -> None:
    """Refuse pictures (H,W,4) without any skin, or with nothing else.

    Raises:
        ValueError: names the picture.
    """
    alpha = pixels[..., 3]
    if alpha.max() == 0:
        raise ValueError(f"{name}: alpha is 0 everywhere: no skin was found")
    if alpha.min() == 255:
        raise ValueError(f"{name}: alpha is 255 everywhere; {_NO_ALPHA}")


def read_raw_landmarks(file: Path) -> NDArray[np.float64]:
    """Read 68 points (68,2) in pixels of a picture of 224, y down.

    Args:
        file: 68 x 2 numbers int32 without a header, as the reference writes them under this
            suffix, or an array of NumPy's own format.

    Raises:
        FileNotFoundError, ValueError: what is wrong.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no landmarks {LANDMARKS}/{file.name}")
    data = file.read_bytes()
    if data.startswith(b"\x93NUMPY"):
        try:
            points = np.asarray(np.load(file, allow_pickle=False), np.float64)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{file.name}: not an array that can be read ({error})") from error
    elif len(data) == _RAW_BYTES:
        points = np.frombuffer(data, "<i4").reshape(68, 2).astype(np.float64)
    else:
        raise ValueError(
            f"landmarks {file.name}: expected {_RAW_BYTES} bytes (68 x 2 int32), found {len(data)}"
        )
    return checked_landmarks(points, file.name)


def checked_landmarks(points: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return 68 points (68,2) if they can be those of an upright face in 224 pixels.

    Raises:
        ValueError: what is wrong.
    """
    if points.shape != (68, 2):
        raise ValueError(f"landmarks {name} should be (68,2), found {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"landmarks {name} should be finite, found NaN or infinity")
    low, high = (bound * DEEP3D_SIZE for bound in _BOX)
    if np.ptp(points, axis=0).min() < 1 or points.min() < low or points.max() > high:
        raise ValueError(
            f"landmarks {name} should be a face in [{low:g}, {high:g}], found [{points.min():.4g}, "
            f"{points.max():.4g}]: pixels of a picture of {DEEP3D_SIZE} are expected"
        )
    if points[_EYES, 1].mean() > points[_MOUTH, 1].mean():
        raise ValueError(f"landmarks {name}: the eyes lie below the mouth; y should point down")
    return points


def resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring a square picture with mask (H,H,4) to a size; the mask becomes 0 or 255, in place."""
    side = pixels.shape[0]
    if side != size:
        how = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=how), np.uint8)
    np.multiply(pixels[..., 3] > 127, np.uint8(255), out=pixels[..., 3])
    return pixels


def scaled_points(points: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Move points (...,2) of 224 pixels to a picture of another size; pixel centres are whole."""
    return ((points + 0.5) * (size / DEEP3D_SIZE) - 0.5).astype(np.float32)


def _listed(listed: object, stem: str, file: str) -> int:
    if not isinstance(listed, dict):
        return UNKNOWN
    if stem not in listed:
        raise ValueError(f"{stem} is not in {file}")
    return int(listed[stem])
