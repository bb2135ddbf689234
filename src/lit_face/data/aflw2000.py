"""AFLW2000-3D: 2,000 photographs with 68 fitted 3D points, for evaluation (Zhu et al. 2016)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fit_parameters import (
    FIT_DTYPE,
    IMAGE_SIZE,
    MINIATURE_MARKER,
    check_points,
    fit_record,
    from_matlab_pixels,
    pose_cameras,
    read_fit,
)
from lit_face.data.fitted import FittedFaces, check_model_fits, checked_items
from lit_face.data.index import Record, Verify, check_image, packed_index, scan_files
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger(__name__)

COMPLETE = 2000
# Images in the yaw bins [0, 30], (30, 60], (60, ...) of a complete copy.
YAW_BINS = {"fitted": (1312, 383, 305), "aflw": (1306, 462, 232)}
# Files of 3DDFA's test.configs, in the order of the sorted image names: shape after the first axis.
EXTRA_FILES: dict[str, tuple[str, tuple[int, ...]]] = {
    "landmarks": ("AFLW2000-3D.pts68.npy", (3, 68)),
    "reannotated": ("AFLW2000-3D-Reannotated.pts68.npy", (2, 68)),
    "points21": ("AFLW2000-3D.pts21.npy", (2, 21)),
    "yaw_fitted": ("AFLW2000-3D.pose.npy", ()),
    "yaw_aflw": ("AFLW2000-3D-new.pose.npy", ()),
    "crop_box": ("AFLW2000-3D_crop.roi_box.npy", (4,)),
}
_DTYPE = np.dtype([*FIT_DTYPE, ("points", "<f4", (68, 3)), ("points21", "<f4", (21, 2))])
_WHERE = (
    "Get AFLW2000-3D.zip from the 3DDFA project page, unpack it, and set benchmark.root "
    "(data.root in training) to the folder that holds image00002.jpg and image00002.mat"
)


class AFLW2000Dataset(FittedFaces):
    """AFLW2000-3D in the order of its sorted file names; see `FittedFaces` for what a sample holds.

    Samples always have `landmarks` (the dataset's `pt3d_68`); `coefficients` only with a model.
    Angles out of range are kept as stored (seven |yaw| > 90, one of -351).

    Args:
        root: folder with the jpg and mat files; the npy files of 3DDFA's test.configs lie there or
            in `configs`.
        morphable_model: the BFM of the annotations; None where no dense truth is needed.
        pixel_origin: see `lit_face.data.fit_parameters.pose_cameras`.
        max_rejected: accepted fraction of broken records.
        verify: 'sample' decodes some images while the index is built, 'full' all of them.
        cache_folder: where the index goes.
        configs: folder of the npy files.
        allow_partial: accept another number of images than 2,000; its numbers are comparable with
            nothing.

    Attributes:
        points21: (N,21,2) AFLW's own points in the chosen pixel origin, NaN where not labelled.
        reannotated: (N,68,2) LS3D-W's points, moved like `landmarks` as the published protocol
            compares both in one frame, or None without the file. (On average they lie one pixel up
            and left of `landmarks`, as if they counted from 0.)
        crop_box: (N,4) 3DDFA's 1-based left, top, right, bottom, or None without the file.
    """

    def __init__(
        self,
        root: str | Path,
        morphable_model: MorphableModel | None = None,
        pixel_origin: str = "zero_based",
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
        configs: str | Path | None = None,
        allow_partial: bool = False,
    ) -> None:
        root = Path(root).expanduser()
        files = _check_layout(root)
        names = sorted({name[: -len(".jpg")] for name in files})
        miniature = (root / MINIATURE_MARKER).exists()
        self.is_complete = len(names) == COMPLETE
        if not (self.is_complete or miniature or allow_partial):
            raise DatasetNotFoundError(
                f"AFLW2000-3D at {root}: {len(names)} images, a complete copy has {COMPLETE}. "
                f"{_WHERE}, or set benchmark.allow_partial=true (data.allow_partial)."
            )

        def read(name: str, decode: bool) -> Record:
            return _read_record(root, name, decode)

        index = packed_index(
            "AFLW2000-3D", root, names, files, _DTYPE, read,
            max_rejected=max_rejected, verify=verify, cache_folder=cache_folder,
        )  # fmt: skip
        points = index.rows["points"]
        super().__init__(
            root, index, np.arange(len(index)), morphable_model, pixel_origin,
            from_matlab_pixels(points, pixel_origin),
        )  # fmt: skip
        points21 = np.array(index.rows["points21"])
        hidden = points21[..., 0] == -1  # the other number is -1 or, flipped, height + 2
        points21 = from_matlab_pixels(points21, pixel_origin)
        points21[hidden] = np.nan
        self.points21 = torch.from_numpy(points21)
        folder = Path(configs) if configs is not None else root
        self._extras = _read_extras(folder, len(names), index.rows["position"])
        _check_same_points(self._extras.get("landmarks"), points, folder)
        reannotated = self._extras.get("reannotated")
        self.reannotated = self.crop_box = None
        if reannotated is not None:
            moved = from_matlab_pixels(reannotated.transpose(0, 2, 1), pixel_origin)
            self.reannotated = torch.from_numpy(moved)
        if "crop_box" in self._extras:
            self.crop_box = torch.from_numpy(self._extras["crop_box"])
        if self.is_complete and not miniature and not index.rejected:
            self._check_bins()
        if morphable_model is not None:
            self._check_model(morphable_model, points)

    @property
    def pose_degrees(self) -> Tensor:
        """Pitch, yaw, roll (N,3) of the fits, degrees, as stored."""
        return torch.rad2deg(self.pose[:, :3])

    @property
    def yaw_lists(self) -> tuple[str, ...]:
        """Names of the yaw lists that are there."""
        return ("fitted", "aflw") if "yaw_aflw" in self._extras else ("fitted",)

    def yaw(self, name: str = "fitted") -> Tensor:
        """Return yaw (N,) in degrees.

        Args:
            name: 'fitted' (3DDFA's current list, equal to the fits' `Pose_Para`) or 'aflw' (from
                AFLW's labels, "same as paper").

        Raises:
            FileNotFoundError: the list 'aflw' without its file.
            ValueError: unknown name.
        """
        if name == "fitted":
            stored = self._extras.get("yaw_fitted")
            return self.pose_degrees[:, 1] if stored is None else torch.from_numpy(stored)
        if name != "aflw":
            raise ValueError(f"yaw list should be 'fitted' or 'aflw', found {name!r}.")
        if "yaw_aflw" not in self._extras:
            raise FileNotFoundError(
                f"The yaw list 'aflw' needs {EXTRA_FILES['yaw_aflw'][0]} from test.configs of the "
                f"3DDFA repository, in {self.root} or in `configs`."
            )
        return torch.from_numpy(self._extras["yaw_aflw"])

    def _check_bins(self) -> None:
        for name in self.yaw_lists:
            found = yaw_bins(self.yaw(name))
            if found != YAW_BINS[name]:
                raise ValueError(
                    f"AFLW2000-3D at {self.root}: yaw list '{name}' has {found} images in "
                    f"[0,30], (30,60], (60,...); a true copy has {YAW_BINS['fitted']} (fitted) or "
                    f"{YAW_BINS['aflw']} (aflw). The list or the images are not the original ones."
                )

    def _check_model(self, model: MorphableModel, points: NDArray[np.float32]) -> None:
        items = checked_items(len(self))
        values, camera = self.coefficients(items), pose_cameras(self.pose[items], "matlab")
        wanted = torch.from_numpy(points[items][..., :2].copy())
        check_model_fits("AFLW2000-3D", model, values, camera, wanted)


def yaw_bins(yaw_degrees: Tensor) -> tuple[int, int, int]:
    """Count images with |yaw| in [0, 30], (30, 60] and above 60 degrees."""
    size = yaw_degrees.abs()
    near, middle = int((size <= 30).sum()), int(((size > 30) & (size <= 60)).sum())
    return near, middle, len(size) - near - middle


def _check_layout(root: Path) -> dict[str, tuple[int, int]]:
    if not root.is_dir():
        raise DatasetNotFoundError(f"AFLW2000-3D not found: no folder {root}. {_WHERE}.")
    files = dict(scan_files(root, ["."], (".jpg", ".mat")))
    files = {name: stat for name, stat in files.items() if name.startswith("image")}
    if not any(name.endswith(".mat") for name in files):
        inside = root / "AFLW2000"
        hint = f"Did you mean {inside}?" if inside.is_dir() else f"{_WHERE}."
        raise DatasetNotFoundError(
            f"AFLW2000-3D at {root}: no file image<number>.mat ({len(files)} images found). {hint}"
        )
    return files


def _read_record(root: Path, name: str, decode: bool) -> dict[str, NDArray[Any]]:
    arrays = read_fit(root / f"{name}.mat", {"pt2d": (2, 21), "pt3d_68": (3, 68)})
    points = arrays["pt3d_68"].T
    check_points(points[:, :2], "pt3d_68")
    check_image(root / f"{name}.jpg", decode, (IMAGE_SIZE, IMAGE_SIZE))
    return {**fit_record(arrays), "points": points, "points21": arrays["pt2d"].T}


def _read_extras(
    folder: Path, count: int, positions: NDArray[np.int32]
) -> dict[str, NDArray[np.float32]]:
    """Read the npy files that are there and keep the rows of the samples that are used."""
    found = {}
    for key, (name, tail) in EXTRA_FILES.items():
        path = folder / name
        if not path.is_file():
            continue
        array = np.load(path, allow_pickle=False)
        if array.shape != (count, *tail):
            if array.shape == (COMPLETE, *tail):
                log.warning("%s is for all %d images, %d are here: not used", path, COMPLETE, count)
                continue
            raise ValueError(f"{path} should be {(count, *tail)}, found {array.shape}.")
        found[key] = array[positions].astype(np.float32)
    return found


def _check_same_points(
    listed: NDArray[np.float32] | None, stored: NDArray[np.float32], folder: Path
) -> None:
    """The list of points equals the stored ones; otherwise every list is in another order."""
    if listed is None:
        return
    error = np.abs(listed.transpose(0, 2, 1)[..., :2] - stored[..., :2]).max(axis=(1, 2))
    if error.max() > 0.01:
        raise ValueError(
            f"{folder / EXTRA_FILES['landmarks'][0]}: {int((error > 0.01).sum())} of {len(error)} "
            "rows differ from pt3d_68 of the images in sorted order; the npy files belong to other "
            "images."
        )
