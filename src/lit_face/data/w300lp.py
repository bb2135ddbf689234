"""300W-LP: 61,225 photographs and synthetic side views with a fitted BFM (Zhu et al. 2016)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.fit_parameters import (
    FIT_DTYPE,
    IMAGE_SIZE,
    MINIATURE_MARKER,
    check_points,
    fit_record,
    pose_cameras,
    read_fit,
)
from lit_face.data.fitted import FittedFaces, check_model_fits, checked_items, find_model
from lit_face.data.index import Record, Verify, check_image, packed_index, scan_files
from lit_face.data.landmarks import MIRROR_68
from lit_face.morphable_models.base import MorphableModel

log = logging.getLogger(__name__)

# Samples of each subset without mirrored copies.
SUBSETS = {"AFW": 5207, "HELEN": 37676, "IBUG": 1786, "LFPW": 16556}
_DTYPE = np.dtype([*FIT_DTYPE, ("points", "<f4", (68, 2))])
_WHERE = (
    "Get 300W-LP.zip from the 3DDFA project page or the mirror in 3DDFA_V2's README, unpack it, "
    "and set data.root to the folder that holds AFW, HELEN, IBUG and LFPW"
)


class W300LPDataset(FittedFaces):
    """300W-LP as it is on disk; see `FittedFaces` for what a sample holds.

    Views and mirrored copies of one photograph always fall in the same split, chosen by a hash of
    the photograph's name; at least one photograph is held out.

    Args:
        root: folder with AFW, HELEN, IBUG and LFPW.
        split: 'train', 'val' or 'all'.
        morphable_model: the BFM whose coefficients the annotations are; searched beside the data
            when None.
        pixel_origin: see `lit_face.data.fit_parameters.pose_cameras`.
        include_flips: read the mirrored copies too. Off: a mirror in the transform does the same,
            and the copies' fits mirror only approximately.
        val_fraction: fraction of photographs held out.
        max_rejected: accepted fraction of broken records.
        verify: 'sample' decodes some images while the index is built, 'full' all of them.
        cache_folder: where the index goes.
        subsets: to read only some of the four; None reads all (or what a miniature has).

    Raises:
        DatasetNotFoundError: the folder or a subset is missing; or there is no BFM.
        ValueError: too many broken records, or a model that does not fit the annotations.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "all"] = "train",
        morphable_model: MorphableModel | None = None,
        pixel_origin: str = "zero_based",
        include_flips: bool = False,
        val_fraction: float = 0.02,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
        subsets: Sequence[str] | None = None,
    ) -> None:
        if split not in ("train", "val", "all"):
            raise ValueError(f"split should be 'train', 'val' or 'all', found {split!r}.")
        root = Path(root).expanduser()
        marker = root / MINIATURE_MARKER
        is_miniature = marker.exists()
        if subsets is None:
            known = json.loads(marker.read_text(encoding="utf-8")) if is_miniature else {}
            subsets = known.get("subsets", list(SUBSETS))
        folders = _check_layout(root, subsets, include_flips)
        files = scan_files(root, folders, (".jpg", ".mat"))
        names = sorted({name[: -len(".jpg")] for name in files})
        if not is_miniature:
            _check_counts(root, names)
        if morphable_model is None:
            morphable_model = find_model("300W-LP", root)

        def read(name: str, decode: bool) -> Record:
            return _read_record(root, name, decode)

        index = packed_index(
            "300W-LP", root, names, files, _DTYPE, read,
            max_rejected=max_rejected, verify=verify, cache_folder=cache_folder,
        )  # fmt: skip
        wanted = np.ones(len(index), dtype=bool)
        if split != "all":
            held_out = held_out_photographs(index.names(), val_fraction)
            is_val = [photograph(name) in held_out for name in index.names()]
            wanted = np.array(is_val) == (split == "val")
        super().__init__(root, index, np.flatnonzero(wanted), morphable_model, pixel_origin)
        self.split = split
        self._check_model(morphable_model)

    def _check_model(self, model: MorphableModel) -> None:
        # Synthetic views store the points of their photograph, unturned: only those compare.
        originals = [i for i, name in enumerate(self.sample_ids) if name.endswith("_0")]
        items = [originals[i] for i in checked_items(len(originals))]
        if not items:
            return
        points = self.index.rows["points"][self.row_of_sample[items]]
        camera = pose_cameras(self.pose[items], "matlab")
        values = self.coefficients(items)
        check_model_fits("300W-LP", model, values, camera, torch.from_numpy(points))


