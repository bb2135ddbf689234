"""The processed FaceScape folder of the multi-view methods: where everything is, and its cameras.

    select_dict.json  id.json  Rt_scale_dict.json  facial_mask.png  predefined/
    images/<id:03d>/<k:02d>/<view>.jpg, params.json, landmarks.json
    fit_mesh/fit_mesh_<ID>.obj  scans/scan_<ID>.ply            ID = "<id:03d>_<k:02d>"
    maps/{train,eval}/<kind>/<kind>_<ID>.npy  volume/{train,eval}/ori_volume_<ID>.npy

Every file is in the units of structure from motion; `scale` says how many mm one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_face.data.facescape_cameras import (
    ViewCameras,
    check_photo_size,
    read_cameras,
    read_json,
)

__all__ = ["FaceScapeFolder", "ViewCameras"]

Split = Literal["train", "eval"]
Part = Literal["train", "val"]
MapKind = Literal["pos_map", "norm_map", "mv_map", "valid_map", "visibility_map"]

SPLITS: tuple[Split, Split] = ("train", "eval")
SELECT_FILE, SPLIT_FILE, SCALE_FILE = "select_dict.json", "id.json", "Rt_scale_dict.json"
PARAMS_FILE, LANDMARKS_FILE = "params.json", "landmarks.json"
SCALE_RANGE = (1.0, 1e4)  # mm a unit


@dataclass(frozen=True)
class FaceScapeFolder:
    """A processed folder; a sample is one expression of one person, "073_15" say.

    Reading methods raise `DatasetNotFoundError` for a missing file and ValueError for what is in
    one; both name the file, the latter the key too.
    """

    root: Path

    def ids(self, split: Split | None = None) -> list[str]:
        """Return the samples of a split, or of both, in the file's order."""
        path = self.root / SPLIT_FILE
        content = read_json(path)
        found: list[str] = []
        for name in SPLITS if split is None else (split,):
            names = content.get(name)
            if not isinstance(names, list) or not all(_is_id(value) for value in names):
                raise ValueError(f"{path}: '{name}' should be a list of names as '073_15'.")
            found += names
        return found

    def training_ids(self, part: Part, val_fraction: float) -> list[str]:
        """Return the samples of the split 'train' to learn from, or those held out of it.

        Args:
            part: 'train' or 'val'.
            val_fraction: share of the split's people that are held out, the last ones, one at
                least: 'eval' is left to benchmarks.

        Raises:
            ValueError: fewer than two people, or a fraction that leaves none.
        """
        found = self.ids("train")
        people = list(dict.fromkeys(split_id(name)[0] for name in found))
        held_out = people[-max(1, round(val_fraction * len(people))) :]
        if len(held_out) >= len(people) or not 0 <= val_fraction < 1:
            raise ValueError(
                f"{self.root / SPLIT_FILE}: 'train' has {len(people)} people, of whom "
                f"data.val_fraction={val_fraction} would be held out for validation and some have "
                "to be left to train on."
            )
        return [name for name in found if (split_id(name)[0] in held_out) == (part == "val")]

    def split_of(self, sample: str) -> Split:
        """Return the split of a sample."""
        for split in SPLITS:
            if sample in self.ids(split):
                return split
        raise ValueError(f"{self.root / SPLIT_FILE} has no sample '{sample}'.")

    def views(self, sample: str) -> list[int]:
        """Return the chosen views of a sample in their order; methods take the first ones."""
        path = self.root / SELECT_FILE
        found = per_sample(read_json(path), sample, path)
        if not isinstance(found, list) or not all(isinstance(view, int) for view in found):
            raise ValueError(f"{path}: {sample} should be a list of view numbers, found {found}.")
        if len(found) < 2 or len(set(found)) < len(found):
            raise ValueError(f"{path}: {sample} needs two views or more, each once; found {found}.")
        return found

    def scale(self, sample: str) -> float:
        """Return the mm of one unit."""
        path = self.root / SCALE_FILE
        return checked_scale(per_sample(read_json(path), sample, path), sample, path)

    def cameras(self, sample: str, views: Sequence[int]) -> ViewCameras:
        """Read and check the cameras of some views of a sample."""
        path = self.params_file(sample)
        return read_cameras(read_json(path), views, path)

    def check_photos(self, sample: str) -> None:
        """Check that the chosen views' photos are there, with the size that params.json says."""
        views = self.views(sample)
        cameras = self.cameras(sample, views)
        for view, height, width in zip(views, cameras.heights, cameras.widths, strict=True):
            check_photo_size(self.image_file(sample, view), view, int(height), int(width))

    def image_file(self, sample: str, view: int) -> Path:
        """Return the undistorted photo of a view."""
        return self._images(sample) / f"{view}.jpg"

    def params_file(self, sample: str) -> Path:
        """Return the file of the cameras."""
        return self._images(sample) / PARAMS_FILE

    def landmarks_file(self, sample: str) -> Path:
        """Return the file of the 68 points of each view, undistorted pixels."""
        return self._images(sample) / LANDMARKS_FILE

    def base_mesh_file(self, sample: str) -> Path:
        """Return the fitted mesh."""
        return self.root / "fit_mesh" / f"fit_mesh_{sample}.obj"

    def scan_file(self, sample: str) -> Path:
        """Return the raw scan; not every folder has one."""
        return self.root / "scans" / f"scan_{sample}.ply"

    def map_file(self, kind: MapKind, sample: str) -> Path:
        """Return one of the UV maps."""
        return self.root / "maps" / self.split_of(sample) / kind / f"{kind}_{sample}.npy"

    def volume_file(self, sample: str) -> Path:
        """Return the cost volume (D,S,S)."""
        return self.root / "volume" / self.split_of(sample) / f"ori_volume_{sample}.npy"

    @property
    def predefined(self) -> Path:
        """The folder of the morphable model's files, where this folder brings its own."""
        return self.root / "predefined"

    @property
    def mask_file(self) -> Path:
        """The UV mask of the face, 512 pixels."""
        return self.root / "facial_mask.png"

    @property
    def template_file(self) -> Path:
        """The template with its UV coordinates."""
        return self.predefined / "1_neutral.obj"

    def _images(self, sample: str) -> Path:
        person, expression = split_id(sample)
        return self.root / "images" / f"{person:03d}" / f"{expression:02d}"


