"""Albedo maps of fitted photos: what each photo showed of a head's texture."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lit_face.data.errors import DatasetNotFoundError
from lit_face.data.index import Record, Verify, packed_index
from lit_face.io.files import atomic_write

PATTERN = "*uv.npz"
HELD_OUT_FILE = "validation.txt"  # names of the maps to validate on, one a line
TRUTH_FOLDER = "truth"  # <name with / as ->.npz, in miniatures
_KEYS = ("map", "visible", "confidence")
_DTYPE = np.dtype([("size", "<i4"), ("share", "<f4")])
_UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, KeyError)


@dataclass(frozen=True, eq=False)
class TextureMap:
    """One file of a folder of maps; texel-centred, row 0 on top (v = 1).

    Attributes:
        color: (S,S,3) uint8 RGB albedo, sRGB values.
        visible: (S,S) bool.
        confidence: (S,S) uint8, 255 times the cosine between surface normal and view.
    """

    color: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    confidence: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Side S, texels."""
        return len(self.color)


def read_texture_map(path: str | Path) -> TextureMap:
    """Read a map.

    Raises:
        FileNotFoundError: no such file.
        ValueError: cut, without its keys, or of other shapes; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No texture map {path}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: cannot be read, it is cut or no .npz file; fit the photo again.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [key for key in _KEYS if key not in stored.files]
            if missing:
                raise ValueError(
                    f"{path}: no {', '.join(missing)} in it; a map has {', '.join(_KEYS)} "
                    "(reconstruct.py writes them with outputs=[uv])."
                )
            color, packed, confidence = (stored[key] for key in _KEYS)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read ({error}); fit the photo again.") from error
    size = color.shape[0]
    if color.shape != (size, size, 3) or color.dtype != np.uint8:
        raise ValueError(f"{path}: 'map' should be (S,S,3) uint8, found {color.shape}.")
    if packed.dtype != np.uint8 or packed.size != -(-size * size // 8):
        raise ValueError(
            f"{path}: 'visible' should be {size * size} packed bits, found {packed.size} bytes."
        )
    if confidence.shape != (size, size) or confidence.dtype != np.uint8:
        raise ValueError(
            f"{path}: 'confidence' should be ({size}, {size}) uint8, found {confidence.shape}."
        )
    visible = np.unpackbits(packed.ravel(), count=size * size).reshape(size, size).astype(bool)
    return TextureMap(color, visible, confidence)


def write_texture_map(path: str | Path, texture: TextureMap) -> None:
    """Write a map, under a temporary name first."""
    with atomic_write(path) as temporary:
        np.savez_compressed(
            temporary,
            map=texture.color,
            visible=np.packbits(texture.visible),
            confidence=texture.confidence,
        )


def find_texture_maps(root: str | Path) -> list[str]:
    """Return the names of a folder's maps: their paths below it without `uv.npz`, sorted.

    Raises:
        DatasetNotFoundError: no folder, or no maps in it.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DatasetNotFoundError(
            f"No folder of texture maps {root}. Fit photos with reconstruct.py method=flame_fit "
            "outputs=[uv] (docs/texture_space.md), or set data.root=null for the miniature."
        )
    names = [
        file.relative_to(root).as_posix().removesuffix(PATTERN[1:])
        for file in sorted(root.rglob(PATTERN))
        if not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    if not names:
        raise DatasetNotFoundError(
            f"No texture maps in {root}: expected {PATTERN} in folders of fits (reconstruct.py "
            "method=flame_fit outputs=[uv], docs/texture_space.md)."
        )
    return names


def texture_map_file(root: Path, name: str) -> Path:
    """Return the file of a map by its name."""
    return root / f"{name}{PATTERN[1:]}"


class TextureMapsDataset(Dataset[dict[str, Any]]):
    """Maps of a folder of fits, resampled to one size.

    A sample has `image` (3,S,S) uint8, `skin_mask` (1,S,S) uint8 (1 = visible) and `sample_id`;
    maps of the miniature that are not for training also `scan`, whose 'texture' is the true map
    (3,S,S) in [0,1].

    The split is that of the file `validation.txt`, where the folder has one, else by a hash of
    the name.

    Args:
        root: folder that holds the maps at any depth.
        split: 'train', 'val' or 'all'.
        size: side of the samples, texels; maps are shrunk by areas of visible texels.
        min_confidence: texels seen at a smaller cosine to their normal count as invisible.
        val_fraction: share held out where there is no validation.txt.
        max_rejected: accepted share of broken maps.
        verify: see `packed_index`.
        cache_folder: where the index goes.

    Raises:
        DatasetNotFoundError: no maps.
        ValueError: too many broken maps, or fewer than two.
    """

    def __init__(
        self,
        root: str | Path,
        split: Literal["train", "val", "all"] = "train",
        size: int = 256,
        min_confidence: float = 0.3,
        val_fraction: float = 0.1,
        max_rejected: float = 0.01,
        verify: Verify = "sample",
        cache_folder: str | Path | None = None,
    ) -> None:
        self.root, self.size, self.split = Path(root).expanduser(), size, split
        self.min_confidence = min_confidence
        names = find_texture_maps(self.root)
        stats = {}
        for name in names:
            stat = texture_map_file(self.root, name).stat()
            stats[name] = (stat.st_size, stat.st_mtime_ns)
        index = packed_index(
            "texture_maps", self.root, names, stats, _DTYPE, self._record,
            max_rejected=max_rejected, verify=verify, cache_folder=cache_folder,
        )  # fmt: skip
        self.sample_ids = index.names()
        if split != "all":
            held_out = _held_out(self.root, self.sample_ids, val_fraction)
            self.sample_ids = [
                name
                for name, is_held_out in zip(self.sample_ids, held_out, strict=True)
                if is_held_out == (split == "val")
            ]

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, item: int) -> dict[str, Any]:
        """Read one map."""
        name = self.sample_ids[item]
        texture = read_texture_map(texture_map_file(self.root, name))
        visible = texture.visible & (texture.confidence >= 255 * self.min_confidence)
        color, known = shrunk(texture.color, visible, self.size)
        sample: dict[str, Any] = {
            "image": torch.from_numpy(color).permute(2, 0, 1),
            "skin_mask": torch.from_numpy(known.astype(np.uint8))[None],
            "sample_id": name,
        }
        truth = self.root / TRUTH_FOLDER / f"{name.rstrip('/').replace('/', '-')}.npz"
        if self.split != "train" and truth.is_file():
            with np.load(truth, allow_pickle=False) as stored:
                whole = np.ones(stored["map"].shape[:2], bool)
                true, _ = shrunk(stored["map"], whole, self.size)
            sample["scan"] = {"texture": torch.from_numpy(true).permute(2, 0, 1) / 255}
        return sample

    def _record(self, name: str, decode: bool) -> Record:
        path = texture_map_file(self.root, name)
        texture = read_texture_map(path)
        if not texture.visible.any():
            raise ValueError(f"{path}: no texel is visible")
        return {"size": texture.size, "share": texture.visible.mean()}