def photograph(name: str) -> str:
    """Return the photograph a sample comes from: its name without folder and view number."""
    return name.rpartition("/")[2].rpartition("_")[0]


def held_out_photographs(names: Sequence[str], fraction: float) -> set[str]:
    """Choose the photographs of the validation split by hash; never none and never all of them.

    Raises:
        ValueError: fewer than two photographs, or a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"val_fraction should lie between 0 and 1, found {fraction}.")
    place = {
        name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
        for name in {photograph(name) for name in names}
    }
    if len(place) < 2:
        raise ValueError(f"300W-LP: {len(place)} photographs cannot be split in two.")
    chosen = {name for name, value in place.items() if value < fraction}
    ordered = sorted(place, key=lambda name: place[name])
    return chosen - {ordered[-1]} or {ordered[0]}


def _check_layout(root: Path, subsets: Sequence[str], include_flips: bool) -> list[str]:
    expected = ", ".join(SUBSETS)
    if not subsets or not set(subsets) <= set(SUBSETS):
        raise ValueError(f"300W-LP has the subsets {expected}; found {', '.join(subsets)}.")
    if not root.is_dir():
        raise DatasetNotFoundError(f"300W-LP not found: no folder {root}. {_WHERE}.")
    inside = [p for p in (root / "300W_LP", root / "300W-LP") if (p / subsets[0]).is_dir()]
    suffixes = ("", "_Flip") if include_flips else ("",)
    folders = [f"{name}{suffix}" for name in subsets for suffix in suffixes]
    for folder in folders:
        if not (root / folder).is_dir():
            found = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "none"
            hint = f"Did you mean {inside[0]}?" if inside else f"{_WHERE}."
            raise DatasetNotFoundError(
                f"300W-LP at {root}: no folder '{folder}' (expected {expected}; folders found: "
                f"{found}). {hint}"
            )
        if not any((root / folder).glob("*.mat")):
            raise DatasetNotFoundError(
                f"300W-LP at {root}: '{folder}' holds no <name>_<view>.mat files. {_WHERE}."
            )
    return folders


def _check_counts(root: Path, names: Sequence[str]) -> None:
    for folder in sorted({name.partition("/")[0] for name in names}):
        found = sum(name.startswith(f"{folder}/") for name in names)
        expected = SUBSETS[folder.removesuffix("_Flip")]
        if found != expected:
            log.warning(
                "300W-LP at %s: %d samples in %s, a complete copy has %d",
                root, found, folder, expected,
            )  # fmt: skip


def _read_record(root: Path, name: str, decode: bool) -> dict[str, NDArray[Any]]:
    arrays = read_fit(root / f"{name}.mat", {"pt2d": (2, 68)})
    angles = arrays["Pose_Para"][:3]
    if np.abs(angles).max() >= np.pi:
        raise ValueError(f"angles in Pose_Para should be within pi radians, found {angles}")
    points = arrays["pt2d"].T
    if name.partition("/")[0].endswith("_Flip"):
        # The mirrored files mirror x and leave the order: their point 0 is the other side's.
        points = points[MIRROR_68.numpy()]
    check_points(points, "pt2d")
    check_image(root / f"{name}.jpg", decode, (IMAGE_SIZE, IMAGE_SIZE))
    return {**fit_record(arrays), "points": points}