def sample_id(person: int, expression: int) -> str:
    """Return the name of a sample, "073_15"."""
    return f"{person:03d}_{expression:02d}"


def split_id(sample: str) -> tuple[int, int]:
    """Return person and expression of "073_15"."""
    if not _is_id(sample):
        raise ValueError(f"A sample is named as '073_15' (person, expression), found {sample!r}.")
    person, expression = sample.split("_")
    return int(person), int(expression)


def per_sample(content: Mapping[str, Any], sample: str, path: Path) -> Any:
    """Look a sample up in a dictionary of dictionaries with unpadded keys (select, scale)."""
    person, expression = split_id(sample)
    found = content.get(str(person), {})
    if not isinstance(found, Mapping) or str(expression) not in found:
        raise ValueError(f'{path}: no entry ["{person}"]["{expression}"] (sample {sample}).')
    return found[str(expression)]


def checked_scale(entry: Any, sample: str, path: Path) -> float:
    """Return the scale of an entry [scale, Rt] of Rt_scale_dict.json."""
    try:
        scale = float(entry[0])
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: {sample} should be [scale, Rt], found {entry!r}.") from error
    low, high = SCALE_RANGE
    if not low <= scale <= high:  # NaN too
        raise ValueError(
            f"{path}: the scale of {sample} should be {low:g} to {high:g} mm a unit, "
            f"found {scale:g}."
        )
    return scale


def _is_id(value: Any) -> bool:
    parts = value.split("_") if isinstance(value, str) else []
    return len(parts) == 2 and all(part.isdecimal() for part in parts)