def shrunk(
    color: NDArray[np.uint8], visible: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Resample a map (S,S,3) and what is visible of it (S,S); only visible texels count."""
    if color.shape[0] == size:
        return np.where(visible[..., None], color, 0).astype(np.uint8), visible
    how = cv2.INTER_AREA if size < color.shape[0] else cv2.INTER_LINEAR
    weight = visible.astype(np.float32)
    share = cv2.resize(weight, (size, size), interpolation=how)
    values = cv2.resize(color * weight[..., None], (size, size), interpolation=how)
    known = share > 0.5
    values = np.where(known[..., None], values / np.maximum(share, 1e-6)[..., None], 0)
    return np.round(values).clip(0, 255).astype(np.uint8), known


def _held_out(root: Path, names: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    """Say which maps validate: never none, never all.

    Raises:
        ValueError: fewer than two maps, a fraction outside (0, 1), or a list that names none.
    """
    if len(names) < 2:
        raise ValueError(f"{root}: {len(names)} usable texture maps cannot be split in two.")
    listed = root / HELD_OUT_FILE
    if listed.is_file():
        chosen = set(listed.read_text(encoding="utf-8").split("\n")) - {""}
        found = np.array([name.rstrip("/") in chosen for name in names])
        if not found.any() or found.all():
            raise ValueError(
                f"{listed} should name some of the maps, not all; it names {found.sum()} of "
                f"{len(names)}. A name is the map's folder below {root}."
            )
        return found
    if not 0 < fraction < 1:
        raise ValueError(f"data.val_fraction should lie between 0 and 1, found {fraction}.")
    place = np.array([int(hashlib.sha256(name.encode()).hexdigest()[:13], 16) for name in names])
    chosen_rows: NDArray[np.bool_] = place < fraction * 16**13
    chosen_rows[place.argmin()], chosen_rows[place.argmax()] = True, False
    return chosen_rows
